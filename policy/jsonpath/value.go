package jsonpath

import (
	"bytes"
	"strconv"
)

// A Kind is the type of a value (RFC 8259, Section 3).
type Kind uint8

const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"null", "bool", "number", "string", "array", "object"}

func (k Kind) String() string { return kindNames[k] }

// kindOf returns the kind of the value that begins at i, if one does.
func kindOf(doc []byte, i int) Kind {
	if i >= len(doc) {
		return Null
	}
	switch doc[i] {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 't', 'f':
		return Bool
	case 'n':
		return Null
	}
	return Number
}

// A Value is one value of a document, and valid as long as that is unchanged.
// One to compare with may also be made by hand, if Raw is JSON of that Kind.
type Value struct {
	Kind  Kind
	Raw   []byte // as it stands in the document, a string with its quotation marks
	Start int    // where in the document that is
}

// Text returns a string unescaped, and anything else as it stands. The result
// is part of the document unless the string has an escape: then it is in
// scratch[:0], grown if need be. Half of a surrogate pair becomes U+FFFD, bytes
// that are not UTF-8 stay.
func (v Value) Text(scratch []byte) []byte {
	if v.Kind != String {
		return v.Raw
	}
	text := v.Raw[1 : len(v.Raw)-1]
	if !Escaped(text) {
		return text
	}
	return appendUnescaped(scratch[:0], text)
}

// Number returns the float64 nearest to a number, and false for anything else.
// What is beyond the range of float64 is an infinity, as it is in JavaScript,
// so that it still compares as greater or less.
func (v Value) Number() (float64, bool) {
	if v.Kind != Number {
		return 0, false
	}
	f, _ := strconv.ParseFloat(string(v.Raw), 64) // the grammar leaves only the range as an error
	return f, true
}

// Equal reports whether two values are the same null, bool, number or string.
// Numbers compare as the package documentation says. Objects and arrays equal
// nothing, not even themselves.
func (v Value) Equal(w Value) bool {
	if v.Kind != w.Kind {
		return false
	}
	switch v.Kind {
	case Null:
		return true
	case Bool:
		return bytes.Equal(v.Raw, w.Raw)
	case Number:
		f, _ := v.Number()
		g, _ := w.Number()
		return f == g && (f == 0 || !v.plainInteger() || !w.plainInteger() || bytes.Equal(v.Raw, w.Raw))
	case String:
		var a, b [128]byte
		return bytes.Equal(v.Text(a[:0]), w.Text(b[:0]))
	}
	return false
}

// plainInteger reports whether a number has neither fraction nor exponent. Then
// no other plain integer is the same, but for 0 and -0.
func (v Value) plainInteger() bool { return !bytes.ContainsAny(v.Raw, ".eE") }
