package policy

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"testing"

	"framegate/examples/traffic"
	"framegate/frames"
	"framegate/policy/detect"
	"framegate/policy/jsonpath"
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
	`[^\x00-\x{10FFFF}]`, `needle|[^\x00-\x{10FFFF}]`, `(?:|needle)x`, `[\w.-]{0,5}?(?:key|needle)[ =]{0,3}([a-z0-9]{4,6})(?:;|$)`, `(?i)[\w.-]{0,50}?(?:access|key|passw(?:or)?d|secret)(?:[ \t\w.-]{0,20})[=:]([\w.=-]{5,15}|[a-z0-9]{4,}={0,3})(?:[\s;]|$)`,
	`\b((?:hvs\.[\w-]{9,12}|s\.(?i:[a-z0-9]{4})))(?:;|$)`, `é{0,3}?needle(\d*)`, `(?:^|\W)needle=(\w+)!`, `needle[a-z]{3,}!`, `.{0,3}needle.{0,3}`, `[^a]{0,4}(?:needle|haystack)+\b`, `(?:x|yy)?(?:a?b)?needle(x)?`,
	`\Qa.b*c\E+`, `\Qneedle`, `needle{0}`, `(?U)needle.*end`, `\pN{9}`, `[[:word:]]{18}`,
}

// matchOf is matchSeeded with the same choices each time.
func matchOf(res []*regexp.Regexp, words []string) (*matcher, []*rule) {
	return matchSeeded(res, words, 0, false)
}

// matchSeeded builds rules around the regexes, the strings and what seed chooses of
// all else that a rule may ask, and a matcher for them. A stream cannot answer json,
// and sees only a part of the line that a value is in.
func matchSeeded(res []*regexp.Regexp, words []string, seed uint64, stream bool) (*matcher, []*rule) {
	random := rand.New(rand.NewPCG(seed, 2))
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
	cased := all
	cased.keywords.texts = append([]string{"Planted " + strings.Repeat("0123456789abcdef", 3)}, words...)
	add(cased, nil)
	add(of(res[:1], words...), &cased)

	detectors := detect.All()
	for range 2 {
		one, two := all, all
		one.detect = []detector{{Detector: detectors[random.IntN(len(detectors))]}}
		two.detect = append([]detector{{Detector: detectors[random.IntN(len(detectors))]}}, one.detect...)
		two.keywords.texts = words
		add(one, nil)
		add(two, nil)
		add(of(res), &one)
		add(one, &first)
	}
	for _, re := range res {
		c := of([]*regexp.Regexp{re})
		c.value = &value{group: random.IntN(re.NumSubexp()+2) - 1, entropy: float64(random.IntN(8)) / 2}
		add(c, nil)
		c.value = &value{group: firstGroup, words: []string{lower(words[0][:1])}, match: res[1:]}
		if !stream {
			c.value.line = []*regexp.Regexp{regexp.MustCompile("x")}
		}
		add(c, nil)
		c.keywords.texts = words
		add(c, nil)
	}

	var tests jsonTests
	if stream {
		m, _ := newMatcher(rules, tests)
		return m, rules
	}
	test := func(t jsonTest, path string) []int {
		t.path, _ = jsonpath.Parse(path) // all of them are good
		tests.tests = append(tests.tests, t)
		return []int{len(tests.tests) - 1}
	}
	limit := float64(random.IntN(3))
	number, _ := jsonValue(int64(1))
	word, _ := jsonValue(words[0])
	a, b, c, d := all, all, of(res[:1]), all
	a.json = test(jsonTest{re: res[0]}, "a")
	b.json = append(test(jsonTest{equals: []jsonpath.Value{number, word}}, "list.#"), test(jsonTest{gt: &limit}, "n")...)
	b.jsonAll = test(jsonTest{absent: true}, "b.c")
	c.jsonAll = append(test(jsonTest{lt: &limit}, "n"), test(jsonTest{}, "a")...)
	d.detect = []detector{{Detector: detectors[random.IntN(len(detectors))]}}
	d.json = test(jsonTest{absent: true}, "n")
	add(a, nil)
	add(b, nil)
	add(c, nil)
	add(d, &a)
	add(of(res[:1]), &b)
	m, _ := newMatcher(rules, tests)
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
		m, rules := matchSeeded(res, []string{"needle", "a\xffb", "0123456789012345678901234567890123456789"}, uint64(i), false)
		for seed := range uint64(2) {
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
		m, rules := matchSeeded(res, []string{word, "needle"}, seed, false)
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
	text := bytes.Repeat(trafficMessage(t), 16)
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

// trafficMessage returns a text message of the real traffic in examples, of 1 KiB.
func trafficMessage(t *testing.T) []byte {
	messages, err := traffic.Load("feed-coinbase")
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, m := range messages {
		all = append(all, m.Payload...)
	}
	return all[:1<<10]
}
