package policy

import (
	"bytes"
	"math"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

// A gate rules a regex out without running it over the message. It is for the
// many that begin, but for what may be absent, with one of a few strings: each
// match has such a string, and from there on what prefix matches. Where it lets
// through, the regex itself decides.
type gate struct {
	literals literals
	pairs    [32]uint32     // bit b%32 of pairs[a%32]: a literal may begin with the bytes a, b
	prefix   *regexp.Regexp // anchored at its beginning, with a longest match
	window   int            // bytes that prefix needs to see at most

	near *nearRegex // nil: a match may begin too far before its literal
}

// maxPrefix bounds the longest match of a prefix, in characters: enough to tell
// a token from a word, and little to look at in vain.
const maxPrefix = 64

// minGateWeight is the least weight of literals that are worth looking for where
// the regex would run otherwise: two characters of the commonest ones.
const minGateWeight = 4

// newGate returns the gate of a regex, given as text and as tree, or nil if it
// does not begin so.
func newGate(text string, re *syntax.Regexp) *gate {
	parts := flatten(nil, re)
	skip := 0
	for skip < len(parts) && new(run).add(parts[skip]) == 0 {
		skip++
	}
	var before run
	for _, part := range parts[:skip] {
		before.add(part)
	}
	lead := longest(&syntax.Regexp{Op: syntax.OpConcat, Sub: parts[:skip]})
	rest := &syntax.Regexp{Op: syntax.OpConcat, Sub: parts[skip:]}
	g := &gate{}
	if g.literals, _ = beginning(rest); g.literals.weight() < minGateWeight {
		return nil
	}
	for _, l := range g.literals {
		// Both cases of a letter have the same remainder.
		pairs := &g.pairs[l.text[0]%32]
		if len(l.text) == 1 {
			*pairs = math.MaxUint32
		} else {
			*pairs |= 1 << (l.text[1] % 32)
		}
	}
	prefix, left, _ := bounded(rest, maxPrefix)
	g.window = utf8.UTFMax * (maxPrefix - left)
	var err error
	if g.prefix, err = regexp.Compile(`\A(?:` + prefix.String() + `)`); err != nil {
		return nil // too large, though that is hard to imagine
	}
	if _, err := syntax.Parse(wrapped("(?s:.)", lead, text), syntax.Perl); lead <= maxLead && err == nil {
		g.near = &nearRegex{lead: lead, before: before.class, text: text}
		if n := longest(re); n <= maxNear {
			g.near.most = utf8.UTFMax * (n + 1) // and a character after it
		}
	}
	return g
}

// beginning returns literals of which each match of re begins with one, or one
// empty string if nothing is known. Unless whole is set, it says nothing of what
// may follow.
func beginning(re *syntax.Regexp) (set literals, whole bool) {
	if exact := analyse(re).exact; exact != nil {
		return exact, true
	}
	switch re.Op {
	case syntax.OpConcat:
		set, whole = literals{{}}, true
		for i := 0; i < len(re.Sub) && whole; i++ {
			var next, joined literals
			next, whole = beginning(re.Sub[i])
			if joined = cross(set, next); joined == nil {
				break
			}
			set = joined
		}
		return set, false
	case syntax.OpAlternate:
		set = literals{}
		for _, sub := range re.Sub {
			next, _ := beginning(sub)
			if set = union(set, next, maxUnion); set == nil {
				break
			}
		}
	case syntax.OpCapture, syntax.OpPlus:
		set, _ = beginning(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			set, _ = beginning(re.Sub[0])
		}
	}
	if set == nil {
		set = literals{{}}
	}
	return set, false
}

// flatten appends the parts of a concatenation, without groups around them.
func flatten(parts []*syntax.Regexp, re *syntax.Regexp) []*syntax.Regexp {
	if re.Op != syntax.OpConcat && re.Op != syntax.OpCapture {
		return append(parts, re)
	}
	for _, sub := range re.Sub {
		parts = flatten(parts, sub)
	}
	return parts
}

// bounded returns a regex without assertions, whose matches have at most budget
// characters, such that every match of re begins with one of it. left is the rest
// of the budget. Unless whole is set, it says nothing of what may follow.
func bounded(re *syntax.Regexp, budget int) (prefix *syntax.Regexp, left int, whole bool) {
	empty := &syntax.Regexp{Op: syntax.OpEmptyMatch}
	switch re.Op {
	case syntax.OpNoMatch:
		return re, budget, true
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText,
		syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return empty, budget, true
	case syntax.OpLiteral:
		if n := len(re.Rune); n <= budget {
			return re, budget - n, true
		}
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		if budget > 0 {
			return re, budget - 1, true
		}
	case syntax.OpCapture:
		return bounded(re.Sub[0], budget)
	case syntax.OpConcat:
		concat := &syntax.Regexp{Op: syntax.OpConcat}
		whole = true
		for i := 0; i < len(re.Sub) && whole; i++ {
			var sub *syntax.Regexp
			sub, budget, whole = bounded(re.Sub[i], budget)
			concat.Sub = append(concat.Sub, sub)
		}
		return concat, budget, whole
	case syntax.OpAlternate:
		alternate := &syntax.Regexp{Op: syntax.OpAlternate}
		least := budget
		whole = true
		for _, s := range re.Sub {
			sub, n, all := bounded(s, budget)
			alternate.Sub = append(alternate.Sub, sub)
			least, whole = min(least, n), whole && all
		}
		return alternate, least, whole
	case syntax.OpQuest, syntax.OpRepeat, syntax.OpPlus:
		return boundedRepeat(re, budget)
	}
	return empty, budget, false
}

// boundedRepeat is bounded for what is repeated.
func boundedRepeat(re *syntax.Regexp, budget int) (prefix *syntax.Regexp, left int, whole bool) {
	least, most := re.Min, re.Max
	switch re.Op {
	case syntax.OpQuest:
		least, most = 0, 1
	case syntax.OpPlus:
		least, most = 1, -1
	}
	sub, left, whole := bounded(re.Sub[0], budget)
	size := budget - left
	if !whole {
		if least == 0 {
			return &syntax.Regexp{Op: syntax.OpEmptyMatch}, budget, false
		}
		return sub, left, false
	}
	times := budget // how often it fits
	if size > 0 {
		times = budget / size
	}
	whole = most >= 0 && most <= times
	if !whole {
		least = min(least, times)
		most = least
	}
	return &syntax.Regexp{Op: syntax.OpRepeat, Min: least, Max: most, Sub: []*syntax.Regexp{sub}}, budget - most*size, whole
}

// open reports whether data may have a match.
func (g *gate) open(data []byte) bool {
	for i := g.next(data, 0); i >= 0; i = g.next(data, i+1) {
		if g.prefix.Match(data[i:min(len(data), i+g.window)]) {
			return true
		}
	}
	return false
}

// next returns the first place from from on where one of the literals is, or -1.
func (g *gate) next(data []byte, from int) int {
	if len(g.literals) == 1 && !g.literals[0].fold {
		i := bytes.Index(data[from:], []byte(g.literals[0].text))
		if i < 0 {
			return -1
		}
		return from + i
	}
	for i := from; i+1 < len(data); i++ {
		if g.pairs[data[i]%32]>>(data[i+1]%32)&1 != 0 && g.begins(data[i:]) {
			return i
		}
	}
	if last := len(data) - 1; last >= from && g.begins(data[last:]) {
		return last
	}
	return -1
}

// begins reports whether data begins with one of the literals.
func (g *gate) begins(data []byte) bool {
	for i := range g.literals {
		if l := &g.literals[i]; len(data) >= len(l.text) && l.is(data[:len(l.text)]) {
			return true
		}
	}
	return false
}
