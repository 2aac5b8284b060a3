package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"framegate/policy/detect"
)

// A mistake is the text of one file and the errors that it must give, whose
// places are counted by hand.
type mistake struct {
	name string
	text string
	want string
}

const ruleA = "[[rule]]\nid = \"a\"\naction = \"log\"\n"

func checkMistakes(t *testing.T, list []mistake) {
	t.Helper()
	for _, m := range list {
		t.Run(m.name, func(t *testing.T) {
			p, err := Parse("a.toml", []byte(m.text))
			if err == nil {
				t.Fatalf("no error for\n%s", m.text)
			}
			if p != nil {
				t.Error("got a policy besides an error")
			}
			if got := err.Error(); got != strings.TrimSpace(m.want) {
				t.Errorf("%s\ngot:\n%s\nwant:\n%s", m.text, got, m.want)
			}
			if bad, ok := errors.AsType[*Error](err); !ok || bad.File != "a.toml" {
				t.Errorf("the error holds no *Error: %#v", err)
			}
		})
	}
}

func TestMistakesInDocument(t *testing.T) {
	checkMistakes(t, []mistake{
		{"syntax", "[policy\nname = \"x\"\n", `a.toml:1:8: expected '.' or ']' to end table name, but got '\n' instead`},
		{"control character at the beginning", "\x01", `a.toml:1:1: TOML files cannot contain control characters: '0x01'`},
		{"open string", "[policy]\nname = \"x\n", `a.toml:2:10: strings cannot contain newlines`},
		{"same key twice", ruleA + "id = \"b\"\n", `a.toml:4:1: Key 'rule.id' has already been defined.`},
		{"no escape sequence reaches a terminal", "\"\\u001b]0;x\" = 1\n\"\\u001b]0;x\" = 1\n", `a.toml:2:2: Key '"\u001b]0;x"' has already been defined.`},
		{"unknown keys everywhere",
			"colour = 1\n[policy]\nnmae = \"x\"\n" + ruleA + "when = 1\nrule = 2\n[rule.match]\ndetekt = [\"x\"]\n[rule.scope]\nport = [1]\n[rule.except]\nregexp = \"x\"\n[[rule.test]]\npayload = \"\"\nexpect = \"none\"\nwant = \"x\"\n[[connection]]\nid = \"c\"\ndecision = \"block\"\npath = [\"/\"]\n[rules]\n", `
a.toml:1:1: unknown key "colour" in a policy file, expected connection, policy, rule
a.toml:3:1: unknown key "nmae" in [policy], expected default, name (did you mean "name"?)
a.toml:7:1: unknown key "when" in [[rule]], expected action, code, description, except, id, match, mode, rate, reason, replace, scope, severity, tags, test, value
a.toml:8:1: unknown key "rule" in [[rule]], expected action, code, description, except, id, match, mode, rate, reason, replace, scope, severity, tags, test, value
a.toml:10:1: unknown key "detekt" in [rule.match], expected contains, detect, json, json_all, keywords, max_size, min_size, opcode, regex (did you mean "detect"?)
a.toml:12:1: unknown key "port" in [rule.scope], expected client, direction, host, origin, path, subprotocol
a.toml:14:1: unknown key "regexp" in [rule.except], expected contains, detect, json, json_all, keywords, max_size, min_size, opcode, regex (did you mean "regex"?)
a.toml:18:1: unknown key "want" in [[rule.test]], expected client, direction, expect, host, opcode, origin, path, payload, redacted, repeat, subprotocol
a.toml:22:1: unknown key "path" in [[connection]], expected client, decision, ech, fronting, host, id, server
a.toml:23:1: unknown key "rules" in a policy file, expected connection, policy, rule (did you mean "rule"?)`},
		{"not tables", "rule = 3\nconnection = [\"x\"]\npolicy = []\n", `
a.toml:1:8: rule: got 3, expected an array of tables, [[rule]]
a.toml:2:14: connection: got an array, expected an array of tables, [[connection]]
a.toml:3:10: policy: got an array, expected a table`},
		{"one rule as a table", "[rule]\nid = \"a\"\n", `a.toml:1:1: rule: got a table, expected an array of tables, [[rule]]`},
		{"types", "[policy]\nname = 1\n[[rule]]\nid = 7\naction = true\ntags = \"x\"\ndescription = 1.5\nscope = 1979-05-27\n", `
a.toml:2:8: name: got 1, expected a string
a.toml:4:6: id: got 7, expected a string
a.toml:5:10: action: got true, expected a string
a.toml:6:8: tags: got "x", expected a list of strings
a.toml:7:15: description: got 1.5, expected a string
a.toml:8:9: scope: got a date, expected a table`},
		{"inline", `rule = [ { id = "a", action = "log", "match" = { max_size = 1.5 } }, { id = "b", action = "lag" } ]`, `
a.toml:1:61: max_size: got 1.5, expected a size such as 512, "64KiB" or "1MB"
a.toml:1:91: action: got "lag", expected "allow" or "log" or "redact" or "drop" or "close" (did you mean "log"?)`},
		{"columns are characters", ruleA + "match = { regex = [\n  \"ok\", # é (\n  'é', 'è(',\n] }\n", `a.toml:6:8: regex: missing closing ) "è(", expected RE2 syntax`},
		{"after strings of several lines", "[policy]\nname = \"\"\"a\n[b]\nc = \\\"\"\"\"\"\"\n" + ruleA + "mode = '''off'''\n", `a.toml:8:8: mode: got "off", expected "enforce" or "shadow"`},
		{"carriage returns", strings.ReplaceAll(ruleA+"mode = \"off\"\n", "\n", "\r\n"), `a.toml:4:8: mode: got "off", expected "enforce" or "shadow"`},
	})
}

