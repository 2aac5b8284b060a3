package policy

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"sync"
	"testing"

	"framegate/frames"
)

// regexes are of all kinds that the matcher treats in different ways.
var regexes = []string{
	``, `a`, `.`, `needle`, `(?i)needle`, `(?i)kiss`, `(?i)\bStraße\b`, `(?i:Key)=[a-z]+`,
	`\bneedle\b`, `\Bneedle\B`, `^needle`, `needle$`, `\Aneedle\z`, `(?m)^needle$`, `^$`, `(?m)^$`,
	`needle|haystack`, `(?:foo|ba[rz])qux`, `(?i)foo(?:bar)?baz`, `a*b+c?needle`, `(needle)*`, `(?:needle)+`, `x(?:needle){2,3}y`,
	`[ab][cd]needle`, `[^a]needle[^b]`, `(?i)[k]elvin`, `nee.dle`, `(?s)nee.dle`, `nee\x{FFFD}dle`, `\x{FFFD}`, `[\x{FFF0}-\x{FFFF}]needle`,
	`ÿ`, `\x80`, `日本語`, `(?i)ÀÉÎ`, `[À-Ö]{3}`, `(?:日|本){2}`,
	`\b\d{16}\b`, `\d{8,}`, `\b(?:\d[ -]?){13,16}\b`, `^\d{16}$`, `(?m)^\d{12}$`, `\B\d{9}\B`, `[0-9a-f]{40}`, `\b[0-9a-f]{32}\b`,
	`[A-Za-z0-9+/]{20,}={0,2}`, `(?i)[a-f0-9]{24}`, `(?i)[k0-9]{12}`, `[\d\x{FFFD}]{10}`, `(?:\d{4}-){3}\d{4}`, `\d{4}(?:-\d{4}){3}|x{9}`,
	`AKIA[A-Z0-9]{16}`, `eyJ[0-9A-Za-z_-]{8,}\.eyJ`, `"(?:cmd|op)"\s*:\s*"(?:stop|wipe)"`, `(?i)\b(?:postgres(?:ql)?|rediss?)://[^\s:/@"]+:[^\s:/@"]+@`,
	`0123456789abcdef0123456789abcdef0123456789`, `(?i)abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz`, `[a-p]x|[a-q]y`, `@`, `(?i)ss`, `(?:a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q)zz`,
	`[^\x00-\x{10FFFF}]`, `needle|[^\x00-\x{10FFFF}]`, `(?:|needle)x`, `\Qa.b*c\E+`, `needle{0}`, `(?U)needle.*end`, `\pN{9}`, `[[:word:]]{18}`,
}

// matchOf builds rules around the regexes and strings, and a matcher for them.
func matchOf(res []*regexp.Regexp, words []string) (*matcher, []*rule) {
	var rules []*rule
	all := condition{opcodes: dataMessages, max: math.MaxInt64}
	add := func(match condition, except *condition) {
		rules = append(rules, &rule{Rule: Rule{ID: fmt.Sprint(len(rules))}, match: match, except: except})
	}
	of := func(regexes []*regexp.Regexp, words ...string) condition {
		c := all
		for _, re := range regexes {
			c.regex = append(c.regex, newRegex(re, Error{}))
		}
		c.contains.texts = words
		return c
	}
	for _, re := range res {
		add(of([]*regexp.Regexp{re}), nil)
	}
	for _, w := range words {
		add(of(nil, w), nil)
	}
	first := of(res[:1])
	add(of(res), nil)
	add(of(nil, words...), nil)
	add(of(res, words...), nil)
	add(all, &first)
	add(of(res[1:]), &first)
	both := of(res[1:], words...)
	add(of(nil, words...), &both)
	small := all
	small.min, small.max = 3, 30
	add(small, &both)
	m, _ := newMatcher(rules, jsonTests{})
	return m, rules
}

func checkMatch(t *testing.T, m *matcher, rules []*rule, data []byte) {
	t.Helper()
	in := newBitset(len(rules))
	for i := range rules {
		in.set(i)
	}
	for _, op := range []frames.Opcode{frames.Text, frames.Ping} {
		var got []string
		m.match(in, op, data, func(r *rule) { got = append(got, r.ID) })
		if want := naive(rules, &m.json, op, data); !slices.Equal(got, want) {
			t.Errorf("%v %q: got rules %v, want %v", op, data, got, want)
		}
	}
}

