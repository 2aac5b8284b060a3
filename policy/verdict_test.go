package policy

import (
	"fmt"
	"strings"
	"testing"

	"framegate/frames"
)

// judged is a verdict in one line.
func judged(v Verdict) string {
	s := v.Action.String()
	if v.Action == Close || v.Code != 0 || v.Reason != "" {
		s += fmt.Sprintf(" %d %q", v.Code, v.Reason)
	}
	s += " " + strings.Join(v.Rules, ",")
	if v.Shadow != nil {
		s += " shadow " + strings.Join(v.Shadow, ",")
	}
	return s
}

// one is a rule that looks for a word; more are further lines of it.
func one(id, action, word string, more ...string) string {
	return fmt.Sprintf("[[rule]]\nid = %q\naction = %q\n%s\nmatch.contains = [%q]\n", id, action, strings.Join(more, "\n"), word)
}

func TestPrecedence(t *testing.T) {
	rules := []string{
		one("allows", "allow", "A"),
		one("logs", "log", "L"),
		one("drops", "drop", "D"),
		one("closes", "close", "C"),
		one("leaves", "close", "G", "code = 4001", "reason = \"go away\""),
		one("tried", "close", "S", "mode = \"shadow\"", "code = 4002"),
	}
	for _, c := range []struct{ message, allow, drop, close string }{
		{"", "allow ", "drop ", `close 1008 "policy violation" `},
		{"A", "allow allows", "allow allows", "allow allows"},
		{"AL", "log allows,logs", "log allows,logs", "log allows,logs"},
		{"D", "drop drops", "drop drops", "drop drops"},
		{"DLA", "drop allows,logs,drops", "drop allows,logs,drops", "drop allows,logs,drops"},
		{"C", `close 1008 "policy violation" closes`, `close 1008 "policy violation" closes`, `close 1008 "policy violation" closes`},
		{"GD", `close 4001 "go away" drops,leaves`, `close 4001 "go away" drops,leaves`, `close 4001 "go away" drops,leaves`},
		{"CG", `close 1008 "policy violation" closes,leaves`, `close 1008 "policy violation" closes,leaves`, `close 1008 "policy violation" closes,leaves`},
		// A rule in shadow mode neither acts nor keeps the default from acting.
		{"S", "allow  shadow tried", "drop  shadow tried", `close 1008 "policy violation"  shadow tried`},
		{"SL", "log logs shadow tried", "log logs shadow tried", "log logs shadow tried"},
	} {
		for def, want := range map[string]string{"allow": c.allow, "drop": c.drop, "close": c.close} {
			text := fmt.Sprintf("[policy]\ndefault = %q\n%s", def, strings.Join(rules, ""))
			s := mustParse(t, text).Scope(Upgrade{})
			if got := judged(s.Message(frames.ToServer, frames.Text, []byte(c.message))); got != want {
				t.Errorf("default %s, %q: got %s, want %s", def, c.message, got, want)
			}
		}
	}

	// The order of the rules decides the order of the ids, and nothing else.
	backwards := mustParse(t, rules[3]+rules[2]+rules[1]+rules[0]).Scope(Upgrade{})
	if got := judged(backwards.Message(frames.ToServer, frames.Text, []byte("ALDC"))); got != `close 1008 "policy violation" closes,drops,logs,allows` {
		t.Errorf("backwards: got %s", got)
	}
}

