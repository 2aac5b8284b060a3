package policy

import (
	"regexp"
	"regexp/syntax"
	"sync"
)

// A regex is one value of a regex condition.
type regex struct {
	re       *regexp.Regexp
	literals literals // unless nil, every match contains one of them
	run      *run     // unless nil, every match lies in such a run
	slot     int      // where the automaton reports the literals
	least    int      // bytes that each match has at least
	at       Error    // where it is written
	open     *openRegex
}

func newRegex(re *regexp.Regexp, at Error) regex {
	r := regex{re: re, at: at, open: &openRegex{text: re.String()}}
	// The flags are those of regexp.Compile, which has accepted the text.
	if tree, err := syntax.Parse(re.String(), syntax.Perl); err == nil {
		r.literals, r.run, r.least = required(tree), longRun(tree), new(run).add(tree)
	}
	return r
}

// match reports whether the regex matches data, which is the whole message, and
// v, unless it is nil, has nothing against what it matches.
func (r *regex) match(data []byte, v *value) bool {
	if r.run != nil && !r.run.match(r.re, data) || r.run == nil && v == nil && !r.re.Match(data) {
		return false
	}
	return v == nil || r.each(data, v, func(int, int) bool { return false })
}

// each calls found with the place of each value in data, as
// [regexp.Regexp.FindAll] has the matches, until it returns false. It reports
// whether there was a value.
func (r *regex) each(data []byte, v *value, found func(start, end int) bool) (any bool) {
	for _, at := range r.re.FindAllSubmatchIndex(data, -1) {
		if start, end, ok := v.of(data, at); ok {
			any = true
			if !found(start, end) {
				break
			}
		}
	}
	return any
}

// An openRegex is a regex for a window of a message. To match at an edge that is
// not an end of the message, a regex would have to see what is on the other side;
// so it has to match within, and sees one character on either side of the match.
type openRegex struct {
	once  sync.Once
	text  string
	cases [4]*regexp.Regexp // bit 0: cut before, bit 1: cut after
}

func (o *openRegex) of(cutBefore, cutAfter bool) *regexp.Regexp {
	o.once.Do(func() {
		for i := range o.cases {
			before, after := `\A(?s:.*?)`, ""
			if i&1 != 0 {
				before = `\A(?s:.+?)`
			}
			if i&2 != 0 {
				after = `(?s:.)`
			}
			// In parentheses, so that the match itself is group 1.
			o.cases[i] = regexp.MustCompile(before + "(" + o.text + ")" + after)
		}
	})
	i := 0
	if cutBefore {
		i |= 1
	}
	if cutAfter {
		i |= 2
	}
	return o.cases[i]
}

// in is match for a window, which may have been cut.
func (r *regex) in(data []byte, v *value, cutBefore, cutAfter bool) bool {
	if !cutBefore && !cutAfter {
		return r.match(data, v)
	}
	if !r.match(data, nil) { // which is cheap, and never misses what is within
		return false
	}
	for {
		at := r.open.of(cutBefore, cutAfter).FindSubmatchIndex(data)
		if at == nil {
			return false
		}
		if _, _, ok := v.of(data, at[2:]); ok {
			return true
		}
		// Go on at the next character; this one is what it sees before it.
		data, cutBefore = data[at[2]:], true
	}
}