func TestMistakesInConditions(t *testing.T) {
	checkMistakes(t, []mistake{
		{"detect", ruleA + "match.detect = [\"payment-cart\", \"nothing\"]\n", `
a.toml:4:17: detect: got "payment-cart", expected one of ` + detectors + ` (did you mean "payment-card"?)
a.toml:4:33: detect: got "nothing", expected one of ` + detectors},
		{"json", ruleA + `[rule.match]
json = [
  { path = "user..role", equals = "admin" },
  { path = "a" },
  { equals = 1 },
  { path = "a", equals = [1] },
  { path = "a", equals = 1, in = [2] },
  { path = "a", in = [] },
  { path = "a", in = 3 },
  { path = "a", matches = "(" },
  { path = "a", gt = "1" },
  { path = "a", exists = "yes" },
  { path = "a", exists = false, lt = 1 },
  { path = "a", equal = 1 },
  { path = "a", equals = 1, every = 1 },
  { path = "a", exists = false, every = true },
]
json_all = []
`, `
a.toml:6:12: path: got "user..role", expected a name, a number or "#" at column 6 of it
a.toml:7:3: json = [{ path = ... }] asks nothing, expected one of equals, in, matches, exists, gt, lt
a.toml:8:3: json = [{ path = ... }] has no path, expected path = "name.name"
a.toml:9:27: equals: got an array, expected a string, a number or a bool
a.toml:10:34: in: got it beside equals, expected one of them
a.toml:11:22: in: got an array, expected a list of at least one value
a.toml:12:22: in: got 3, expected a list of at least one value
a.toml:13:27: matches: missing closing ) "(", expected RE2 syntax
a.toml:14:22: gt: got "1", expected a number
a.toml:15:26: exists: got "yes", expected true or false
a.toml:16:26: exists: got false beside other conditions, expected it alone
a.toml:17:3: json = [{ path = ... }] asks nothing, expected one of equals, in, matches, exists, gt, lt
a.toml:17:17: unknown key "equal" in json = [{ path = ... }], expected equals, every, exists, gt, in, lt, matches, path (did you mean "equals"?)
a.toml:18:37: every: got 1, expected true or false
a.toml:19:41: every: has no meaning beside exists = false
a.toml:21:12: json_all: got an empty list, expected at least one value`},
		{"value", ruleA + "[rule.value]\ngroup = 1\n[[rule]]\nid = \"b\"\naction = \"log\"\nmatch.regex = ['a(b)']\n[rule.value]\ngroup = 2\nentropy = -1\n[rule.value.except]\nword = [\"x\"]\nline = [\"(\"]\n", `
a.toml:4:1: [rule.value] is about what a regex matches, expected a regex in [rule.match]
a.toml:11:9: group: got 2, but regex "a(b)" has 1 groups
a.toml:12:11: entropy: got -1, expected bits for each character, from 0 to 8 or so
a.toml:14:1: unknown key "word" in [rule.value.except], expected line, match, regex, words (did you mean "words"?)
a.toml:15:9: line: missing closing ) "(", expected RE2 syntax`},
		{"rate", ruleA + "rate = { message = 3, per = \"clients\" }\n[[rule]]\nid = \"b\"\naction = \"log\"\nrate = { messages = 0, bytes = \"1 byte\", window = \"1ms\" }\n", `
a.toml:4:1: [rule.rate] has neither messages nor bytes, expected one of them at least
a.toml:4:1: [rule.rate] has no window, expected window = "10s" or the like
a.toml:4:10: unknown key "message" in [rule.rate], expected bytes, messages, per, window (did you mean "messages"?)
a.toml:4:29: per: got "clients", expected "connection" or "client" or "host" (did you mean "client"?)
a.toml:8:21: messages: got 0, expected a number above 0
a.toml:8:32: bytes: got "1 byte", expected a size such as 512, "64KiB" or "1MB"
a.toml:8:51: window: got "1ms", expected a duration from "1s" to "24h"`},
		{"never", ruleA + `match = { contains = ["longer", "than"], max_size = 3 }
[[rule]]
id = "b"
action = "log"
match = { regex = ['\d{9}'], max_size = 8 }
[[rule]]
id = "c"
action = "log"
match = { contains = ["a key", "my keys"] }
except = { contains = ["key"] }
[[rule]]
id = "d"
action = "log"
match = { opcode = ["ping"], json = [{ path = "a", exists = true }] }
`, `
a.toml:1:1: rule "a" can never match: every value of contains is longer than max_size, 3 bytes
a.toml:5:1: rule "b" can never match: every regex needs more than max_size, 8 bytes
a.toml:9:1: rule "c" can never match: [rule.except] excepts each value of contains in [rule.match]
a.toml:14:1: rule "d" can never match: a json condition is about messages, and opcode names control frames only`},
		{"deep regex", ruleA + "match.regex = ['" + strings.Repeat("(", 998) + "x" + strings.Repeat(")", 998) + "']\n",
			`a.toml:4:16: regex: "` + strings.Repeat("(", 60) + `..." nests too deeply, expected fewer levels`},
		{"large regex", ruleA + "match.regex = ['" + strings.Repeat("[a-z]{900}", 60) + "']\n",
			`a.toml:4:16: regex: "` + strings.Repeat("[a-z]{900}", 6) + `..." compiles to 54002 instructions, expected 50000 at most`},
	})
}

