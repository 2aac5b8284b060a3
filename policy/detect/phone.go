package detect

import (
	"strconv"
	"strings"
)

// phone finds international telephone numbers (ITU-T E.164): a plus sign, a
// country code that is assigned, and 7 to 15 digits in all. Numbers of the North
// American plan (country code 1) have eleven, and neither area nor exchange
// begins with 0 or 1.
//
// Between digits may be a space, a dash, a point or a slash, and parentheses
// beside them: +44 (0)20 7946 0958. Any digits of Unicode count, and ＋ (U+FF0B).
//
// Not one: national numbers, which look like any other; what has a letter, a
// digit or another plus sign before the plus, as in sums, C++ and the offset of
// a time; a decimal, which is a number whose one separator is a point. Codes
// are those of "List of ITU-T Recommendation E.164 assigned country codes".
var phone = &Detector{
	Name:     "phone",
	Summary:  "international telephone numbers: +, assigned country code, 7 to 15 digits",
	literals: []string{"+", "＋"},
	at:       phoneAt,
	find:     starting("+\uff0b"[:2]),
}

const longestPhone = 15 // ITU-T E.164: country code and all

const countryCodes = `
1 7 20 27 30-34 36 39-41 43-49 51-58 60-66 81 82 84 86 90-95 98
211-213 216 218 220-258 260-269 290 291 297-299 350-359 370-383 385-387 389
420 421 423 500-509 590-599 670 672-683 685-692 800 808 850 852 853 855 856
870 878 880-883 886 888 960-968 970-977 979 992-996 998`

// assigned has the country codes. None is the beginning of another.
var assigned = func() (codes [1000]bool) {
	for _, f := range strings.Fields(countryCodes) {
		from, to, ok := strings.Cut(f, "-")
		if !ok {
			to = from
		}
		first, _ := strconv.Atoi(from) // the list above is good
		last, _ := strconv.Atoi(to)
		for ; first <= last; first++ {
			codes[first] = true
		}
	}
	return codes
}()

func phoneAt(data []byte, i int) int {
	pos := i + 1
	if prefixed(data, i, "\uff0b") {
		pos = i + len("\uff0b")
	} else if data[i] != '+' {
		return -1
	}
	if isWord.follows(data, i) || i > 0 && data[i-1] == '+' {
		return -1
	}
	var (
		digits   [longestPhone]uint8
		n        int
		breaks   int
		decimals bool // the first separator is a point
		end      = -1
	)
	for {
		first := n
		for {
			k, value, size := read(data, pos)
			if k != digit {
				break
			}
			if n == longestPhone {
				return end
			}
			digits[n] = value
			n++
			pos += size
		}
		if n == first || breaks == 0 && !hasCountry(digits[:n]) && n >= 3 {
			return end
		}
		if isPhone(digits[:n]) && numberEnds(data, pos) && !isWord.precedes(data, pos) &&
			!(breaks == 1 && decimals) {
			end = pos
		}
		size := phoneBreak(data, pos)
		if size == 0 {
			return end
		}
		if breaks++; breaks == 1 {
			decimals = size == 1 && data[pos] == '.'
		}
		pos += size
	}
}

// phoneBreak returns how many bytes at data[i] separate two groups of digits:
// one character, or two if a parenthesis is one of them.
func phoneBreak(data []byte, i int) int {
	size := 0
	for n, parenthesis := 0, false; n < 2; n++ {
		k, _, s := read(data, i+size)
		if k == digit || s == 0 {
			break
		}
		c := data[i+size]
		isParenthesis := c == '(' || c == ')'
		if k == other && !isParenthesis && c != '.' && c != '/' || n == 1 && !parenthesis && !isParenthesis {
			return 0
		}
		parenthesis = isParenthesis
		size += s
	}
	return size
}

// hasCountry reports whether the digits begin with an assigned country code.
func hasCountry(digits []uint8) bool {
	if digits[0] == 0 {
		return false
	}
	code := 0
	for _, d := range digits[:min(len(digits), 3)] {
		if code = 10*code + int(d); assigned[code] {
			return true
		}
	}
	return false
}

func isPhone(digits []uint8) bool {
	if len(digits) < 7 || !hasCountry(digits) {
		return false
	}
	return digits[0] != 1 || len(digits) == 11 && digits[1] >= 2 && digits[4] >= 2
}
