package policy

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"

	"framegate/examples/traffic"
	"framegate/frames"
)

// checkExplain holds an explanation to the verdict that live messages get, and
// to itself.
func checkExplain(t *testing.T, p *Policy, u Upgrade, dir frames.Direction, op frames.Opcode, data []byte) {
	t.Helper()
	e := p.Explain(u, dir, op, data)
	again := p.Explain(u, dir, op, data)
	if !reflect.DeepEqual(e.Rules, again.Rules) {
		t.Errorf("%v %q: explained twice, got\n%+v\nand\n%+v", op, data, e.Rules, again.Rules)
	}
	v := p.Scope(u).Message(dir, op, data)
	if !reflect.DeepEqual(e.Verdict, v) {
		t.Errorf("%v %q: got verdict %+v, want %+v", op, data, e.Verdict, v)
	}
	if len(e.Rules) != len(p.rules) {
		t.Fatalf("got %d rules, want %d", len(e.Rules), len(p.rules))
	}
	for i, x := range e.Rules {
		r := p.rules[i]
		hit := slices.Contains(slices.Concat(v.Rules, v.Shadow), r.ID)
		if (x.Outcome == Matched) != hit || (x.Reason == "") != hit {
			t.Errorf("%v %q: rule %s: %s for %q, but hit is %v", op, data, r.ID, x.Outcome, x.Reason, hit)
		}
		holds := x.Outcome != Failed && x.Outcome != OutOfScope
		checkFindings(t, data, &r.match, x.Found, holds)
		if r.except != nil {
			checkFindings(t, data, r.except, x.Excepted, x.Outcome == Excepted)
		}
	}
}

// checkFindings wants of a condition that holds one finding at least for each
// key, and of any other none.
func checkFindings(t *testing.T, data []byte, c *condition, list []Finding, holds bool) {
	t.Helper()
	keys := map[string]bool{}
	for _, f := range list {
		keys[f.Key] = true
		switch {
		case f.Start < 0:
			if f.Text != "" {
				t.Errorf("%q: no place, but a text: %+v", data, f)
			}
		case f.End < f.Start || f.End > len(data):
			t.Errorf("%q: %+v is out of bounds", data, f)
		case f.Text != string(data[f.Start:f.End]) && f.Text != string(unescape(data[f.Start:f.End])):
			t.Errorf("%q: %+v is of a text that is not there", data, f)
		}
	}
	for key, has := range map[string]bool{
		"contains": len(c.contains.texts) > 0, "keywords": len(c.keywords.texts) > 0, "regex": c.regex != nil,
		"detect": c.detect != nil, "json": c.json != nil, "json_all": c.jsonAll != nil,
		"min_size": c.min > 0, "max_size": c.max < maxSize,
	} {
		if keys[key] != (has && holds) {
			t.Errorf("%q: key %s: found is %v, want %v", data, key, keys[key], has && holds)
		}
	}
}

// Over what the matcher is tested with: regexes of all kinds, and texts made of them.
func TestExplainAgreesOnRegexes(t *testing.T) {
	for i := 0; i < len(regexes); i += 2 { // each is the one or the other of a pair
		one, other := regexes[i], regexes[(i*11+5)%len(regexes)]
		res := []*regexp.Regexp{regexp.MustCompile(one), regexp.MustCompile(other)}
		trees := make([]*syntax.Regexp, len(res))
		for i, re := range res {
			trees[i], _ = syntax.Parse(re.String(), syntax.Perl)
		}
		m, rules := matchOf(res, []string{"needle", "a\xffb"})
		for _, r := range rules {
			r.scope.direction = directions("both")
		}
		p := &Policy{rules: rules, matcher: m, rates: NewRates()}
		for seed := range uint64(1) {
			for _, data := range messages([]byte(`{"x":"n\u0065edle 4012888888881881"}`), seed, trees...) {
				checkExplain(t, p, Upgrade{}, frames.ToServer, frames.Text, data)
			}
		}
	}
}

