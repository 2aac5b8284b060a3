package policy

import (
	"errors"
	"strings"
	"testing"
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
a.toml:3:1: unknown key "nmae" in [policy], expected default, name
a.toml:7:1: unknown key "when" in [[rule]], expected action, code, description, except, id, match, mode, reason, replace, scope, severity, tags, test
a.toml:8:1: unknown key "rule" in [[rule]], expected action, code, description, except, id, match, mode, reason, replace, scope, severity, tags, test
a.toml:10:1: unknown key "detekt" in [rule.match], expected contains, max_size, min_size, opcode, regex
a.toml:12:1: unknown key "port" in [rule.scope], expected client, direction, host, origin, path, subprotocol
a.toml:14:1: unknown key "regexp" in [rule.except], expected contains, max_size, min_size, opcode, regex
a.toml:18:1: unknown key "want" in [[rule.test]], expected client, direction, expect, host, opcode, origin, path, payload, redacted, subprotocol
a.toml:22:1: unknown key "path" in [[connection]], expected client, decision, host, id, server
a.toml:23:1: unknown key "rules" in a policy file, expected connection, policy, rule`},
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
a.toml:1:91: action: got "lag", expected "allow" or "log" or "redact" or "drop" or "close"`},
		{"columns are characters", ruleA + "match = { regex = [\n  \"ok\", # é (\n  'é', 'è(',\n] }\n", `a.toml:6:8: regex: missing closing ) "è(", expected RE2 syntax`},
		{"after strings of several lines", "[policy]\nname = \"\"\"a\n[b]\nc = \\\"\"\"\"\"\"\n" + ruleA + "mode = '''off'''\n", `a.toml:8:8: mode: got "off", expected "enforce" or "shadow"`},
		{"carriage returns", strings.ReplaceAll(ruleA+"mode = \"off\"\n", "\n", "\r\n"), `a.toml:4:8: mode: got "off", expected "enforce" or "shadow"`},
	})
}

// What is written in a later part of the format must be refused, not ignored.
func TestNotSupported(t *testing.T) {
	checkMistakes(t, []mistake{
		{"detect, json", ruleA + "[rule.match]\ndetect = [\"payment-card\"]\njson = [{ path = \"user.role\", equals = \"admin\" }]\n[rule.except]\ndetect = [\"iban\"]\n", `
a.toml:5:1: detect is not supported by this version
a.toml:6:1: json is not supported by this version
a.toml:8:1: detect is not supported by this version`},
		{"rate", ruleA + "rate = { count = 3, per = \"1s\" }\n", `a.toml:4:1: rate is not supported by this version`},
	})
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
