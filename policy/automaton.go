package policy

// A needle is a string that the automaton looks for.
type needle struct {
	literal
	slots []int // set when it is found
	rules []int // set when it is found
}

// needles are different strings, whoever asks for them.
type needles struct {
	list  []needle
	index map[literal]int
}

func (n *needles) add(l literal, slot, rule int) {
	i, known := n.index[l]
	if !known {
		i = len(n.list)
		n.list = append(n.list, needle{literal: l})
		n.index[l] = i
	}
	n.list[i].slots = append(n.list[i].slots, slot)
	n.list[i].rules = append(n.list[i].rules, rule)
}

// key is what the automaton compares: the beginning, without case.
func (n *needle) key() string { return lower(n.text[:min(len(n.text), maxLength)]) }

// An automaton finds all needles in one pass over a message (Aho and Corasick,
// "Efficient string matching", 1975). Its states are rows of a dense table with
// one column for each class of bytes: those that no needle has are one class,
// and both cases of an ASCII letter are one.
type automaton struct {
	needles []needle
	longest int // bytes of the longest key
	class   [256]uint8
	stride  uint32   // number of classes
	next    []uint32 // [state + class] is the next state; a state is the offset of its row
	final   uint32   // the first state at which a needle ends; all above are such
	found   [][]int  // [(state - final) / stride] are the needles that end there
}

func newAutomaton(needles []needle) *automaton {
	a := &automaton{needles: needles, stride: 1}
	for i := range needles {
		for _, c := range []byte(needles[i].key()) {
			if a.class[c] == 0 {
				a.class[c] = uint8(a.stride)
				a.stride++
			}
		}
	}
	for c := range a.class {
		a.class[c] = a.class[lowerByte(byte(c))]
	}
	next, found := a.trie()
	a.number(next, found, a.link(next, found))
	return a
}

// trie returns the tree of all keys: state 0 is its root, and 0 in next stands
// for "no child".
func (a *automaton) trie() (next [][]uint32, found [][]int) {
	grow := func() {
		next = append(next, make([]uint32, a.stride))
		found = append(found, nil)
	}
	grow()
	for i := range a.needles {
		key := a.needles[i].key()
		a.longest = max(a.longest, len(key))
		s := uint32(0)
		for _, c := range []byte(key) {
			k := a.class[c]
			if next[s][k] == 0 {
				next[s][k] = uint32(len(next))
				grow()
			}
			s = next[s][k]
		}
		found[s] = append(found[s], i)
	}
	return next, found
}

// link fills the gaps of the tree. Where a state has no child, the next state
// is that of its longest proper suffix which is a state too. Breadth first, so
// that a suffix, which is shorter, is complete before it is needed. It returns the
// states in this order.
func (a *automaton) link(next [][]uint32, found [][]int) (order []uint32) {
	suffix := make([]uint32, len(next))
	order = append(order, 0)
	for i := 0; i < len(order); i++ {
		s := order[i]
		for k, child := range next[s] {
			other := uint32(0)
			if s != 0 {
				other = next[suffix[s]][k]
			}
			if child == 0 {
				next[s][k] = other
				continue
			}
			suffix[child] = other
			found[child] = append(found[child], found[other]...)
			order = append(order, child)
		}
	}
	return order
}

// number lays out the table, with the states at which needles end last; of the
// others those that messages are in most of the time, near the root, are together.
func (a *automaton) number(next [][]uint32, found [][]int, order []uint32) {
	offset := make([]uint32, len(next))
	rows := uint32(0)
	for _, ends := range []bool{false, true} {
		if ends {
			a.final = rows * a.stride
		}
		for _, s := range order {
			if (found[s] != nil) == ends {
				offset[s] = rows * a.stride
				rows++
			}
		}
	}
	a.next = make([]uint32, rows*a.stride)
	for _, s := range order {
		for k, t := range next[s] {
			a.next[offset[s]+uint32(k)] = offset[t]
		}
		if found[s] != nil {
			a.found = append(a.found, found[s])
		}
	}
}

// scan reports every needle in data to m.
//
// A step waits for the table entry that the step before loaded, so one pass
// leaves most of a processor idle. Four passes over overlapping quarters take
// turns instead. A needle ends in the quarter that has all of it; one in an
// overlap is found twice, which does not matter.
func (a *automaton) scan(data []byte, m *subject) {
	overlap := a.longest - 1
	step := (len(data) - overlap + 3) / 4
	if step < 16 {
		s := uint32(0)
		for i, c := range data {
			if s = a.next[s+uint32(a.class[c])]; s >= a.final {
				a.report(s, data, i+1, m)
			}
		}
		return
	}
	size := step + overlap
	last := len(data) - size
	d0 := data[:size]
	d1 := data[step:][:size]
	d2 := data[2*step:][:size]
	d3 := data[last:][:size]
	var s0, s1, s2, s3 uint32
	next, final := a.next, a.final
	for i := range d0 {
		s0 = next[s0+uint32(a.class[d0[i]])]
		s1 = next[s1+uint32(a.class[d1[i]])]
		s2 = next[s2+uint32(a.class[d2[i]])]
		s3 = next[s3+uint32(a.class[d3[i]])]
		if s0 < final && s1 < final && s2 < final && s3 < final {
			continue
		}
		if s0 >= final {
			a.report(s0, data, i+1, m)
		}
		if s1 >= final {
			a.report(s1, data, step+i+1, m)
		}
		if s2 >= final {
			a.report(s2, data, 2*step+i+1, m)
		}
		if s3 >= final {
			a.report(s3, data, last+i+1, m)
		}
	}
}

// report marks the needles that end at data[:end] in state s. The automaton
// ignores case and knows only the beginning of a long needle; the rest is
// compared here.
func (a *automaton) report(s uint32, data []byte, end int, m *subject) {
	for _, i := range a.found[(s-a.final)/a.stride] {
		if m.needles.has(i) {
			continue
		}
		n := &a.needles[i]
		if !n.fold || len(n.text) > maxLength {
			rest := data[end-min(len(n.text), maxLength):]
			if len(rest) < len(n.text) || !n.is(rest[:len(n.text)]) {
				continue
			}
		}
		m.needles.set(i)
		for _, slot := range n.slots {
			m.found.set(slot)
		}
		for _, rule := range n.rules {
			m.rules.set(rule)
		}
	}
}