// Over the examples: their own tests, and recorded traffic.
func TestExplainAgreesOnExamples(t *testing.T) {
	var recorded []traffic.Message
	for _, set := range traffic.Sets() {
		list, err := traffic.Load(set)
		if err != nil {
			t.Fatal(err)
		}
		recorded = append(recorded, list...)
	}
	files, err := filepath.Glob(filepath.Join(examples, "*.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		p, err := Load([]string{file})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range recorded {
			checkExplain(t, p, Upgrade{Conn: "recorded", Rates: NewRates()}, m.Direction, m.Opcode, m.Payload)
		}
		for _, r := range p.rules {
			for _, test := range r.tests {
				for _, dir := range []frames.Direction{frames.ToServer, frames.ToClient} {
					test.upgrade.Rates = NewRates()
					checkExplain(t, p, test.upgrade, dir, test.opcode, []byte(test.payload))
				}
			}
		}
	}
}

const everyKey = `
[policy]
default = "drop"
` + `
[[rule]]
id = "all"
action = "log"
[rule.match]
contains = ["pan", "number"]
keywords = ["CARD"]
detect = ["payment-card", "iban"]
regex = ['\d{4}$', '"user"']
json = [{ path = "user.role", equals = "admin" }, { path = "n", gt = 3 }]
json_all = [{ path = "gone", exists = false }, { path = "user", exists = true }]
min_size = 10
max_size = 200

[rule.except]
contains = ["4111"]

[[rule]]
id = "secret"
action = "redact"
mode = "shadow"
[rule.match]
regex = ['key=(\w+)']
[rule.value]
group = 1
entropy = 2.5
[rule.value.except]
words = ["example"]
regex = ['^0']
match = ['key=aaab']
line = ['#nolog']

[[rule]]
id = "often"
action = "close"
match.contains = ["often"]
[rule.rate]
messages = 2
bytes = "1KB"
window = "10s"
per = "client"

[[rule]]
id = "pings"
action = "log"
match.opcode = ["ping", "pong"]

[[rule]]
id = "there"
action = "log"
match.contains = ["x"]
[rule.scope]
direction = "to-client"
host = ["**.chat.example"]
path = ["/ws/*", "/socket"]
origin = ["https://*.app.example:8443", "null"]
subprotocol = ["v1"]
client = ["10.0.0.0/8"]

[[rule]]
id = "roles"
action = "allow"
match.json = [{ path = "roles.#", matches = '^x' }]
`

// inEveryScope is a connection that is in the scope of all rules.
func inEveryScope() Upgrade {
	return Upgrade{
		Client: netip.MustParseAddr("10.1.2.3"), Host: "chat.example", Path: "/socket", Origin: "null", Subprotocol: "v1",
		Rates: NewRates(),
	}
}

// briefly tells an outcome in one line, as far as it says something.
func briefly(e Explanation, rule string) string {
	for _, x := range e.Rules {
		if x.ID != rule {
			continue
		}
		list := []string{string(x.Outcome)}
		if x.Reason != "" {
			list = append(list, x.Reason)
		}
		for i, f := range slices.Concat(x.Found, x.Excepted) {
			except := ""
			if i >= len(x.Found) {
				except = "except "
			}
			if f.Start < 0 {
				list = append(list, fmt.Sprintf("%s%s %s", except, f.Key, f.Value))
			} else {
				list = append(list, fmt.Sprintf("%s%s %s %d-%d %q", except, f.Key, f.Value, f.Start, f.End, f.Text))
			}
		}
		return strings.Join(list, "; ")
	}
	return "no such rule"
}

