package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"sync"
	"unicode/utf8"
)

// A nearRegex is a regex for the neighbourhood of a literal of its gate.
type nearRegex struct {
	lead   int       // characters that a match has before the literal at most
	before [256]bool // and of which bytes they are
	most   int       // bytes of the longest match; 0: no limit

	once sync.Once
	text string
	// By whether the match may begin later, and whether there is a character
	// before what it sees.
	cases [2][2]*regexp.Regexp
}

const (
	maxLead = 100  // characters of a match before a literal that are looked at
	maxNear = 1000 // characters of a match that count as a neighbourhood
	maxVain = 8    // how often a message may be looked at in vain, all neighbourhoods together
)

// endless stands for the length of what has no limit, or none that matters.
const endless = 1 << 20

// longest returns how many characters a match of re has at most.
func longest(re *syntax.Regexp) int {
	n := 0
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1
	case syntax.OpCapture, syntax.OpQuest:
		return longest(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			n += longest(sub)
		}
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			n = max(n, longest(sub))
		}
	case syntax.OpStar, syntax.OpPlus:
		return endless
	case syntax.OpRepeat:
		if re.Max < 0 {
			return endless
		}
		n = re.Max * longest(re.Sub[0])
	}
	return min(n, endless)
}

// each calls found with the places of the matches in data and their groups, as
// [regexp.Regexp.FindAllSubmatchIndex] has them, until it returns false. whole is
// the regex.
//
// Each match has a literal in it, at most lead characters from where it begins. So
// the first one at or after from begins at most so much before the first literal
// that has a match around it at all.
func (g *gate) each(whole *regexp.Regexp, data []byte, found func(at []int) bool) {
	near, from, vain := g.near, 0, 0
	near.once.Do(near.compile)
	for i := g.next(data, 0); i >= 0; {
		if !g.prefix.Match(data[i:min(len(data), i+g.window)]) {
			i = g.next(data, i+1)
			continue
		}
		if vain > maxVain*len(data) {
			// Neighbourhoods overlap, or have no end. To go on would not be linear.
			for _, at := range whole.FindAllSubmatchIndex(data, -1) {
				if at[0] >= from && !found(at) {
					return
				}
			}
			return
		}
		at := near.find(data, from, i)
		if at == nil {
			vain += near.reach(data, i)
			i = g.next(data, i+1)
			continue
		}
		if from = at[1]; !found(at) {
			return
		}
		i = g.next(data, from)
	}
}

func (n *nearRegex) compile() {
	for i, lead := range [...]int{0, n.lead} {
		for k, before := range [...]string{"", "(?s:.)"} {
			n.cases[i][k] = regexp.MustCompile(wrapped(before, lead, n.text)) // newGate has parsed it
		}
	}
}

// wrapped returns a regex whose match begins behind before and at most lead
// characters. The match itself is group 1.
func wrapped(before string, lead int, text string) string {
	return fmt.Sprintf(`\A%s(?s:.{0,%d}?)(%s)`, before, lead, text)
}

// reach returns how many bytes of data from i on may belong to a match.
func (n *nearRegex) reach(data []byte, i int) int {
	if n.most == 0 {
		return len(data) - i
	}
	return min(len(data)-i, n.most)
}

// find returns the first match that begins at or after from, and at the literal
// at data[i] or at most lead characters before it.
func (n *nearRegex) find(data []byte, from, i int) (at []int) {
	start, end := i, i+n.reach(data, i)
	for k := 0; k < n.lead && start > from && n.before[data[start-1]]; k++ {
		_, size := utf8.DecodeLastRune(data[from:start])
		start -= size
	}
	cases := &n.cases[0]
	if start < i {
		cases = &n.cases[1]
	}
	re := cases[0]
	if start > 0 {
		_, size := utf8.DecodeLastRune(data[:start])
		start -= size
		re = cases[1]
	}
	if at = re.FindSubmatchIndex(data[start:end]); at == nil {
		return nil
	}
	at = at[2:]
	for k := range at {
		if at[k] >= 0 {
			at[k] += start
		}
	}
	return at
}