// Control frames keep a connection alive and in order. Only a rule that names
// them is about them.
func TestControlFrames(t *testing.T) {
	s := mustParse(t, `
[policy]
default = "drop"
[[rule]]
id = "everything"
action = "close"
[rule.match]
min_size = 3
[[rule]]
id = "pings"
action = "log"
[rule.match]
opcode = ["ping", "pong"]
contains = ["tunnel"]
[[rule]]
id = "closes"
action = "drop"
[rule.match]
opcode = ["close"]
regex = ['(?s)^\x{3}..bye$', 'bye']
[[rule]]
id = "text"
action = "allow"
match.opcode = ["text"]
`).Scope(Upgrade{})
	for _, c := range []struct {
		op   frames.Opcode
		data string
		want string
	}{
		{frames.Text, "ab", "allow text"},
		{frames.Text, "abc", `close 1008 "policy violation" everything,text`},
		{frames.Binary, "ab", "drop "},
		{frames.Binary, "abc", `close 1008 "policy violation" everything`},
		{frames.Ping, "", "allow "},
		{frames.Ping, "abcdef", "allow "},
		{frames.Ping, "a tunnel", "log pings"},
		{frames.Pong, "a tunnel", "log pings"},
		{frames.Close, "a tunnel", "allow "},
		{frames.Close, "\x03\xe8", "allow "},
		{frames.Close, "\x03\xe8bye", "drop closes"},
		{frames.Text, "bye", `close 1008 "policy violation" everything,text`},
		// What no standard has defined yet is data, lest it escape.
		{3, "abc", `close 1008 "policy violation" everything`},
	} {
		if got := judged(s.Message(frames.ToClient, c.op, []byte(c.data))); got != c.want {
			t.Errorf("%v %q: got %s, want %s", c.op, c.data, got, c.want)
		}
	}
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		name, rule string
		yes, no    []string
	}{
		{"nothing", ``, []string{"", "x"}, nil},
		{"sizes are inclusive", `match = { min_size = 2, max_size = "4B" }`, []string{"ab", "abc", "abcd"}, []string{"", "a", "abcde"}},
		{"sizes are of bytes", `match = { max_size = 1 }`, []string{"e"}, []string{"é"}},
		{"one exact size", `match = { min_size = 1, max_size = 1 }`, []string{"a"}, []string{"", "ab"}},
		{"any of a key", `match = { contains = ["one", "two"] }`, []string{"one", "a two", "onetwo"}, []string{"", "One", "tw o"}},
		{"all of the keys", `match = { contains = ["one"], regex = ['\d'], min_size = 5 }`, []string{"one 1", "1 one"}, []string{"one", "one x", "1 two", "one1"}},
		{"a string longer than the automaton looks at", `match = { contains = ["0123456789abcdefghijklmnopqrstuvwxyz!"] }`,
			[]string{"0123456789abcdefghijklmnopqrstuvwxyz!", "01230123456789abcdefghijklmnopqrstuvwxyz!?"},
			[]string{"0123456789abcdefghijklmnopqrstuvwxyz", "0123456789abcdefghijklmnopqrstuvwxyz?", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ!"}},
		{"except by text", `match = { contains = ["key"] }
except = { contains = ["test key", "no key"] }`, []string{"a key"}, []string{"a test key", "no key", "key and test key", "test"}},
		{"except by all of its keys", `match = { contains = ["key"] }
except = { contains = ["test"], max_size = 8 }`, []string{"a key", "a test key"}, []string{"key test"}},
		{"except by size", `match = { contains = ["key"] }
except = { max_size = 4 }`, []string{"a key"}, []string{"key", "keys"}},
		{"except by regex", `match = { regex = ['key'] }
except = { regex = ['^test'] }`, []string{"key test"}, []string{"test key"}},
		{"except by opcode", `except = { opcode = ["text"] }`, nil, []string{"", "x"}},
		{"bytes that are not UTF-8", `match = { regex = ['^a\x{FFFD}b$'] }`, []string{"a\xffb", "a\u00e9b"[:2] + "b", "a\ufffdb"}, []string{"ab", "aéb"}},
		{"Unicode folding", `match = { regex = ['(?i)^kiss$'] }`, []string{"kiss", "KISS", "\u212ai\u017fs"}, []string{"kis", "\u212b"}},
	} {
		s := mustParse(t, ruleA+c.rule).Scope(Upgrade{})
		for i, m := range append(c.yes, c.no...) {
			if got, want := s.Message(0, frames.Text, []byte(m)).Action == Log, i < len(c.yes); got != want {
				t.Errorf("%s, %q: got %t, want %t", c.name, m, got, want)
			}
		}
	}
}

// A test of a rule that says nothing of its scope is inside of it.
func TestRunTests(t *testing.T) {
	p := mustParse(t, `
[policy]
default = "close"
[[rule]]
id = "a"
action = "drop"
mode = "shadow"
[rule.scope]
direction = "to-client"
host = ["**.chat.example"]
path = ["/ws"]
origin = ["https://app.example"]
subprotocol = ["mqtt"]
client = ["10.0.0.0/8"]
[rule.match]
opcode = ["ping"]
contains = ["x"]
[[rule.test]]
payload = "x"
expect = "drop"
[[rule.test]]
payload = "y"
expect = "none"
[[rule.test]]
payload = "x"
direction = "to-client"
host = "a.chat.example"
path = "/ws?a"
origin = "https://app.example"
subprotocol = "mqtt"
client = "10.0.0.1"
opcode = "ping"
expect = "drop"
[[rule.test]]
payload = "x"
direction = "to-server"
expect = "none"
[[rule.test]]
payload = "x"
host = "feed.example"
expect = "none"
[[rule.test]]
payload = "x"
path = "/"
expect = "none"
[[rule.test]]
payload = "x"
origin = ""
expect = "none"
[[rule.test]]
payload = "x"
subprotocol = "v1"
expect = "none"
[[rule.test]]
payload = "x"
client = "192.0.2.1"
expect = "none"
[[rule.test]]
payload = "x"
opcode = "pong"
expect = "none"
[[rule.test]]
payload = "y"
expect = "drop"
`)
	results := p.RunTests()
	if len(results) != 11 {
		t.Fatalf("got %d results", len(results))
	}
	for i, r := range results {
		if want := i < 10; r.Passed() != want {
			t.Errorf("got %+v, passed should be %t", r, want)
		}
	}
	if got, want := results[10], (TestResult{"a", "a.toml", 62, 1, "drop", None}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