func TestExplain(t *testing.T) {
	p := mustParse(t, everyKey)
	for _, c := range []struct {
		rule string
		op   frames.Opcode
		text string
		want string
	}{
		// Each key that may fail first.
		{"all", frames.Ping, ``, `failed; opcode: got ping, expected text or binary`},
		{"all", frames.Text, `1`, `failed; min_size: got 1 byte, expected 10 at least`},
		{"all", frames.Text, strings.Repeat("1", 201), `failed; max_size: got 201 bytes, expected 200 at most`},
		{"all", frames.Text, `0123456789`, `failed; contains: none of "pan" and "number" is there`},
		{"all", frames.Text, `{"pan":1234}`, `failed; keywords: "CARD" is not there`},
		{"all", frames.Text, `my pan card`, `failed; json_all: the message is not JSON`},
		{"all", frames.Text, `{"pan":"card"}`, `failed; json_all user exists true: user is not there`},
		{"all", frames.Text, `{"pan":"card","user":{},"gone":[1,"\u202e"]}`, `failed; json_all gone exists false: gone is [1,"\u202e"]`},
		{"all", frames.Text, `{"pan":"card","user":{"role":"gu\u0065st\u202e"},"n":3}`, `failed; json user.role equals "admin": user.role is "guest\u202e"; json n gt 3: n is 3`},
		{"all", frames.Text, `{"pan":"card","user":{"role":"a","role":"b"}}`, `failed; json user.role equals "admin": user.role is "a" and "b"; json n gt 3: n is not there`},
		{"all", frames.Text, `{"pan":"card","user":{"role":"admin"}}`, `failed; detect: no payment-card and no iban is there`},
		{"all", frames.Text, `{"pan":"card 4012 8888 8888 1881","\u0075ser":1,"n":4}`,
			`matched; min_size 10 bytes; max_size 200 bytes; contains pan 2-5 "pan"; keywords CARD 8-12 "card"; json_all gone exists false; ` +
				`json_all user exists true 46-47 "1"; json n gt 3 52-53 "4"; detect payment-card 13-32 "4012 8888 8888 1881"; regex "user" 34-45 "\"user\""`},
		{"all", frames.Text, `{"pan":"card 4111 1111 1111 1111","user":1,"n":4}`,
			`excepted; [rule.except] holds as well; min_size 10 bytes; max_size 200 bytes; contains pan 2-5 "pan"; keywords CARD 8-12 "card"; json_all gone exists false; ` +
				`json_all user exists true 41-42 "1"; json n gt 3 47-48 "4"; detect payment-card 13-32 "4111 1111 1111 1111"; regex "user" 34-40 "\"user\""; ` +
				`except contains 4111 13-17 "4111"`},

		{"roles", frames.Text, `{"roles":[1,"no","x\n","x"]}`, `matched; json roles.# matches "^x" 18-21 "x\n"`},

		{"secret", frames.Text, `none`, `failed; regex: "key=(\\w+)" does not match`},
		{"secret", frames.Text, `key=abab`, `failed; regex "key=(\\w+)": found "key=abab", but the entropy of group 1, "abab", is 1, expected 2.5 at least`},
		{"secret", frames.Text, `key=abcdefEXAMPLE`, `failed; regex "key=(\\w+)": found "key=abcdefEXAMPLE", but [rule.value.except] has words "example"`},
		{"secret", frames.Text, `key=0123456789`, `failed; regex "key=(\\w+)": found "key=0123456789", but [rule.value.except] has regex "^0"`},
		{"secret", frames.Text, `key=aaabcdefgh`, `failed; regex "key=(\\w+)": found "key=aaabcdefgh", but [rule.value.except] has match "key=aaab"`},
		{"secret", frames.Text, `key=abcdefgh #nolog`, `failed; regex "key=(\\w+)": found "key=abcdefgh", but [rule.value.except] has line "#nolog"`},
		{"secret", frames.Text, `key=abab key=abcdefgh`, `matched; regex key=(\w+) 13-21 "abcdefgh"`},
		{"secret", frames.Text, `["key=ab\u0063defgh"]`, `matched; regex key=(\w+) 6-19 "abcdefgh"`},

		{"often", frames.Text, `often`, `below-rate; [rule.rate] would count this as message 1 and byte 5 of its client within 10s, and matches after 2 messages or 1000 bytes; contains often 0-5 "often"`},
		{"often", frames.Text, `often` + strings.Repeat(" ", 1000), `matched; contains often 0-5 "often"`},
		{"pings", frames.Pong, ``, `matched; opcode pong`},
		{"pings", frames.Text, ``, `failed; opcode: got text, expected ping or pong`},
	} {
		e := p.Explain(inEveryScope(), frames.ToServer, c.op, []byte(c.text))
		if got := briefly(e, c.rule); got != c.want {
			t.Errorf("%s, %v %s:\ngot  %s\nwant %s", c.rule, c.op, c.text, got, c.want)
		}
		checkExplain(t, p, inEveryScope(), frames.ToServer, c.op, []byte(c.text))
	}
}

