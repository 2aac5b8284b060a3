package policy

import (
	"bytes"
	"math"
	"regexp"
	"slices"
	"unicode/utf8"
)

// A value is [rule.value]: what the text that a regex finds has to be.
type value struct {
	group   int     // of the regex; 0 is all that it matches, firstGroup the first that has text
	entropy float64 // least, in bits a character

	// Not a value after all:
	words []string         // has one of these, in lower case, in any case of ASCII letters
	regex []*regexp.Regexp // matches one of these
	match []*regexp.Regexp // all that the regex matches does
	line  []*regexp.Regexp // the line or lines of that do
}

// firstGroup is the group of a value that has no number: of alternatives, each
// with a group of its own, the one that matched. If none has any text, it is all
// that the regex matches.
const firstGroup = -1

// of returns where the value is of a match with the submatches at, and whether
// it is one. Without conditions it is the match.
func (v *value) of(data []byte, at []int) (start, end int, ok bool) {
	if v == nil {
		return at[0], at[1], true
	}
	if key, _ := v.failing(data, at); key != "" {
		return 0, 0, false
	}
	start, end = v.place(at)
	return start, end, true
}

// failing returns the first key by which a match with the submatches at has no
// value, "" if it has one; of an except also which of its values.
func (v *value) failing(data []byte, at []int) (key, except string) {
	start, end := v.place(at)
	if start < 0 || start == end && v.group != 0 { // the match did without this group, or it has no text
		return "group", ""
	}
	text := data[start:end]
	if v.entropy > 0 && entropy(text) < v.entropy {
		return "entropy", ""
	}
	if len(v.words) > 0 {
		lower := bytes.ToLower(text)
		for _, w := range v.words {
			if bytes.Contains(lower, []byte(w)) {
				return "words", w
			}
		}
	}
	if re := anyMatch(v.regex, text); re != nil {
		return "regex", re.String()
	}
	if re := anyMatch(v.match, data[at[0]:at[1]]); re != nil {
		return "match", re.String()
	}
	if len(v.line) > 0 {
		from := bytes.LastIndexByte(data[:at[0]], '\n') + 1
		to := len(data)
		if i := bytes.IndexByte(data[at[1]:], '\n'); i >= 0 {
			to = at[1] + i
		}
		if re := anyMatch(v.line, data[from:to]); re != nil {
			return "line", re.String()
		}
	}
	return "", ""
}

// place returns where the group is, start < 0 if it is nowhere.
func (v *value) place(at []int) (start, end int) {
	if v.group != firstGroup {
		return at[2*v.group], at[2*v.group+1]
	}
	for i := 2; i < len(at); i += 2 {
		if at[i] < at[i+1] {
			return at[i], at[i+1]
		}
	}
	return at[0], at[1]
}

// anyMatch returns the first of list that matches, or nil.
func anyMatch(list []*regexp.Regexp, text []byte) *regexp.Regexp {
	for _, re := range list {
		if re.Match(text) {
			return re
		}
	}
	return nil
}

// entropy is the Shannon entropy of the characters of text, in bits for each:
// that of the distribution which their frequencies are (Shannon, "A Mathematical
// Theory of Communication", 1948, Section 6).
func entropy(text []byte) float64 {
	var ascii [utf8.RuneSelf]int
	var others []rune
	n := 0
	for _, r := range string(text) {
		if n++; r < utf8.RuneSelf {
			ascii[r]++
		} else {
			others = append(others, r)
		}
	}
	sum := 0.0
	add := func(count int) {
		if count > 0 {
			p := float64(count) / float64(n)
			sum -= p * math.Log2(p)
		}
	}
	for _, count := range ascii {
		add(count)
	}
	slices.Sort(others) // in order, so that the last bit is always the same
	for len(others) > 0 {
		count := 1
		for count < len(others) && others[count] == others[0] {
			count++
		}
		add(count)
		others = others[count:]
	}
	return sum
}
