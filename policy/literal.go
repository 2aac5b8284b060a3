package policy

import (
	"math/bits"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A literal is a string to look for. If fold is set, then text is in lower case
// and the case of ASCII letters does not matter.
type literal struct {
	text string
	fold bool
}

// is reports whether b, of the same length, is what l looks for.
func (l *literal) is(b []byte) bool {
	if !l.fold {
		return string(b) == l.text
	}
	for i, c := range b {
		if lowerByte(c) != l.text[i] {
			return false
		}
	}
	return true
}

// literals are alternatives: at least one of them must be there. nil says
// nothing about what must be there.
type literals []literal

// These bound how far alternatives are spelled out. More of them tell the
// automaton little that fewer do not.
const (
	maxSpelled = 16 // alternatives of one piece of a regex
	maxUnion   = 64 // alternatives over all branches of an alternation
	maxLength  = 32 // bytes of one literal that the automaton looks at
	minWeight  = 7  // least weight of literals that are worth looking for
)

// required returns literals of which every match of re contains at least one,
// or nil if there are none worth looking for.
func required(re *syntax.Regexp) literals {
	if set := analyse(re).best(); set.weight() >= minWeight {
		return set
	}
	return nil
}

// needs is what is known of the matches of a regex.
type needs struct {
	exact literals // unless nil, each match is one of these from end to end
	some  literals // unless nil, each match contains one of these
}

func (n needs) best() literals { return better(n.exact, n.some) }

func analyse(re *syntax.Regexp) needs {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText,
		syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return needs{exact: literals{{}}}
	case syntax.OpLiteral:
		s := newSequence()
		for _, r := range re.Rune {
			s.add(spell(r, r, re.Flags&syntax.FoldCase != 0))
		}
		return s.needs()
	case syntax.OpCharClass:
		return class(re.Rune)
	case syntax.OpCapture:
		return analyse(re.Sub[0])
	case syntax.OpConcat:
		s := newSequence()
		for _, sub := range re.Sub {
			s.add(analyse(sub))
		}
		return s.needs()
	case syntax.OpAlternate:
		return alternate(re.Sub)
	case syntax.OpQuest:
		if set := analyse(re.Sub[0]).exact; set != nil {
			return needs{exact: union(set, literals{{}}, maxSpelled)}
		}
	case syntax.OpPlus:
		return needs{some: analyse(re.Sub[0]).best()}
	case syntax.OpRepeat:
		s := newSequence()
		sub := analyse(re.Sub[0])
		for range min(re.Min, maxLength) {
			s.add(sub)
		}
		if re.Min != re.Max || re.Min > maxLength {
			s.add(needs{})
		}
		return s.needs()
	}
	return needs{}
}

// class spells out the runes of a class, given as ranges.
func class(ranges []rune) needs {
	var set literals
	for i := 0; i < len(ranges); i += 2 {
		runes := spell(ranges[i], ranges[i+1], false).exact
		if runes == nil {
			return needs{}
		}
		set = append(set, runes...)
	}
	return needs{exact: union(set, nil, maxSpelled)}
}

// spell returns the encodings of the runes from lo to hi.
//
// U+FFFD has more than one: package regexp reads any byte that is not UTF-8 as
// that rune. Surrogates have none, since nothing decodes to them.
func spell(lo, hi rune, fold bool) needs {
	if hi-lo >= maxSpelled {
		return needs{}
	}
	var set literals
	for r := lo; r <= hi; r++ {
		if r == utf8.RuneError || !utf8.ValidRune(r) {
			return needs{}
		}
		set = append(set, literal{string(r), false})
		// Under (?i) a letter has all spellings of its orbit, of which some are
		// not ASCII: k, K and the Kelvin sign.
		for f := unicode.SimpleFold(r); fold && f != r; f = unicode.SimpleFold(f) {
			set = append(set, literal{string(f), false})
		}
	}
	if fold && len(set) > 1 {
		for i := range set {
			set[i] = literal{lower(set[i].text), true}
		}
	}
	return needs{exact: union(set, nil, maxSpelled)}
}

func alternate(subs []*syntax.Regexp) needs {
	all := needs{exact: literals{}, some: literals{}}
	for _, sub := range subs {
		n := analyse(sub)
		if all.exact != nil && n.exact != nil {
			all.exact = union(all.exact, n.exact, maxUnion)
		} else {
			all.exact = nil
		}
		if set := n.best(); all.some != nil && set != nil {
			all.some = union(all.some, set, maxUnion)
		} else {
			all.some = nil
		}
	}
	return all
}

// A sequence joins what is known of the parts of a concatenation.
type sequence struct {
	current literals // spellings of the latest parts, as far back as is feasible
	best    literals // the best of what was before
	cut     bool     // whether anything was
}

func newSequence() *sequence { return &sequence{current: literals{{}}} }

func (s *sequence) add(n needs) {
	if n.exact != nil {
		if joined := cross(s.current, n.exact); joined != nil {
			s.current = joined
			return
		}
	}
	s.best = better(better(s.best, s.current), n.some)
	s.current, s.cut = n.exact, true
	if s.current == nil {
		s.current = literals{{}}
	}
}

func (s *sequence) needs() needs {
	if !s.cut {
		return needs{exact: s.current}
	}
	return needs{some: better(s.best, s.current)}
}

// cross returns each of a followed by each of b, or nil if that is too much.
func cross(a, b literals) literals {
	if len(a) == 1 && a[0].text == "" {
		return b
	}
	if len(a)*len(b) > maxSpelled {
		return nil
	}
	set := literals{}
	for _, x := range a {
		for _, y := range b {
			z := literal{x.text + y.text, x.fold || y.fold}
			if len(z.text) > maxLength {
				return nil
			}
			if z.fold {
				z.text = lower(z.text)
			}
			set = append(set, z)
		}
	}
	return union(set, nil, maxSpelled)
}

// union returns the members of both sets once each, or nil if they are more
// than limit.
func union(a, b literals, limit int) literals {
	set := slices.Concat(literals{}, a, b)
	slices.SortFunc(set, func(x, y literal) int {
		if c := strings.Compare(x.text, y.text); c != 0 || x.fold == y.fold {
			return c
		} else if x.fold {
			return -1
		}
		return 1
	})
	set = slices.Compact(set)
	if len(set) > limit {
		return nil
	}
	return set
}

// better returns the literals that ordinary traffic is less likely to contain.
func better(a, b literals) literals {
	if b.weight() > a.weight() {
		return b
	}
	return a
}

// weight estimates, in bits, how rare the literals are: that of the likeliest,
// less for every doubling of their number. Weight 7 is an "@", or two letters.
func (set literals) weight() int {
	if len(set) == 0 {
		return -1
	}
	least := 8 * maxLength
	for _, l := range set {
		w := 0
		for _, c := range []byte(l.text) {
			switch {
			case strings.IndexByte(` "{}[]:,.0123456789-_/`, c) >= 0:
				w += 2
			case strings.IndexByte("etaoinsrhldcu", c) >= 0:
				w += 4
			case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
				w += 5
			default:
				w += 7
			}
		}
		least = min(least, w)
	}
	return least - bits.Len(uint(len(set)-1))
}

// lower folds ASCII letters, and nothing else.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lowerByte(c)
	}
	return string(b)
}

func lowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
