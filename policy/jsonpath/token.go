package jsonpath

import (
	"encoding/binary"
	"math/bits"
)

const (
	ones  = 0x0101010101010101 // 1 in each byte
	highs = 0x80 * ones        // the high bit of each byte
)

// skipString returns the offset after the string whose first character is at i.
func skipString(doc []byte, i int) int {
	for {
		if i = plain(doc, i); i >= len(doc) {
			return invalid
		}
		switch doc[i] {
		case '"':
			return i + 1
		case '\\':
			n := escapeLen(doc[i:])
			if n == 0 {
				return invalid
			}
			i += n
		default:
			// "the characters that MUST be escaped: quotation mark, reverse
			// solidus, and the control characters" (RFC 8259, Section 7)
			return invalid
		}
	}
}

// plain returns where the first quotation mark, backslash or control character
// is at or after i, or len(doc).
func plain(doc []byte, i int) int {
	for ; i+8 <= len(doc); i += 8 {
		// x-n has the high bit set where x, without it, is less than n; what a
		// borrow sets wrongly is above one that is right. To invert bit 1 makes
		// the quotation mark, 0x22, the neighbour of the control characters.
		w := binary.LittleEndian.Uint64(doc[i:])
		low, slash := w^2*ones, w^'\\'*ones
		if found := ((low-0x21*ones)&^low | (slash-ones)&^slash) & highs; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(doc) && doc[i] >= ' ' && doc[i] != '"' && doc[i] != '\\' {
		i++
	}
	return i
}

// escapeLen returns the length of the escape that b begins with, one half of a
// surrogate pair by itself, or 0 if that is none of RFC 8259, Section 7.
func escapeLen(b []byte) int {
	if len(b) < 2 || b[0] != '\\' {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) >= 6 && isHex(b[2]) && isHex(b[3]) && isHex(b[4]) && isHex(b[5]) {
			return 6
		}
	}
	return 0
}

func isDigit(c byte) bool { return c-'0' <= 9 }

func isHex(c byte) bool { return isDigit(c) || c|0x20-'a' <= 5 }

// skipLiteral returns the offset after the literal at i.
func skipLiteral(doc []byte, i int, literal string) int {
	if end := i + len(literal); end <= len(doc) && string(doc[i:end]) == literal {
		return end
	}
	return invalid
}

// skipNumber returns the offset after the number at i.
//
//	number = [ minus ] int [ frac ] [ exp ]
//
// "Leading zeros are not allowed" (RFC 8259, Section 6): what follows one does
// not belong to the number.
func skipNumber(doc []byte, i int) int {
	if i < len(doc) && doc[i] == '-' {
		i++
	}
	if i < len(doc) && doc[i] == '0' {
		i++
	} else if i = skipDigits(doc, i); i == invalid {
		return invalid
	}
	if i < len(doc) && doc[i] == '.' {
		if i = skipDigits(doc, i+1); i == invalid {
			return invalid
		}
	}
	if i < len(doc) && doc[i]|0x20 == 'e' {
		i++
		if i < len(doc) && (doc[i] == '+' || doc[i] == '-') {
			i++
		}
		return skipDigits(doc, i)
	}
	return i
}

// skipDigits returns the offset after the digits at i, of which there must be one.
func skipDigits(doc []byte, i int) int {
	start := i
	for i < len(doc) && isDigit(doc[i]) {
		i++
	}
	if i == start {
		return invalid
	}
	return i
}
