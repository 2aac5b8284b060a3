package policy

import (
	"strings"
	"testing"
)

func TestMistakesInRules(t *testing.T) {
	checkMistakes(t, []mistake{
		{"no id", "[[rule]]\naction = \"log\"\n", `a.toml:1:1: [[rule]] has no id, expected id = "some-name"`},
		{"no action", "[[rule]]\nid = \"a\"\n", `a.toml:1:1: [[rule]] has no action, expected "allow" or "log" or "redact" or "drop" or "close"`},
		{"bad ids", "[[rule]]\nid = \"\"\naction = \"log\"\n[[rule]]\nid = \"two words\"\naction = \"log\"\n", `
a.toml:2:6: id: got "", expected letters, digits and any of - _ . : /
a.toml:5:6: id: got "two words", expected letters, digits and any of - _ . : /`},
		{"same id twice", ruleA + "\n" + ruleA, `a.toml:6:6: id: got "a", which is taken at a.toml:2, expected one that is not`},
		{"rule and connection", "[[connection]]\nid = \"a\"\ndecision = \"block\"\n" + ruleA, `a.toml:5:6: id: got "a", which is taken at a.toml:2, expected one that is not`},
		{"unknown action, and no word on tests that expect it", "[[rule]]\nid = \"a\"\naction = \"block\"\n[[rule.test]]\npayload = \"x\"\nexpect = \"block\"\n",
			`a.toml:3:10: action: got "block", expected "allow" or "log" or "redact" or "drop" or "close"`},
		{"words", ruleA + "severity = \"urgent\"\nmode = \"off\"\nscope = { direction = \"up\" }\n", `
a.toml:4:12: severity: got "urgent", expected "info" or "low" or "medium" or "high" or "critical"
a.toml:5:8: mode: got "off", expected "enforce" or "shadow"
a.toml:6:23: direction: got "up", expected "to-server" or "to-client" or "both"`},
		{"default", "[policy]\ndefault = \"log\"\n", `a.toml:2:11: default: got "log", expected "allow" or "drop" or "close"`},
		{"regex", ruleA + "[rule.match]\nregex = ['fine', '(?=x)', \"a{2000}\", '[', \"(\\n\\u001b\"]\n", `
a.toml:5:18: regex: invalid or unsupported Perl syntax "(?=", expected RE2 syntax
a.toml:5:27: regex: invalid repeat count "{2000}", expected RE2 syntax
a.toml:5:38: regex: missing closing ] "[", expected RE2 syntax
a.toml:5:43: regex: missing closing ) "(\n\x1b", expected RE2 syntax`},
		{"contains, opcode", ruleA + "[rule.match]\ncontains = [\"a\", \"\", 3]\nopcode = [\"text\", \"txt\"]\n[rule.except]\nopcode = []\n", `
a.toml:5:18: contains: got an empty string, expected some text
a.toml:5:22: contains: got 3, expected a string
a.toml:6:19: opcode: got "txt", expected "text" or "binary" or "ping" or "pong" or "close" (did you mean "text"?)
a.toml:8:10: opcode: got an empty list, expected at least one value`},
		{"sizes", ruleA + "[rule.match]\nmin_size = \"64 kb\"\nmax_size = -1\n", `
a.toml:5:12: min_size: got "64 kb", expected a size such as 512, "64KiB" or "1MB"
a.toml:6:12: max_size: got -1, expected a size such as 512, "64KiB" or "1MB"`},
		{"sizes in the wrong order", ruleA + "[rule.match]\nmin_size = \"2KiB\"\nmax_size = \"1KiB\"\n", `a.toml:5:12: min_size: got more than max_size, expected 1024 bytes at most`},
		{"an except that is always true", ruleA + "[rule.except]\n", `a.toml:4:1: [rule.except] is empty, which would except every message, expected a condition`},
		{"scope", ruleA + `[rule.scope]
client = ["10.0.0.1/8", "fe80::1%eth0", "10.0.0.0/33"]
host = ["https://a.example", "a.example:443", "*.b*.example", "a..b", "a b", "\u0378.example"]
path = ["ws", "/a*", "/a?b"]
origin = ["app.example", "https://a*.example"]
subprotocol = [""]
`, `
a.toml:5:11: client: got "10.0.0.1/8", has host bits set, expected 10.0.0.0/8
a.toml:5:25: client: got "fe80::1%eth0", expected an address or a network such as "10.0.0.0/8"
a.toml:5:41: client: got "10.0.0.0/33", expected an address or a network such as "10.0.0.0/8"
a.toml:6:9: host: got "https://a.example", expected a host without scheme and port
a.toml:6:30: host: got "a.example:443", expected a host without scheme and port
a.toml:6:47: host: got "*.b*.example", expected "*" or "**" as a whole label
a.toml:6:63: host: got "a..b", expected no empty label
a.toml:6:71: host: got "a b", expected a host name or address
a.toml:6:78: host: got "\u0378.example", expected a name that IDNA allows
a.toml:7:9: path: got "ws", expected a path that begins with "/", without query
a.toml:7:15: path: got "/a*", expected "*" or "**" as a whole segment
a.toml:7:22: path: got "/a?b", expected a path that begins with "/", without query
a.toml:8:11: origin: got "app.example", expected an origin such as "https://app.example" or "null"
a.toml:8:26: origin: got "https://a*.example", expected "*" or "**" as a whole label
a.toml:9:16: subprotocol: got an empty string, expected some text`},
		{"close codes that may not be sent", closing("a", "code = 1005") + closing("b", "code = 1006") + closing("c", "code = 999") + closing("d", "code = 5000") + closing("e", "code = 1004") + closing("f", "code = 66544") + closing("g", "code = \"1008\""), `
a.toml:4:8: code: got 1005, expected a close code that may be sent, such as 1008 or one from 3000 to 4999
a.toml:8:8: code: got 1006, expected a close code that may be sent, such as 1008 or one from 3000 to 4999
a.toml:12:8: code: got 999, expected a close code that may be sent, such as 1008 or one from 3000 to 4999
a.toml:16:8: code: got 5000, expected a close code that may be sent, such as 1008 or one from 3000 to 4999
a.toml:20:8: code: got 1004, expected a close code that may be sent, such as 1008 or one from 3000 to 4999
a.toml:24:8: code: got 66544, expected a close code that may be sent, such as 1008 or one from 3000 to 4999
a.toml:28:8: code: got "1008", expected a close code that may be sent, such as 1008 or one from 3000 to 4999`},
		{"a reason that is too long for its frame", closing("h", "reason = \""+strings.Repeat("é", 62)+"\""), `a.toml:4:10: reason: got 124 bytes, expected 123 at most`},
		{"code and reason of what does not close", ruleA + "code = 1008\nreason = \"x\"\n", `
a.toml:4:8: code: has no meaning here, expected it beside action = "close" only
a.toml:5:10: reason: has no meaning here, expected it beside action = "close" only`},
		{"redact without anything to replace", redacting("a", "") + redacting("b", "match.min_size = 3"), `
a.toml:3:10: action: "redact" has nothing to replace, expected one of contains, keywords, regex, detect, json, json_all in [rule.match]
a.toml:7:10: action: "redact" has nothing to replace, expected one of contains, keywords, regex, detect, json, json_all in [rule.match]`},
		{"redact of nothing", redacting("a", `match.regex = ['x', 'x*', '\b', '^', 'a|']`), `
a.toml:4:21: regex: "x*" may match no character at all, expected at least one beside action = "redact"
a.toml:4:27: regex: "\\b" may match no character at all, expected at least one beside action = "redact"
a.toml:4:33: regex: "^" may match no character at all, expected at least one beside action = "redact"
a.toml:4:38: regex: "a|" may match no character at all, expected at least one beside action = "redact"`},
		{"redact of control frames", redacting("a", `match = { contains = ["x"], opcode = ["text", "ping", "tekst", "close"] }`), `
a.toml:4:47: opcode: got "ping", expected "text" or "binary" beside action = "redact"
a.toml:4:55: opcode: got "tekst", expected "text" or "binary" or "ping" or "pong" or "close"
a.toml:4:64: opcode: got "close", expected "text" or "binary" beside action = "redact"`},
		{"a contains that is wrong is not reported twice", redacting("a", `match.contains = []`), `a.toml:4:18: contains: got an empty list, expected at least one value`},
		{"replace and redacted of what does not redact", ruleA + "replace = \"x\"\n[[rule.test]]\npayload = \"x\"\nexpect = \"log\"\nredacted = \"y\"\n", `
a.toml:4:11: replace: has no meaning here, expected it beside action = "redact" only
a.toml:8:12: redacted: has no meaning here, expected it beside expect = "redact" only`},
		{"replace of the wrong type", redacting("a", "replace = 3\nmatch.contains = ['x']"), `a.toml:4:11: replace: got 3, expected a string`},
		{"connection, keys without a meaning", "[[connection]]\nid = \"a\"\ndecision = \"block\"\nfronting = \"allow\"\n[[connection]]\nid = \"b\"\ndecision = \"bypass\"\nech = \"inspect\"\n[[connection]]\nid = \"c\"\ndecision = \"no\"\nech = \"inspect\"\n", `
a.toml:4:12: fronting: has no meaning here, expected it beside decision = "inspect" only
a.toml:8:7: ech: has no meaning here, expected it beside decision = "bypass" and host only
a.toml:11:12: decision: got "no", expected "inspect" or "bypass" or "block"`},
		{"connection", "[[connection]]\nid = \"c\"\n[[connection]]\ndecision = \"pass\"\nhost = []\nclient = [\"10.0.0.0/8\", \"office\"]\nserver = [\"::ffff:10.0.0.1/104\"]\n", `
a.toml:1:1: [[connection]] has no decision, expected "inspect" or "bypass" or "block"
a.toml:3:1: [[connection]] has no id, expected id = "some-name"
a.toml:4:12: decision: got "pass", expected "inspect" or "bypass" or "block"
a.toml:5:8: host: got an empty list, expected at least one value
a.toml:6:25: client: got "office", expected an address or a network such as "10.0.0.0/8"
a.toml:7:11: server: got "::ffff:10.0.0.1/104", has host bits set, expected 10.0.0.0/8`},
		{"tests", ruleA + "[[rule.test]]\n[[rule.test]]\npayload = \"x\"\nexpect = \"drop\"\nclient = \"10.0.0.0/8\"\nopcode = \"frame\"\ndirection = \"both\"\n", `
a.toml:4:1: [[rule.test]] has no payload, expected payload = "..."
a.toml:4:1: [[rule.test]] has no expect, expected "log" or "none"
a.toml:7:10: expect: got "drop", expected "log" or "none"
a.toml:8:10: client: got "10.0.0.0/8", expected an address
a.toml:9:10: opcode: got "frame", expected "text" or "binary" or "ping" or "pong" or "close"
a.toml:10:13: direction: got "both", expected "to-server" or "to-client"`},
	})
}

// closing is a rule of four lines that closes.
func closing(id, line string) string {
	return "[[rule]]\nid = \"" + id + "\"\naction = \"close\"\n" + line + "\n"
}

// redacting is a rule that redacts; its lines begin at line 4.
func redacting(id, lines string) string {
	return "[[rule]]\nid = \"" + id + "\"\naction = \"redact\"\n" + lines + "\n"
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0B": 0, "0": 0, "512": 512, "10KB": 10_000, "1 MiB": 1 << 20, "1MB": 1_000_000,
		"64KiB": 64 << 10, "2GiB": 2 << 30, "3GB": 3_000_000_000, "7B": 7,
	} {
		if got, err := parseSize(s); got != want || err != nil {
			t.Errorf("%q: got %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "B", "KiB", "1  MiB", " 1MiB", "-1", "+1", "1.5MB", "1kb", "1TiB", "0x10", "9223372036854775808", "9007199254740993KiB", "10 000"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("%q: got %d, want an error", s, got)
		}
	}
}
