package jsonpath

// stopped is the offset that stands for a walk that visit has ended.
const stopped = -2

// Walk goes over doc once and calls visit for each value that is at one of the
// paths, with the index of the path. It is depth first, in the order of the
// document, and a value comes after those inside of it, because only then is it
// known as a whole. A value at several paths is visited once for each, in no
// particular order. One path finds several values by "#", and by members that
// share a name.
//
// Walk returns false if doc is not JSON, as the package documentation defines
// it. That may turn out only at the end, so whoever cares about validity must
// then discard what was visited. If visit returns false, the walk ends at once
// and Walk returns true: all up to the end of that value was valid, and nothing
// is known about the rest.
//
// v refers to doc. Walk allocates only for what is rare: more than 64 levels of
// nesting; a name of more than 256 bytes with escapes, if the paths have one of
// more than 42; a value that more than four different prefixes of paths lead to.
func (s *Set) Walk(doc []byte, visit func(path int, v Value) bool) bool {
	w := walker{doc, visit}
	end := w.value(begin(doc), []*node{&s.root})
	return end == stopped || ends(doc, end)
}

type walker struct {
	doc   []byte
	visit func(int, Value) bool
}

// value is skip for a value that is at the nodes at, of which there is at least
// one. There are several where both "#" and a number lead.
//
// It calls itself once for each step of a path. So the recursion is as deep as
// the longest path, whatever the document.
func (w *walker) value(i int, at []*node) int {
	start, kind := i, kindOf(w.doc, i)
	var deeper bool
	for _, n := range at {
		deeper = deeper || kind == Object && n.members != nil || kind == Array && n.hasElements()
	}
	switch {
	case !deeper:
		i = skip(w.doc, i)
	case kind == Object:
		i = w.object(i, at)
	default:
		i = w.array(i, at)
	}
	if i < 0 {
		return i
	}
	for _, n := range at {
		for _, path := range n.paths {
			if !w.visit(path, Value{kind, w.doc[start:i:i], start}) {
				return stopped
			}
		}
	}
	return i
}

// object is value for an object.
//
//	object = begin-object [ member *( value-separator member ) ] end-object
func (w *walker) object(i int, at []*node) int {
	var room [4]*node
	var text [256]byte
	c, i := next(w.doc, i+1)
	if c == '}' {
		return i + 1
	}
	for {
		end, value := skipName(w.doc, i)
		if value == invalid {
			return invalid
		}
		below := members(room[:0], at, w.doc[i+1:end-1], text[:0])
		if i = w.part(value, below); i < 0 {
			return i
		}
		if c, i = next(w.doc, i); c == '}' {
			return i + 1
		}
		if c != ',' {
			return invalid
		}
		_, i = next(w.doc, i+1)
	}
}

// array is value for an array.
//
//	array = begin-array [ value *( value-separator value ) ] end-array
func (w *walker) array(i int, at []*node) int {
	var room [4]*node
	c, i := next(w.doc, i+1)
	if c == ']' {
		return i + 1
	}
	for index := 0; ; index++ {
		if i = w.part(i, elements(room[:0], at, index)); i < 0 {
			return i
		}
		if c, i = next(w.doc, i); c == ']' {
			return i + 1
		}
		if c != ',' {
			return invalid
		}
		_, i = next(w.doc, i+1)
	}
}

// part is value for what may be at no node at all.
func (w *walker) part(i int, at []*node) int {
	if len(at) == 0 {
		return skip(w.doc, i)
	}
	return w.value(i, at)
}

// members appends to below the nodes of the member of an object that is at the
// nodes at. name is as it stands between the quotation marks; text is room.
func members(below, at []*node, name, text []byte) []*node {
	escaped := Escaped(name)
	for _, n := range at {
		// An escape makes at least one byte of six. Beyond that, a name is too
		// long with its escapes or without, and need not be decoded.
		if escaped && len(name) <= 6*n.longest {
			name, escaped = appendUnescaped(text, name), false
		}
		if c := n.member(name); c != nil {
			below = append(below, c)
		}
	}
	return below
}

// elements is members for the element of an array.
func elements(below, at []*node, index int) []*node {
	for _, n := range at {
		if n.any != nil {
			below = append(below, n.any)
		}
		if c := n.indexes[index]; c != nil {
			below = append(below, c)
		}
	}
	return below
}
