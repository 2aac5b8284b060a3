package policy

import (
	"fmt"
	"math/rand/v2"
	"regexp/syntax"
	"unicode"
	"unicode/utf8"
)

// sample appends a text that re is likely to match, so that a test of the
// matcher does not consist of misses alone. Assertions such as \b are left to luck.
func sample(b []byte, re *syntax.Regexp, random *rand.Rand) []byte {
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			for n := random.IntN(3); re.Flags&syntax.FoldCase != 0 && n > 0; n-- {
				r = unicode.SimpleFold(r)
			}
			b = appendRune(b, r, random)
		}
	case syntax.OpCharClass:
		if len(re.Rune) > 0 {
			i := 2 * random.IntN(len(re.Rune)/2)
			b = appendRune(b, re.Rune[i]+random.Int32N(re.Rune[i+1]-re.Rune[i]+1), random)
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b = appendRune(b, []rune{'a', ' ', 'é', utf8.RuneError, 'K', '7'}[random.IntN(6)], random)
	case syntax.OpBeginLine, syntax.OpEndLine:
		b = append(b, '\n')
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			b = sample(b, sub, random)
		}
	case syntax.OpAlternate:
		b = sample(b, re.Sub[random.IntN(len(re.Sub))], random)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		least, most := 0, 2
		switch re.Op {
		case syntax.OpPlus:
			least = 1
		case syntax.OpQuest:
			most = 1
		case syntax.OpRepeat:
			least, most = re.Min, re.Max
			if most < 0 || most > least+2 {
				most = least + 2
			}
		}
		for range least + random.IntN(most-least+1) {
			if len(b) > 4096 {
				break
			}
			b = sample(b, re.Sub[0], random)
		}
	}
	return b
}

// appendRune appends r, or for U+FFFD sometimes a byte that is read as such.
func appendRune(b []byte, r rune, random *rand.Rand) []byte {
	if r == utf8.RuneError && random.IntN(2) == 0 {
		return append(b, 0xff)
	}
	return utf8.AppendRune(b, r)
}

// messages returns texts to try the regexes on: samples of them, alone, with
// neighbours of many kinds, broken in one place, and amid enough bytes that the
// automaton goes four ways at once.
func messages(data []byte, seed uint64, regexes ...*syntax.Regexp) [][]byte {
	random := rand.New(rand.NewPCG(seed, 1))
	all := [][]byte{nil, data}
	for _, re := range regexes {
		s := sample(nil, re, random)
		edges := []string{"", "x", " ", "\n", "é", "\xa9", "\xff", "0", "_", "-", "\u212a"}
		before, after := edges[random.IntN(len(edges))], edges[random.IntN(len(edges))]
		all = append(all, s, []byte(before+string(s)+after), append(append([]byte(nil), data...), s...))
		if len(s) > 0 {
			broken := append([]byte(nil), s...)
			broken[random.IntN(len(s))] ^= 1 << random.IntN(8)
			all = append(all, broken)
		}
	}
	plant := secret(random)
	for _, m := range all {
		plant += " " + string(m)
		if len(m) < 500 {
			all = append(all, wrap(string(m), random))
		}
	}
	if len(plant) < 1000 {
		all = append(all, []byte(plant), wrap(plant, random))
	}
	for _, m := range all {
		long := make([]byte, 0, len(m)+256)
		for range random.IntN(200) {
			long = append(long, "ab 01-\n\xff"[random.IntN(8)])
		}
		long = append(long, m...)
		for range random.IntN(200) {
			long = append(long, "ab 01-\n\xff"[random.IntN(8)])
		}
		all = append(all, long)
	}
	return all
}

// wrap puts text into JSON, or something like it.
func wrap(text string, random *rand.Rand) []byte {
	s := `"` + escapeJSON(text, random) + `"`
	return []byte([]string{s, `{"a":` + s + `}`, `{"\u0061":1,"a":` + s + `,"n":` + fmt.Sprint(random.IntN(4)) + `}`,
		`{"list":[0,` + s + `,1.0],"n":1e0,"b":{"c":null}}`, ` [` + s + `]`, `{"a":` + s, `x{"a":` + s + `}`, "\ufeff{\"n\":2,\"a\":" + s + "}"}[random.IntN(8)])
}
