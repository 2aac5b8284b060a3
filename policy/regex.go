package policy

import (
	"regexp"
	"regexp/syntax"
	"sync"
	"unicode/utf8"
)

// A regex is one value of a regex condition.
type regex struct {
	re       *regexp.Regexp
	literals literals // unless nil, every match contains one of them
	run      *run     // unless nil, every match lies in such a run
	gate     *gate    // unless nil, it has to be open
	slot     int      // where the automaton reports the literals
	least    int      // bytes that each match has at least
	at       Error    // where it is written
	open     *openRegex
}

func newRegex(re *regexp.Regexp, at Error) regex {
	r := regex{re: re, at: at}
	// The flags are those of regexp.Compile, which has accepted the text.
	if tree, err := syntax.Parse(re.String(), syntax.Perl); err == nil {
		text := enclosable(re.String(), tree)
		r.open = newOpenRegex(text, tree)
		r.literals, r.run, r.gate, r.least = required(tree), longRun(tree), newGate(text, tree), new(run).add(tree)
	}
	return r
}

// enclosable returns the text of a regex so that it may stand in parentheses: one
// that ends within \Q would quote what closes them.
func enclosable(text string, tree *syntax.Regexp) string {
	if _, err := syntax.Parse("("+text+")", syntax.Perl); err != nil {
		return tree.String() // which is slow
	}
	return text
}

// match reports whether the regex matches data, which is the whole message, and
// v, unless it is nil, has nothing against what it matches.
func (r *regex) match(data []byte, v *value) bool {
	if r.gate != nil && r.gate.near != nil {
		return r.each(data, v, func(int, int) bool { return false })
	}
	if r.gate != nil && !r.gate.open(data) {
		return false
	}
	if r.run != nil && !r.run.match(r.re, data) || r.run == nil && v == nil && !r.re.Match(data) {
		return false
	}
	return v == nil || r.each(data, v, func(int, int) bool { return false })
}

// each calls found with the place of each value in data, as
// [regexp.Regexp.FindAll] has the matches, until it returns false. It reports
// whether there was a value.
func (r *regex) each(data []byte, v *value, found func(start, end int) bool) (any bool) {
	if r.gate != nil && r.gate.near != nil {
		r.gate.each(r.re, data, func(at []int) bool {
			start, end, ok := v.of(data, at)
			any = any || ok
			return !ok || found(start, end)
		})
		return any
	}
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

// An openRegex is a regex for a window of a message. At an edge that is not an
// end of the message, assertions such as \b and $ would have to see what is on the
// other side. So a regex that has some must match within, and sees one character
// beside the match.
type openRegex struct {
	text          string
	before, after bool // it has assertions that look there
	once          sync.Once
	cases         [4]*regexp.Regexp // bit 0: cut before, bit 1: cut after
}

func newOpenRegex(text string, tree *syntax.Regexp) *openRegex {
	o := &openRegex{text: text}
	o.look(tree)
	return o
}

func (o *openRegex) look(tree *syntax.Regexp) {
	switch tree.Op {
	case syntax.OpBeginLine, syntax.OpBeginText:
		o.before = true
	case syntax.OpEndLine, syntax.OpEndText:
		o.after = true
	case syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		o.before, o.after = true, true
	}
	for _, sub := range tree.Sub {
		o.look(sub)
	}
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

// in is match for a window, which may have been cut. A value near a cut edge may
// be a part of one, and is left to the window that has more of it.
func (r *regex) in(data []byte, v *value, cutBefore, cutAfter bool) bool {
	if !cutBefore && !cutAfter {
		return r.match(data, v)
	}
	if !r.match(data, nil) { // which is cheap, and never misses what is within
		return false
	}
	if v == nil {
		cutBefore, cutAfter = cutBefore && r.open.before, cutAfter && r.open.after
		return !cutBefore && !cutAfter || r.open.of(cutBefore, cutAfter).Match(data)
	}
	first, last := 0, len(data)
	if cutBefore {
		first = detectMargin
	}
	if cutAfter {
		last -= detectMargin
	}
	for from := 0; ; {
		at := r.open.of(cutBefore, cutAfter).FindSubmatchIndex(data[from:])
		if at == nil {
			return false
		}
		at = at[2:]
		for i := range at {
			if at[i] >= 0 {
				at[i] += from
			}
		}
		if at[0] >= first && at[1] <= last {
			if _, _, ok := v.of(data, at); ok {
				return true
			}
		}
		// Go on at the end; the last character is what is seen before it. After
		// an empty match, that is the next one.
		_, size := utf8.DecodeLastRune(data[at[0]:at[1]])
		from, cutBefore = at[1]-size, true
	}
}
