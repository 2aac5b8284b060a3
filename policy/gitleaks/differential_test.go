package gitleaks

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
	"unicode"

	"framegate/examples/traffic"
	"framegate/frames"
	"framegate/policy"
)

// The imported rules find what gitleaks finds: in texts that the rules' own
// regexes are likely to match, as they come in messages, whole and damaged.
func TestSameAsGitleaks(t *testing.T) {
	data := defaultRules(t)
	ref := newReference(t, data)
	scope := mustParse(t, mustImport(t, data, Options{}).Policy).Scope(policy.Upgrade{})
	random := rand.New(rand.NewPCG(8, 25))
	found := map[string]int{}
	messages, matched := 0, 0
	for _, rule := range ref.Rules {
		if rule.Path != "" {
			continue
		}
		tree, err := syntax.Parse(rule.Regex, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		for range 6 {
			s := string(sample(nil, tree, random))
			if !containsAny(strings.ToLower(s), rule.Keywords) {
				s = rule.Keywords[random.IntN(len(rule.Keywords))] + ": " + s
			}
			broken := []byte(s)
			broken[random.IntN(len(s))] = "aA0 '\n"[random.IntN(6)]
			texts := []string{
				s,
				"hello " + s + " bye",
				"config:\n  " + s + "\nend\n",
				"x = \"" + s + "\"; y\\n",
				string(broken),
			}
			for _, text := range texts {
				for _, m := range []message{plain(text), inJSON(text)} {
					messages++
					want := ref.detect(m.data)
					if m.text != m.data {
						want = append(want, ref.detect(m.text)...)
					}
					if ids := check(t, scope, m.data, want); len(ids) > 0 {
						matched++
					}
					for _, id := range want {
						found[id]++
					}
				}
			}
		}
	}
	for _, rule := range ref.Rules {
		if rule.Path == "" && found[rule.ID] == 0 {
			t.Errorf("no message had what rule %s finds", rule.ID)
		}
	}
	t.Logf("%d messages, of which %d with findings", messages, matched)
}

// Real traffic has nothing that one finds and the other does not.
func TestSameOnTraffic(t *testing.T) {
	data := defaultRules(t)
	ref := newReference(t, data)
	scope := mustParse(t, mustImport(t, data, Options{}).Policy).Scope(policy.Upgrade{})
	for _, set := range traffic.Sets() {
		messages, err := traffic.Load(set)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range messages {
			if i%4 == 0 && !m.Opcode.IsControl() { // a fourth of them is enough
				text := string(m.Payload)
				want := ref.detect(text)
				if json.Valid(m.Payload) {
					want = append(want, ref.detect(unescaped(text))...)
				}
				check(t, scope, text, want)
			}
		}
	}
}

// check compares the ids of the rules that match with those that are to.
func check(t *testing.T, scope *policy.Scope, text string, want []string) []string {
	t.Helper()
	slices.Sort(want)
	want = slices.Compact(want)
	ids := slices.Clone(scope.Message(frames.ToServer, frames.Text, []byte(text)).Rules)
	for i, id := range ids {
		ids[i] = strings.TrimPrefix(id, "gitleaks/")
	}
	slices.Sort(ids)
	if !slices.Equal(ids, want) {
		t.Errorf("%q:\ngot  %v\nwant %v", text, ids, want)
	}
	return ids
}

// A message and what it is without the escapes of JSON.
type message struct{ data, text string }

func plain(text string) message { return message{text, text} }

func inJSON(text string) message {
	const before, after = `{"type":"message","text":"`, `","ts":1610241741}`
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return message{before + string(quoted[1:len(quoted)-1]) + after, before + text + after}
}

// unescaped replaces the commonest escapes of JSON.
func unescaped(text string) string {
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\/`, `/`, `\n`, "\n", `\r`, "\r", `\t`, "\t").Replace(text)
}

// sample appends a text that re is likely to match, of ASCII wherever re leaves
// the choice. Assertions such as \b are left to luck.
func sample(b []byte, re *syntax.Regexp, random *rand.Rand) []byte {
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			if re.Flags&syntax.FoldCase != 0 && random.IntN(2) == 0 {
				r = unicode.ToLower(r)
			}
			b = fmt.Appendf(b, "%c", r)
		}
	case syntax.OpCharClass:
		var ascii []rune
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= min(re.Rune[i+1], '~'); r++ {
				if r >= ' ' || r == '\t' || r == '\n' {
					ascii = append(ascii, r)
				}
			}
		}
		b = fmt.Appendf(b, "%c", ascii[random.IntN(len(ascii))])
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b = append(b, byte(' '+random.IntN('~'-' ')))
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			b = sample(b, sub, random)
		}
	case syntax.OpAlternate:
		b = sample(b, re.Sub[random.IntN(len(re.Sub))], random)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		least, most := 0, 3
		switch re.Op {
		case syntax.OpPlus:
			least = 1
		case syntax.OpQuest:
			most = 1
		case syntax.OpRepeat:
			least, most = re.Min, re.Max
			if most < 0 || most > least+8 {
				most = least + 8
			}
		}
		for range least + random.IntN(most-least+1) {
			b = sample(b, re.Sub[0], random)
		}
	}
	return b
}