// TestMatch compares the matcher with the naive one on texts made of the
// regexes themselves. FuzzMatch goes on from here.
func TestMatch(t *testing.T) {
	hits := 0
	for i, one := range regexes {
		other := regexes[(i*7+3)%len(regexes)]
		res := []*regexp.Regexp{regexp.MustCompile(one), regexp.MustCompile(other)}
		trees := make([]*syntax.Regexp, len(res))
		for i, re := range res {
			trees[i], _ = syntax.Parse(re.String(), syntax.Perl)
		}
		m, rules := matchOf(res, []string{"needle", "a\xffb", "0123456789012345678901234567890123456789"})
		for seed := range uint64(12) {
			for _, data := range messages([]byte("x needle 4012888888881881 a\xffb"), seed, trees...) {
				checkMatch(t, m, rules, data)
				if res[0].Match(data) {
					hits++
				}
			}
		}
		if t.Failed() {
			t.Fatalf("regexes %q and %q", one, other)
		}
	}
	if hits < 5*len(regexes) {
		t.Errorf("only %d hits: this compares misses", hits)
	}
}

// FuzzMatch looks for a message on which the matcher and the naive one differ.
func FuzzMatch(f *testing.F) {
	for i, re := range regexes {
		f.Add(re, regexes[(i*5+1)%len(regexes)], "needle", []byte("x needle 4012888888881881"), uint64(i))
	}
	f.Fuzz(func(t *testing.T, one, other, word string, data []byte, seed uint64) {
		if len(one)+len(other) > 100 || len(word) > 100 || len(data) > 500 || word == "" {
			return // more would be slower, not different
		}
		var res []*regexp.Regexp
		var trees []*syntax.Regexp
		for _, text := range []string{one, other} {
			re, err := regexp.Compile(text)
			if err != nil {
				return
			}
			tree, err := syntax.Parse(text, syntax.Perl)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			res, trees = append(res, re), append(trees, tree)
		}
		m, rules := matchOf(res, []string{word, "needle"})
		for _, data := range messages(data, seed, trees...) {
			checkMatch(t, m, rules, data)
		}
	})
}

// A message that no rule matches costs no allocation: this is the gateway's
// hot path. (Under the race detector sync.Pool drops what it is given one time
// in four, on purpose. That is less than one allocation a message, which
// AllocsPerRun rounds down to none.)
func TestNoAllocation(t *testing.T) {
	s := loadExample(t, "default.toml").Scope(Upgrade{Host: "chat.example"})
	text := bytes.Repeat(trafficOf(t, 1<<10)[0], 16)
	for _, size := range []int{0, 128, 1 << 10, 16 << 10} {
		for _, dir := range []frames.Direction{frames.ToServer, frames.ToClient} {
			data := text[:size]
			got := testing.AllocsPerRun(500, func() {
				if v := s.Message(dir, frames.Text, data); v.Action != Allow || v.Rules != nil {
					t.Errorf("%d bytes: got %v", size, v)
				}
			})
			if got != 0 {
				t.Errorf("%d bytes %v: got %v allocations", size, dir, got)
			}
		}
	}
}

// Two directions of many connections ask the same Policy at once.
func TestConcurrentUse(t *testing.T) {
	p := loadExample(t, "default.toml")
	shared := p.Scope(Upgrade{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := p.Scope(Upgrade{Host: fmt.Sprintf("%d.example", i)})
			for j := range 500 {
				secret := fmt.Sprintf(`{"n":%d,"text":"about Project Nightjar"}`, j)
				if v := s.Message(frames.ToServer, frames.Text, []byte(secret)); v.Action != Close {
					t.Errorf("%s: got %v", secret, v)
				}
				if v := shared.Message(frames.ToClient, frames.Text, []byte(secret)); v.Action != Allow {
					t.Errorf("%s: got %v", secret, v)
				}
				p.Connection(Flow{Host: "bank.example"})
			}
		})
	}
	wg.Wait()
}
