package detect

import (
	"bytes"
	"math"
	"unicode/utf8"
)

// A class is a set of bytes.
type class [256]bool

const (
	decimal  = "0123456789"
	upper    = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower    = "abcdefghijklmnopqrstuvwxyz"
	letters  = upper + lower
	alphabet = letters + decimal
)

func classOf(chars string) *class {
	c := new(class)
	for i := range len(chars) {
		c[chars[i]] = true
	}
	return c
}

var (
	isDecimal = classOf(decimal)
	isLetter  = classOf(letters)
	isAlnum   = classOf(alphabet)
	isWord    = classOf(alphabet + "_")
)

// seek returns where the first stretch of at least least bytes of the class
// begins; what is before from does not count. It returns -1 if there is none.
func (c *class) seek(data []byte, from, least int) int {
	// Every stretch that is long enough has a byte at one of these positions.
	for i := from + least - 1; i < len(data); i += least {
		if !c[data[i]] {
			continue
		}
		start, end := i, i+1
		for start > from && c[data[start-1]] {
			start--
		}
		for end < len(data) && end < start+least && c[data[end]] {
			end++
		}
		if end-start >= least {
			return start
		}
		i = end
	}
	return -1
}

// end returns where the stretch of the class at data[i] ends, at most limit
// bytes further.
func (c *class) end(data []byte, i, limit int) int {
	limit = min(limit, len(data)-i)
	data = data[i : i+limit]
	for n := range data {
		if !c[data[n]] {
			return i + n
		}
	}
	return i + limit
}

// follows reports whether the byte before data[i] is of the class. The letter of
// an escape, such as that of \n, is none.
func (c *class) follows(data []byte, i int) bool {
	if i == 0 || !c[data[i-1]] {
		return false
	}
	if i >= 2 && data[i-2] == '\\' {
		switch data[i-1] {
		case 'n', 'r', 't':
			return false
		}
	}
	return true
}

// precedes reports whether data[i] is of the class.
func (c *class) precedes(data []byte, i int) bool { return i < len(data) && c[data[i]] }

// fixed returns where a value of n bytes of the class, and no more than n, ends
// that begins at data[i]; or -1.
func (c *class) fixed(data []byte, i, n int) int {
	if end := c.end(data, i, n+1); end == i+n {
		return end
	}
	return -1
}

// prefixed reports whether text is at data[i].
func prefixed(data []byte, i int, text string) bool {
	return len(data)-i >= len(text) && string(data[i:i+len(text)]) == text
}

// context is how many bytes before a value are searched for a word that tells
// what it is: enough for a JSON key and some punctuation.
const context = 48

// near reports whether one of the words, which are in lower case, is shortly
// before data[i], in any case.
func near(data []byte, i int, words ...string) bool {
	var buf [context]byte
	before := buf[:copy(buf[:], data[max(0, i-context):i])]
	for k, c := range before {
		if 'A' <= c && c <= 'Z' {
			before[k] = c | 0x20
		}
	}
	for _, w := range words {
		if bytes.Contains(before, []byte(w)) {
			return true
		}
	}
	return false
}

// distinct returns how many different bytes there are. It tells a key from the
// XXXXXXXX of a manual.
func distinct(b []byte) int {
	var seen class
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n
}

// entropy returns the Shannon entropy of the bytes, in bits per byte. They are
// ASCII, and no more than longestToken.
func entropy(b []byte) float64 {
	var count [utf8.RuneSelf]uint16
	sum := 0.0 // of n log n over all counts, as they grow
	for _, c := range b {
		n := count[c]
		count[c] = n + 1
		sum += nLogN[n+1] - nLogN[n]
	}
	return math.Log2(float64(len(b))) - sum/float64(len(b))
}

var nLogN = func() (table [longestToken + 1]float64) {
	for n := 2; n < len(table); n++ {
		table[n] = float64(n) * math.Log2(float64(n))
	}
	return table
}()

// escaped reports whether data[i] is the letter of an escape such as \n, and so
// cannot be the first of a word.
func escaped(data []byte, i int) bool {
	return i > 0 && data[i-1] == '\\' && (data[i] == 'n' || data[i] == 'r' || data[i] == 't')
}
