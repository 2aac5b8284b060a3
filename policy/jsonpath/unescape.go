package jsonpath

import (
	"bytes"
	"sort"
	"unicode/utf16"
	"unicode/utf8"
)

// Escaped reports whether doc has a backslash at all. If not, it is its own text.
func Escaped(doc []byte) bool { return bytes.IndexByte(doc, '\\') >= 0 }

// An Unescaped is the text of a document: the escapes in its strings decoded,
// all else as it was. It is for those who look for content that may be anywhere
// in a document. It is not JSON: a decoded \" stands among the real ones.
//
// Escapes are decoded once. JSON in a string of JSON loses its outer escapes.
//
// The zero value is ready for Reset. One that is reused allocates only for a
// text larger than all before.
type Unescaped struct {
	doc   []byte
	text  []byte // unless there are no marks
	marks []mark
}

// A mark is an escape: where what it stands for begins in the text, and where it
// begins in the document. The first escape has one, and then the first that is
// at least markDistance further on in the text. Those between are found by
// decoding again from the mark.
type mark struct{ text, doc int }

// markDistance keeps the marks to an eighth of the text.
const markDistance = 128

// Reset makes u the text of doc, and refers to doc until the next Reset; nil
// lets go of it. In a document that is not JSON, escapes count wherever they
// are, and a backslash that begins none stays.
func (u *Unescaped) Reset(doc []byte) {
	*u = Unescaped{doc, u.text[:0], u.marks[:0]}
	for at, unmarked := 0, 0; ; {
		before, r, n := cutEscape(doc[at:])
		if n == 0 {
			if len(u.marks) > 0 {
				u.text = append(u.text, before...)
			}
			return
		}
		u.text = append(u.text, before...)
		at += len(before)
		if t := len(u.text); t >= unmarked {
			u.marks = append(u.marks, mark{t, at})
			unmarked = t + markDistance
		}
		u.text = utf8.AppendRune(u.text, r)
		at += n
	}
}

// Text returns the text, which is valid until the next Reset. It is the document
// itself if that has no escape.
func (u *Unescaped) Text() []byte {
	if len(u.marks) == 0 {
		return u.doc
	}
	return u.text
}

// Span returns where in the document text[start:end] comes from. An escape is in
// it as a whole if any byte that it stands for is. An empty span remains empty
// and is in front of what it was in front of, be it an escape.
func (u *Unescaped) Span(start, end int) (docStart, docEnd int) {
	if start < len(u.Text()) {
		docStart, docEnd = u.origin(start)
	} else {
		docStart, docEnd = len(u.doc), len(u.doc)
	}
	if start == end {
		return docStart, docStart
	}
	if end > start+1 {
		_, docEnd = u.origin(end - 1)
	}
	return docStart, docEnd
}

// origin returns where in the document the byte at p of the text comes from.
func (u *Unescaped) origin(p int) (start, end int) {
	after := sort.Search(len(u.marks), func(i int) bool { return u.marks[i].text > p })
	if after == 0 {
		return p, p + 1
	}
	m := u.marks[after-1]
	text, doc := m.text, m.doc
	for limit := text + markDistance; text < limit; {
		i := bytes.IndexByte(u.doc[doc:min(doc+limit-text, len(u.doc))], '\\')
		if i < 0 || p < text+i {
			break
		}
		text, doc = text+i, doc+i
		r, n := decodeEscape(u.doc[doc:])
		if p < text+utf8.RuneLen(r) {
			return doc, doc + n
		}
		text, doc = text+utf8.RuneLen(r), doc+n
	}
	return doc + p - text, doc + p - text + 1
}

// appendUnescaped appends b with its escapes decoded.
func appendUnescaped(dst, b []byte) []byte {
	for {
		before, r, n := cutEscape(b)
		dst = append(dst, before...)
		if n == 0 {
			return dst
		}
		dst = utf8.AppendRune(dst, r)
		b = b[len(before)+n:]
	}
}

// cutEscape returns what is before the first escape of b, what that stands for
// and how long it is: 0 if there is none.
func cutEscape(b []byte) (before []byte, r rune, n int) {
	i := bytes.IndexByte(b, '\\')
	if i < 0 {
		return b, 0, 0
	}
	r, n = decodeEscape(b[i:])
	return b[:i], r, n
}

// decodeEscape returns what the escape at the start of b stands for, and how long
// it is. A backslash that begins none stands for itself.
//
// "To escape an extended character that is not in the Basic Multilingual Plane,
// the character is represented as a 12-character sequence, encoding the UTF-16
// surrogate pair" (RFC 8259, Section 7). Of half a pair nothing is said (Section
// 8.2 calls it unpredictable); here it is U+FFFD, as for encoding/json.
func decodeEscape(b []byte) (rune, int) {
	switch escapeLen(b) {
	case 2:
		return short[b[1]], 2
	case 6:
		r := hex4(b[2:])
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if low := b[6:]; escapeLen(low) == 6 {
			if r = utf16.DecodeRune(r, hex4(low[2:])); r != utf8.RuneError {
				return r, 12
			}
		}
		return utf8.RuneError, 6
	}
	return '\\', 1
}

// short are the escapes of two characters.
var short = [256]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// hex4 returns what four hexadecimal digits stand for.
func hex4(b []byte) (r rune) {
	for _, c := range b[:4] {
		if r <<= 4; isDigit(c) {
			r |= rune(c - '0')
		} else {
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r
}
