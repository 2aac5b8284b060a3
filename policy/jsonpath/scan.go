package jsonpath

// invalid is the offset that stands for a document that is not JSON.
const invalid = -1

// Valid reports whether doc is JSON, as the package documentation defines it.
// It goes over doc once, and allocates only if doc is nested more than 64 deep.
func Valid(doc []byte) bool { return ends(doc, skip(doc, begin(doc))) }

// begin returns where the value of doc is.
func begin(doc []byte) int {
	i := 0
	if len(doc) >= 3 && string(doc[:3]) == "\ufeff" {
		i = 3
	}
	_, i = next(doc, i)
	return i
}

// ends reports whether only whitespace follows a value that ended at i.
func ends(doc []byte, i int) bool {
	if i == invalid {
		return false
	}
	_, i = next(doc, i)
	return i == len(doc)
}

// next returns the first byte at or after i that is not whitespace, and where
// it is: 0, which is no part of JSON, at the end of doc.
//
//	ws = *( %x20 / %x09 / %x0A / %x0D )  (RFC 8259, Section 2)
func next(doc []byte, i int) (byte, int) {
	for ; i < len(doc); i++ {
		if c := doc[i]; c > ' ' || uint64(1)<<c&(1<<' '|1<<'\t'|1<<'\n'|1<<'\r') == 0 {
			return c, i
		}
	}
	return 0, i
}

// skip returns the offset after the value that begins at i, or invalid.
func skip(doc []byte, i int) int {
	if i < len(doc) && (doc[i] == '{' || doc[i] == '[') {
		return skipNested(doc, i)
	}
	return skipScalar(doc, i)
}

// skipScalar is skip for what is neither an object nor an array.
func skipScalar(doc []byte, i int) int {
	if i >= len(doc) {
		return invalid
	}
	switch doc[i] {
	case '"':
		return skipString(doc, i+1)
	case 't':
		return skipLiteral(doc, i, "true")
	case 'f':
		return skipLiteral(doc, i, "false")
	case 'n':
		return skipLiteral(doc, i, "null")
	}
	return skipNumber(doc, i)
}

// skipNested is skip for objects and arrays. It does not recurse: of each level
// it only keeps in mind which of the two it is.
func skipNested(doc []byte, i int) int {
	var open nesting
	for {
		// A member or an element begins at i, or first of all the whole value.
		if open.closing() == '}' {
			if _, i = skipName(doc, i); i == invalid {
				return invalid
			}
		}
		var c byte
		if i < len(doc) && (doc[i] == '{' || doc[i] == '[') {
			open.push(doc[i])
			if c, i = next(doc, i+1); c != open.closing() {
				continue
			}
		} else {
			if i = skipScalar(doc, i); i == invalid {
				return invalid
			}
			c, i = next(doc, i)
		}
		for c == open.closing() {
			if open.pop(); open.depth == 0 {
				return i + 1
			}
			c, i = next(doc, i+1)
		}
		if c != ',' {
			return invalid
		}
		_, i = next(doc, i+1)
	}
}

// skipName returns the offset after the name of the member that begins at i,
// and where its value begins, or invalid.
//
//	member = string name-separator value  (RFC 8259, Section 4)
func skipName(doc []byte, i int) (end, value int) {
	if i >= len(doc) || doc[i] != '"' {
		return invalid, invalid
	}
	if end = skipString(doc, i+1); end == invalid {
		return invalid, invalid
	}
	c, i := next(doc, end)
	if c != ':' {
		return invalid, invalid
	}
	_, value = next(doc, i+1)
	return end, value
}

// A nesting is a stack of open objects and arrays, one bit each, which needs no
// memory of its own before the 65th.
type nesting struct {
	depth int
	inner uint64   // the innermost ones, at most 64; bit 0 is the last opened
	outer []uint64 // 64 each
}

// push opens '{' or '['. Bit 5 tells them apart, and '}' from ']'.
func (n *nesting) push(opening byte) {
	if n.depth&63 == 0 && n.depth > 0 {
		n.outer = append(n.outer, n.inner)
	}
	n.inner = n.inner<<1 | uint64(opening>>5&1)
	n.depth++
}

// closing returns the byte that closes the last opened; not '}' if none is open.
func (n *nesting) closing() byte { return ']' | byte(n.inner&1)<<5 }

func (n *nesting) pop() {
	n.inner >>= 1
	n.depth--
	if n.depth&63 == 0 && n.depth > 0 {
		last := len(n.outer) - 1
		n.inner, n.outer = n.outer[last], n.outer[:last]
	}
}
