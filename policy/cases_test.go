package policy

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

const casePolicy = `
[[rule]]
id = "cards"
action = "redact"
match.detect = ["payment-card"]

[[rule]]
id = "chat"
action = "drop"
scope = { host = ["chat.example"], direction = "to-client", client = ["10.0.0.0/8"], path = ["/ws"], origin = ["null"], subprotocol = ["v1"] }

[[rule]]
id = "trial"
action = "close"
mode = "shadow"
match.opcode = ["binary"]

[[rule]]
id = "often"
action = "close"
match.contains = ["often"]
rate = { messages = 3, window = "1m" }
`

func TestCases(t *testing.T) {
	p := mustParse(t, casePolicy)
	for _, c := range []struct{ text, want string }{
		{"payload = \"\"\nexpect = \"allow\"\nrules = []\nshadow = []", ``},
		{"payload = \"pan 4012888888881881\"\nexpect = \"redact\"\nrules = [\"cards\"]\nredacted = \"pan ****************\"", ``},
		{"payload = \"pan 4012888888881881\"\nexpect = \"redact\"\nredacted = \"\\u001b\"", `redacted "\x1b" "pan ****************"`},
		{"payload = \"pan 4012888888881881\"\nexpect = \"allow\"\nrules = []", `expect allow redact; rules [] [cards]`},
		{"payload = \"\"\nexpect = \"redact\"\nrules = [\"often\", \"cards\", \"often\"]\nredacted = \"\"", `expect redact allow; rules [cards, often] []`},
		{"payload = \"\"\nexpect = \"drop\"\nhost = \"chat.example\"\ndirection = \"to-client\"\nclient = \"10.0.0.1\"\npath = \"/ws\"\norigin = \"null\"\nsubprotocol = \"v1\"\nrules = [\"chat\"]", ``},
		{"payload = \"\"\nexpect = \"drop\"\ndirection = \"to-client\"", `expect drop allow`}, // what is not given is not known
		{"payload_file = \"card.bin\"\nopcode = \"binary\"\nexpect = \"redact\"\nrules = [\"cards\"]\nshadow = [\"trial\"]", ``},
		{"payload_base64 = \"NDAxMjg4ODg4ODg4MTg4MQ==\"\nexpect = \"redact\"\nshadow = [\"trial\"]", `shadow [trial] []`},
		{"payload = \"often\"\nrepeat = 3\nexpect = \"allow\"", ``},
		{"payload = \"often\"\nrepeat = 4\nexpect = \"close\"", ``},
		{"payload = \"often\"\nexpect = \"allow\"", ``}, // counts of others have no part
	} {
		dir := write(t, map[string]string{"card.bin": "4012888888881881", "c.toml": "[[case]]\nname = \"n\"\n" + c.text})
		// Twice at once: no case has part in the counts of another.
		cases, err := p.LoadCases([]string{filepath.Join(dir, "*.toml")})
		if err != nil {
			t.Errorf("%s\n%v", c.text, err)
			continue
		}
		for _, r := range p.RunCases(append(cases, cases...)) {
			var list []string
			for _, d := range r.Differences {
				list = append(list, fmt.Sprintf("%s %s %s", d.Key, d.Want, d.Got))
			}
			if got := strings.Join(list, "; "); got != c.want || r.Passed() != (c.want == "") {
				t.Errorf("%s\ngot  %s\nwant %s", c.text, got, c.want)
			}
			if r.Name != "n" || r.Line != 1 || r.Column != 1 || filepath.Base(r.File) != "c.toml" {
				t.Errorf("%+v", r.Case)
			}
		}
	}
}

func TestMistakesInCases(t *testing.T) {
	p := mustParse(t, casePolicy)
	dir := write(t, map[string]string{
		"a.toml": `when = 1
[[case]]
[[case]]
payload = "a"
payload_file = "none.bin"
expect = "redakt"
[[case]]
payload_base64 = "???"
expect = "allow"
rules = ["crads", 7]
redacted = "x"
[[case]]
payload = 1
expect = "log"
direction = "both"
opcode = "txt"
client = "me"
repeat = 0
colour = "red"
`,
		"b.toml": "[[case",
	})
	want := `a.toml:1:1: unknown key "when" in a file of cases, expected case
a.toml:2:1: [[case]] has no payload, expected one of payload, payload_file, payload_base64
a.toml:2:1: [[case]] has no expect, expected "allow" or "log" or "redact" or "drop" or "close"
a.toml:5:1: payload_file: got it beside payload, expected one of them
a.toml:5:16: payload_file: got "none.bin", cannot be read: no such file or directory
a.toml:6:10: expect: got "redakt", expected "allow" or "log" or "redact" or "drop" or "close" (did you mean "redact"?)
a.toml:8:18: payload_base64: got "???", expected base64
a.toml:10:10: rules: got "crads", expected the id of a rule (did you mean "cards"?)
a.toml:10:19: rules: got 7, expected a string
a.toml:11:12: redacted: has no meaning here, expected it beside expect = "redact" only
a.toml:13:11: payload: got 1, expected a string
a.toml:15:13: direction: got "both", expected "to-server" or "to-client"
a.toml:16:10: opcode: got "txt", expected "text" or "binary" or "ping" or "pong" or "close" (did you mean "text"?)
a.toml:17:10: client: got "me", expected an address
a.toml:18:10: repeat: got 0, expected a number from 1 to 100000
a.toml:19:1: unknown key "colour" in [[case]], expected client, direction, expect, host, name, opcode, origin, path, payload, payload_base64, payload_file, redacted, repeat, rules, shadow, subprotocol
b.toml:1:6: `
	_, err := p.LoadCases([]string{dir + "/*.toml"})
	if err == nil {
		t.Fatal("no mistake was found")
	}
	got := strings.ReplaceAll(err.Error(), dir+"/", "")
	if !strings.HasPrefix(got, want) || strings.Count(got, "\n") != strings.Count(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := p.LoadCases([]string{filepath.Join(dir, "none.toml")}); err == nil {
		t.Error("a file that does not exist was read")
	}
}

func TestRepeatedTests(t *testing.T) {
	rule := func(dir, tests string) string {
		return "[[rule]]\nid = \"often\"\naction = \"drop\"\nscope.direction = \"" + dir + "\"\nmatch.contains = [\"often\"]\n" +
			"rate = { messages = 3, bytes = 100, window = \"1s\", per = \"host\" }\n" + tests
	}
	test := func(payload string, repeat int, expect string) string {
		return fmt.Sprintf("[[rule.test]]\npayload = %q\nrepeat = %d\nexpect = %q\n", payload, repeat, expect)
	}
	long := "often" + strings.Repeat(".", 45)
	for _, dir := range []string{"to-server", "both"} {
		p := mustParse(t, rule(dir, test("often", 3, "none")+test("often", 4, "drop")+test("often", 1, "none")+
			test(long, 2, "none")+test(long, 3, "drop")+test("other", 1000, "none")))
		for _, r := range append(p.RunTests(), p.RunTests()...) {
			if !r.Passed() {
				t.Errorf("%s: %+v", dir, r)
			}
		}
		// Tests have no part in the counts of connections that come without Rates.
		if got := count(p.Scope(Upgrade{}), 3, "often"); got != 0 {
			t.Errorf("%s: %d over the rate", dir, got)
		}
	}
	_, err := Parse("a.toml", []byte("[[rule]]\nid = \"a\"\naction = \"log\"\n"+test("", 2, "log")))
	if want := "a.toml:6:1: repeat: has no meaning here, expected it for a rule with [rule.rate] only"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