var detectors = func() string {
	var names []string
	for _, d := range detect.All() {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}()

func TestWarnings(t *testing.T) {
	p := mustParse(t, `
[[connection]]
id = "bank"
host = ["**.bank.example", "pay.example"]
decision = "bypass"
[[connection]]
id = "rest"
decision = "inspect"
[[connection]]
id = "late"
decision = "block"
[[rule]]
id = "pay"
action = "log"
scope.host = ["pay.example", "www.bank.example"]
[[rule]]
id = "pays"
action = "log"
scope.host = ["pay.example", "chat.example"]
[[rule]]
id = "pings"
action = "log"
match.opcode = ["ping"]
except.opcode = ["text"]
[[rule]]
id = "small"
action = "log"
match.max_size = 3
except.min_size = 4
`)
	var got []string
	for _, w := range p.Warnings() {
		got = append(got, w.String())
	}
	want := []string{
		`a.toml:12:1: "pay" is never asked: connection "bank" keeps its hosts from being inspected`,
		`a.toml:20:1: "pings" has a [rule.except] that no message of its [rule.match] meets`,
		`a.toml:25:1: "small" has a [rule.except] that no message of its [rule.match] meets`,
		`a.toml:9:1: "late" is never asked: connection "rest" before it matches every connection`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// FuzzParse makes sure that no text makes Parse panic, and that what it says of
// it is printable and points into it.
func FuzzParse(f *testing.F) {
	// Short ones, since the fuzzer spends its time on making long ones shorter.
	for _, seed := range []string{
		ruleA + "match.regex = ['(']\n\"min_size\".x = \"1\"\n",
		ruleA + "[rule.scope]\nhost = [\"*.\u00fc\"]\norigin = [\"a://b:1\"]\npath = [\"/%41\"]\n",
		ruleA + "match = { max_size = \"1KiB\" }\n[[rule.test]]\npayload = \"x\"\nexpect = \"log\"\n",
		redacting("a", "replace = \"\"\nmatch = { contains = ['a'], regex = ['.'], opcode = ['text'] }\ntest = [ { payload = 'a', expect = 'redact', redacted = '' } ]"),
		"[[connection]]\nid = \"c\"\ndecision = \"block\"\nclient = [\"::/0\"]\n",
		"a.\"b\\u0020c\".'d' = [ { e = [[\"\"\"\\\"\"\"\"], 'f', '''g''''] }, 0x1F, 1979-05-27T07:32:00Z ] # ]\n[[x.y]]\n[x.y.z]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("a.toml", data)
		if (p == nil) == (err == nil) {
			t.Fatalf("got policy %v and error %v", p, err)
		}
		if err != nil {
			lines := strings.Count(string(data), "\n") + 1
			for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
				bad := e.(*Error)
				if bad.Line < 0 || bad.Line > lines || bad.Column < 0 || bad.Column > len(data)+1 {
					t.Errorf("%v: outside of the text", bad)
				}
				if printable(bad.Message) != bad.Message {
					t.Errorf("not printable: %q", bad.Message)
				}
			}
			return
		}
		p.RunTests()
		p.Connection(Flow{Host: "chat.example"})
		v := p.Scope(Upgrade{Host: "chat.example", Path: "/ws"}).Message(0, 1, data)
		v.Redact(data)
	})
}
