package jsonpath

// A Set is many paths compiled into one trie, so that a document is gone over
// once for all of them. It is immutable.
type Set struct {
	root node
}

// A node is what one or several paths have in common up to some step.
type node struct {
	paths   []int // those that end here, ascending
	members map[string]*node
	indexes map[int]*node // of members that are also elements
	any     *node

	lengths uint64 // of the names of members: bit 63 stands for all from there on
	longest int    // of the names of members, in bytes
}

// NewSet compiles paths. The path paths[i] is reported as i; the same one may
// occur several times.
func NewSet(paths []Path) *Set {
	s := new(Set)
	for i, p := range paths {
		n := &s.root
		for _, step := range p.steps {
			n = n.child(step)
		}
		n.paths = append(n.paths, i)
	}
	return s
}

// child returns the node that the step leads to and makes it if need be.
func (n *node) child(s step) *node {
	if s.any {
		if n.any == nil {
			n.any = new(node)
		}
		return n.any
	}
	if c := n.members[s.name]; c != nil {
		return c
	}
	if n.members == nil {
		n.members = make(map[string]*node)
	}
	c := new(node)
	n.members[s.name] = c
	n.lengths |= lengthBit(len(s.name))
	n.longest = max(n.longest, len(s.name))
	if s.index >= 0 {
		if n.indexes == nil {
			n.indexes = make(map[int]*node)
		}
		n.indexes[s.index] = c
	}
	return c
}

func lengthBit(n int) uint64 { return 1 << min(n, 63) }

// member returns the node for the member of an object, or nil. Most names of a
// document are not those of a path, and differ in length already.
func (n *node) member(name []byte) *node {
	if n.lengths&lengthBit(len(name)) == 0 {
		return nil
	}
	return n.members[string(name)]
}

// hasElements reports whether n leads to elements of an array.
func (n *node) hasElements() bool { return n.any != nil || n.indexes != nil }
