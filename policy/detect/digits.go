package detect

import (
	"unicode"
	"unicode/utf8"
)

// A kind is what a character is to a number that people have written down.
type kind uint8

const (
	other kind = iota
	digit
	space
	dash
)

// read tells of the character at data[i]: its kind, the value of a digit, and
// the number of its bytes. At the end it is other, of no bytes.
//
// A digit is any of Unicode's category Nd, such as ４ (fullwidth) or ٤
// (Arabic-Indic); the digits of a set follow each other from 0 to 9. A space is
// one that joins (U+00A0, U+2007, U+202F) or U+0020 or U+2009, a dash is
// one of U+2010 to U+2015, the minus sign U+2212 or the hyphens - and －.
func read(data []byte, i int) (k kind, value uint8, size int) {
	if i >= len(data) {
		return other, 0, 0
	}
	switch c := data[i]; {
	case '0' <= c && c <= '9':
		return digit, c - '0', 1
	case c == ' ':
		return space, 0, 1
	case c == '-':
		return dash, 0, 1
	case c < utf8.RuneSelf || !numeric[c]:
		return other, 0, 1
	}
	r, size := utf8.DecodeRune(data[i:])
	return runeKind(r), runeValue(r), size
}

func runeKind(r rune) kind {
	switch {
	case r == 0xa0, r == 0x2007, r == 0x2009, r == 0x202f:
		return space
	case 0x2010 <= r && r <= 0x2015, r == 0x2212, r == 0xff0d:
		return dash
	case unicode.Is(unicode.Nd, r):
		return digit
	}
	return other
}

// runeValue returns the value of r if it is a digit that is not ASCII.
func runeValue(r rune) uint8 {
	if r > 0xffff {
		for _, t := range unicode.Nd.R32 {
			if rune(t.Lo) <= r && r <= rune(t.Hi) {
				return uint8((r - rune(t.Lo)) % 10)
			}
		}
	}
	for _, t := range unicode.Nd.R16 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return uint8((r - rune(t.Lo)) % 10)
		}
	}
	return 0
}

// readBack tells of the character before data[i].
func readBack(data []byte, i int) (k kind, size int) {
	if i == 0 {
		return other, 0
	}
	if c := data[i-1]; c < utf8.RuneSelf {
		k, _, _ = read(data[:i], i-1)
		return k, 1
	}
	r, size := utf8.DecodeLastRune(data[:i])
	return runeKind(r), size
}

// written has the bytes of all characters that read takes for a digit or a
// separator, numeric all of them but the separators of one byte.
var written, numeric = func() (w, n *class) {
	// The separators are those of runeKind.
	chars := decimal + "\u00a0\u2007\u2009\u202f" + "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"
	for _, t := range unicode.Nd.R16 {
		for r := rune(t.Lo); r <= rune(t.Hi); r++ {
			chars += string(r)
		}
	}
	for _, t := range unicode.Nd.R32 {
		for r := rune(t.Lo); r <= rune(t.Hi); r++ {
			chars += string(r)
		}
	}
	n = classOf(chars)
	w = new(class)
	*w = *n
	w[' '], w['-'] = true, true
	return w, n
}()

// numbers finds numbers of at least least bytes, all of them written.
func numbers(least int) func([]byte, int, at) (int, int) {
	return func(data []byte, from int, at at) (int, int) {
		for i := seekNumber(data, from, least); i >= 0; i = seekNumber(data, i, least) {
			for i < len(data) && written[data[i]] {
				k, _, size := read(data, i)
				if k == digit {
					if end := at(data, i); end >= 0 {
						return i, end
					}
				}
				i += size
				for k == digit { // no number begins within a group
					if k, _, size = read(data, i); k == digit {
						i += size
					}
				}
			}
		}
		return -1, -1
	}
}

// seekNumber is seek for the class written. A number begins with a digit and has
// no two separators of one byte in a row, so where it has one, a digit is before
// it. That makes light of indented text.
func seekNumber(data []byte, from, least int) int {
	for i := from + least - 1; i < len(data); i += least {
		if !numeric[data[i]] && (!written[data[i]] || !numeric[data[i-1]]) {
			continue
		}
		start, end := i, i+1
		for start > from && written[data[start-1]] {
			start--
		}
		for end < len(data) && end < start+least && written[data[end]] {
			end++
		}
		if end-start >= least {
			return start
		}
		i = end
	}
	return -1
}

// numberStarts reports whether the digit at data[i] can be the first of a
// number: it is not within a word, a longer number or the decimals of one.
func numberStarts(data []byte, i int) bool {
	if k, _ := readBack(data, i); k == digit {
		return false
	}
	return !isLetter.follows(data, i) &&
		!(i >= 2 && data[i-1] == '.' && isDecimal[data[i-2]])
}

// numberEnds reports whether a number can end before data[i].
func numberEnds(data []byte, i int) bool {
	if k, _, _ := read(data, i); k == digit {
		return false
	}
	return !isLetter.precedes(data, i) &&
		!(isDecimal.precedes(data, i+1) && data[i] == '.')
}

// hyphenated reports whether data[start:end] is joined by a hyphen to a letter
// or digit, as the parts of a UUID are.
func hyphenated(data []byte, start, end int) bool {
	return start >= 2 && data[start-1] == '-' && isWord[data[start-2]] ||
		end+1 < len(data) && data[end] == '-' && isWord[data[end+1]]
}
