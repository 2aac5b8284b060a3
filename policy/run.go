package policy

import (
	"regexp"
	"regexp/syntax"
	"unicode"
	"unicode/utf8"
)

// A run is a stretch of bytes which are all of one class. A regex whose matches
// consist of few different bytes and are long, such as a card number, can match
// only inside a run of that length, and those are rare.
type run struct {
	class [256]bool
	least int // bytes of the shortest match
}

// longRun returns the run that holds every match of re, or nil if such runs are
// too common for it to be of use. What is rare enough is a matter of judgement:
// 8 bytes of 16 different ones (digits and separators), or 16 of 70 (a token in
// base64).
func longRun(re *syntax.Regexp) *run {
	r := &run{}
	r.least = r.add(re)
	n := 0
	for c, in := range r.class {
		if in && c >= utf8.RuneSelf {
			return nil
		} else if in {
			n++
		}
	}
	if n <= 16 && r.least >= 8 || n <= 70 && r.least >= 16 {
		return r
	}
	return nil
}

// add adds the bytes that a match of re may have to the class. It returns the
// number of bytes that it has at least.
func (r *run) add(re *syntax.Regexp) int {
	switch re.Op {
	case syntax.OpLiteral:
		for _, c := range re.Rune {
			r.addRange(c, c)
			for f := unicode.SimpleFold(c); re.Flags&syntax.FoldCase != 0 && f != c; f = unicode.SimpleFold(f) {
				r.addRange(f, f)
			}
		}
		return len(re.Rune)
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			r.addRange(re.Rune[i], re.Rune[i+1])
		}
		return 1
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		r.addRange(0, unicode.MaxRune)
		return 1
	case syntax.OpCapture, syntax.OpPlus:
		return r.add(re.Sub[0])
	case syntax.OpConcat:
		n := 0
		for _, sub := range re.Sub {
			n += r.add(sub)
		}
		return n
	case syntax.OpAlternate:
		n := r.add(re.Sub[0])
		for _, sub := range re.Sub[1:] {
			n = min(n, r.add(sub))
		}
		return n
	case syntax.OpStar, syntax.OpQuest:
		r.add(re.Sub[0])
	case syntax.OpRepeat:
		return re.Min * r.add(re.Sub[0])
	}
	return 0
}

// addRange counts all bytes of UTF-8 sequences, and those that are no UTF-8, as
// one kind: a run has all of them or none.
func (r *run) addRange(lo, hi rune) {
	for c := lo; c <= min(hi, utf8.RuneSelf-1); c++ {
		r.class[c] = true
	}
	for c := utf8.RuneSelf; hi >= utf8.RuneSelf && c < len(r.class); c++ {
		r.class[c] = true
	}
}

// match reports whether re, the regex that r was made of, matches data. It
// shows re one run at a time, with a byte on either side so that \b, ^ and $ see
// what they would see in all of data. That byte is not of the class, so no match
// can begin or end with it; and the run has no byte above ASCII, so no character
// is cut.
func (r *run) match(re *regexp.Regexp, data []byte) bool {
	// Every run that is long enough has a byte at one of these positions.
	for i := r.least - 1; i < len(data); i += r.least {
		if !r.class[data[i]] {
			continue
		}
		start, end := i, i+1
		for start > 0 && r.class[data[start-1]] {
			start--
		}
		for end < len(data) && r.class[data[end]] {
			end++
		}
		i = end
		if end-start < r.least {
			continue
		}
		if re.Match(data[max(0, start-1):min(len(data), end+1)]) {
			return true
		}
	}
	return false
}
