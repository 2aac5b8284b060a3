package policy

import (
	"bytes"
	"math"
	"regexp"
)

// A value is [rule.value]: what the text that a regex finds has to be.
type value struct {
	group   int     // of the regex; 0 is all that it matches
	entropy float64 // least, in bits a character

	// Not a value after all:
	words []string         // has one of these, in lower case, in any case of ASCII letters
	regex []*regexp.Regexp // matches one of these
	match []*regexp.Regexp // all that the regex matches does
	line  []*regexp.Regexp // the line or lines of that do
}

// of returns where the value is of a match with the submatches at, and whether
// it is one. Without conditions it is the match.
func (v *value) of(data []byte, at []int) (start, end int, ok bool) {
	if v == nil {
		return at[0], at[1], true
	}
	start, end = at[2*v.group], at[2*v.group+1]
	if start < 0 { // the match did without this group
		return 0, 0, false
	}
	text := data[start:end]
	if v.entropy > 0 && entropy(text) < v.entropy {
		return start, end, false
	}
	if len(v.words) > 0 {
		lower := bytes.ToLower(text)
		for _, w := range v.words {
			if bytes.Contains(lower, []byte(w)) {
				return start, end, false
			}
		}
	}
	if anyMatch(v.regex, text) || anyMatch(v.match, data[at[0]:at[1]]) {
		return start, end, false
	}
	if len(v.line) > 0 {
		from := bytes.LastIndexByte(data[:at[0]], '\n') + 1
		to := len(data)
		if i := bytes.IndexByte(data[at[1]:], '\n'); i >= 0 {
			to = at[1] + i
		}
		if anyMatch(v.line, data[from:to]) {
			return start, end, false
		}
	}
	return start, end, true
}

func anyMatch(list []*regexp.Regexp, text []byte) bool {
	for _, re := range list {
		if re.Match(text) {
			return true
		}
	}
	return false
}

// entropy is the Shannon entropy of the characters of text, in bits for each:
// that of the distribution which their frequencies are (Shannon, "A Mathematical
// Theory of Communication", 1948, Section 6).
func entropy(text []byte) float64 {
	counts := map[rune]int{}
	n := 0
	for _, r := range string(text) {
		counts[r]++
		n++
	}
	sum := 0.0
	for _, c := range counts {
		p := float64(c) / float64(n)
		sum -= p * math.Log2(p)
	}
	return sum
}