func TestExplainScope(t *testing.T) {
	p := mustParse(t, everyKey)
	explain := func(dir frames.Direction, change func(*Upgrade)) string {
		u := inEveryScope()
		change(&u)
		checkExplain(t, p, u, dir, frames.Text, []byte("x"))
		return briefly(p.Explain(u, dir, frames.Text, []byte("x")), "there")
	}
	for _, c := range []struct {
		change func(*Upgrade)
		want   string
	}{
		{func(u *Upgrade) {}, `matched; contains x 0-1 "x"`},
		{func(u *Upgrade) { u.Host = "" }, `out-of-scope; host: got none, expected "**.chat.example"`},
		{func(u *Upgrade) { u.Host = "evil\x1b[2J" }, `out-of-scope; host: got "evil\x1b[2J", expected "**.chat.example"`},
		{func(u *Upgrade) { u.Path = "/ws" }, `out-of-scope; path: got "/ws", expected "/ws/*" or "/socket"`},
		{func(u *Upgrade) { u.Origin = "https://a.app.example" }, `out-of-scope; origin: got "https://a.app.example", expected "https://*.app.example:8443" or "null"`},
		{func(u *Upgrade) { u.Subprotocol = "" }, `out-of-scope; subprotocol: got none, expected "v1"`},
		{func(u *Upgrade) { u.Client = netip.Addr{} }, `out-of-scope; client: got none, expected "10.0.0.0/8"`},
	} {
		if got := explain(frames.ToClient, c.change); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	if got, want := explain(frames.ToServer, func(*Upgrade) {}), `out-of-scope; direction: got to-server, expected to-client`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// An explanation follows the counts, and has no part in them.
func TestExplainCountsNothing(t *testing.T) {
	p := mustParse(t, everyKey)
	u := inEveryScope()
	s := p.Scope(u)
	text := []byte("often")
	for i := range 5 {
		want := Close
		if i < 2 {
			want = Drop
		}
		for range 3 {
			if got := p.Explain(u, frames.ToServer, frames.Text, text).Verdict.Action; got != want {
				t.Errorf("message %d: explained as %v, want %v", i+1, got, want)
			}
		}
		if got := s.Message(frames.ToServer, frames.Text, text).Action; got != want {
			t.Errorf("message %d: got %v, want %v", i+1, got, want)
		}
	}
}

func TestBrief(t *testing.T) {
	want := []string{
		` | contains "pan" (+1), keywords "CARD", json_all gone exists false (+1), json user.role equals "admin" (+1), detect payment-card (+1), regex "\\d{4}$" (+1), min_size 10, max_size 200, except contains "4111"`,
		` | regex "key=(\\w+)", entropy 2.5`,
		` | contains "often", over 2 messages or 1000 bytes in 10s per client`,
		` | ping,pong`,
		`to-client, host **.chat.example, path /ws/* (+1), origin https://*.app.example:8443 (+1), subprotocol v1, client 10.0.0.0/8 | contains "x"`,
		` | json roles.# matches "^x"`,
	}
	for i, r := range mustParse(t, everyKey).Rules() {
		if got := r.Scope + " | " + r.Match; got != want[i] {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
	}
}
