package policy

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"framegate/frames"
	"framegate/policy/detect"
	"framegate/policy/jsonpath"
)

// hits reports whether the rule with these lines matches.
func hits(t *testing.T, lines, message string) bool {
	t.Helper()
	s := mustParse(t, "[[rule]]\nid = \"a\"\naction = \"log\"\n"+lines).Scope(Upgrade{})
	return s.Message(frames.ToServer, frames.Text, []byte(message)).Rules != nil
}

func TestContent(t *testing.T) {
	long := strings.Repeat("Abcdefgh", 6) // more than the automaton looks at
	for _, c := range []struct {
		name, lines string
		yes, no     []string
	}{
		{"keywords", `match.keywords = ["Nightjar", "two words"]`,
			[]string{"nightjar", "NIGHTJARS", "aNiGhTjAr", "TWO WORDS", `{"a":"n\u0069ghtjar"}`}, []string{"night jar", "two  words", "twowords", "nightja"}},
		{"keywords longer than a key", fmt.Sprintf(`match.keywords = [%q]`, long),
			[]string{long, strings.ToUpper(long), "x" + strings.ToLower(long) + "x"}, []string{long[:47], strings.Replace(long, "h", "x", 5), long[:40] + "Abcdefgx"}},
		{"keywords fold ASCII alone", `match.keywords = ["Straße", "Kelvin"]`,
			[]string{"sTRAßE", "kelvin"}, []string{"STRASSE", "straẞe", "\u212aelvin", "ſtraße"}},
		{"contains and keywords, both", `match = { contains = ["Key"], keywords = ["secret"] }`,
			[]string{"Key SECRET", "secretKey"}, []string{"Key", "secret", "key secret"}},
		{"keywords that except", "match.contains = [\"key\"]\nexcept.keywords = [\"TEST\"]", []string{"key"}, []string{"a test key"}},
		{"detectors that except", "match.contains = [\"card\"]\nexcept.detect = [\"payment-card\"]",
			[]string{"card 4111 1111 1111 1112"}, []string{"card 4111 1111 1111 1111", `{"card":"\u0034111 1111 1111 1111"}`}},
		{"a literal and none, two detectors", `match.detect = ["email", "us-ssn"]`, []string{"a@mail.example", "123-45-6789"}, []string{"a@b", "123-45-678"}},

		{"json equals", `match.json = [{ path = "a.b", equals = "x" }]`,
			[]string{`{"a":{"b":"x"}}`, `{"a":{"b":"\u0078"}}`, `{"\u0061":{"b":"x"}}`, `{"a":{"b":1,"b":"x"}}`, `{"a":{"b":"x","b":1}}`, `{"a":1,"a":{"b":"x"}}`, "\ufeff{\"a\":{\"b\":\"x\"}}"},
			[]string{`{"a":{"b":"y"}}`, `{"a.b":"x"}`, `{"a":{"b":"x"}`, `{"a":{"b":"x"}}{}`, `{"A":{"b":"x"}}`, `{"a":[{"b":"x"}]}`, `a`, ``}},
		{"json in", `match.json = [{ path = "n", in = [1, "two", true] }]`,
			[]string{`{"n":1}`, `{"n":1.0}`, `{"n":10e-1}`, `{"n":"two"}`, `{"n":true}`}, []string{`{"n":"1"}`, `{"n":2}`, `{"n":false}`, `{"n":null}`, `{"n":[1]}`}},
		{"json big numbers", `match.json = [{ path = "id", equals = 9007199254740993 }]`,
			[]string{`{"id":9007199254740993}`}, []string{`{"id":9007199254740992}`, `{"id":9007199254740994}`, `{"id":90071992547409930}`}},
		{"json bounds", `match.json = [{ path = "n", gt = 0, lt = 1.5 }]`,
			[]string{`{"n":1}`, `{"n":1e-9}`, `{"n":9,"n":1}`}, []string{`{"n":0}`, `{"n":1.5}`, `{"n":"1"}`, `{"n":1e999}`, `{"n":-1e999}`}},
		{"json infinities", `match.json = [{ path = "n", gt = 1e300 }]`, []string{`{"n":1e999}`}, []string{`{"n":-1e999}`, `{"n":1e300}`}},
		{"json matches", `match.json = [{ path = "m", matches = '^order\.' }, { path = "v", matches = '^null$' }]`,
			[]string{`{"m":"order.new"}`, `{"m":"\u006frder.new"}`, `{"v":null}`, `{"v":"null"}`}, []string{`{"m":"an order."}`, `{"m":"orders"}`, `{"v":"\"null\""}`}},
		{"json exists", `match.json = [{ path = "a", exists = true }]`, []string{`{"a":null}`, `{"a":{}}`}, []string{`{"b":1}`, `{}`, `[]`}},
		{"json does not exist", `match.json = [{ path = "a.#", exists = false }]`, []string{`{}`, `{"a":1}`, `{"a":[]}`, `{"a":{"#":1}}`, `3`}, []string{`{"a":[0]}`, `{"a":[0]`, `no`, ``}},
		{"json elements", `match.json = [{ path = "l.#.p", lt = 1 }, { path = "l.1", equals = "b" }]`,
			[]string{`{"l":[{"p":2},{"p":0}]}`, `{"l":["a","b"]}`, `{"l":{"1":"b"}}`}, []string{`{"l":[{"p":2}]}`, `{"l":["b","a"]}`, `{"l":{"p":0}}`, `{"l":{"#":{"p":0}}}`}},
		{"json, all of it", `match.json = [{ path = "@", equals = "x" }]`, []string{`"x"`, ` "\u0078" `}, []string{`x`, `["x"]`}},
		{"json_all", `match.json_all = [{ path = "a", equals = 1 }, { path = "b", exists = false }]`, []string{`{"a":1}`}, []string{`{"a":1,"b":2}`, `{"a":2}`, `{}`}},
		{"json_all and json", "match.json_all = [{ path = \"a\", equals = 1 }]\nmatch.json = [{ path = \"b\", equals = 1 }, { path = \"c\", equals = 1 }]",
			[]string{`{"a":1,"b":1}`, `{"a":1,"c":1}`}, []string{`{"a":1}`, `{"b":1,"c":1}`}},
		{"json that excepts", "match.contains = [\"x\"]\nexcept.json = [{ path = \"t\", equals = \"ok\" }]", []string{`{"t":"x"}`, `x {"t":"ok"}`}, []string{`{"t":"ok","v":"x"}`}},
		{"json and a regex", "match.regex = ['x+y']\nmatch.json = [{ path = \"t\", equals = 1 }]", []string{`{"t":1,"v":"xxy"}`}, []string{`{"t":2,"v":"xxy"}`, `{"t":1}`}},

		{"value: a group", "match.regex = ['k=(\\w+)']\nvalue = { group = 1, except = { regex = ['^n'] } }", []string{"k=yes", "k=no k=yes"}, []string{"k=no", "k=no k=nay"}},
		{"value: a group that is not there", "match.regex = ['k(=\\w+)?;']\nvalue = { group = 1 }", []string{"k=a;", "k; k=a;"}, []string{"k;"}},
		{"value: entropy", "match.regex = ['\\pL{4,}']\nvalue = { entropy = 2.0 }", []string{"abcd", "aaaaaa abcd", "éöüß"}, []string{"aaaa", "abab", "aabb"}},
		{"value: words in any case", "match.regex = ['k=(\\w+)']\nvalue = { group = 1, except = { words = [\"Example\"] } }", []string{"k=sample"}, []string{"k=myEXAMPLE", "k=example"}},
		{"value: the match", "match.regex = ['\\w+=(\\w+)']\nvalue = { group = 1, except = { match = ['^test'] } }", []string{"key=test"}, []string{"test=key", "test=a test_2=b"}},
		{"value: the line", "match.regex = ['k=(\\w+)']\nvalue = { group = 1, except = { line = ['^#'] } }", []string{"#\nk=1\n#", "# k=1\nk=2", `{"a":"#\nk=1"}`}, []string{"# k=1", "\n#k=1\n"}},
		{"value: behind an escape", "match.regex = ['k=(\\w+)']\nvalue = { group = 1, entropy = 1.5 }", []string{`{"a":"k=\u0061bcd"}`}, []string{`{"a":"k=aaaa"}`}},
		{"a value with keywords", "match = { keywords = [\"API\"], regex = ['k=(\\w+)'] }\nvalue = { group = 1, except = { words = [\"x\"] } }", []string{"api k=1"}, []string{"k=1", "api k=x"}},
	} {
		for _, m := range c.yes {
			if !hits(t, c.lines, m) {
				t.Errorf("%s: no hit in %s", c.name, m)
			}
		}
		for _, m := range c.no {
			if hits(t, c.lines, m) {
				t.Errorf("%s: a hit in %s", c.name, m)
			}
		}
	}
}

// Each detector finds its value in text, in JSON, behind escapes, in a rule with
// others and in a stream cut anywhere; and Redact leaves nothing of it.
func TestDetectors(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, d := range detect.All() {
		f, known := planted[d.Name]
		if !known {
			t.Errorf("%s: no value to test with", d.Name)
			continue
		}
		s := mustParse(t, redacting("a", fmt.Sprintf("match.detect = [%q]", d.Name))).Scope(Upgrade{})
		other := mustParse(t, "[[rule]]\nid = \"a\"\naction = \"drop\"\nmatch.detect = [\"jwt\", \"iban\"]\n"+
			fmt.Sprintf("[[rule]]\nid = \"b\"\naction = \"drop\"\nmatch = { keywords = [\"here\"], detect = [%q, \"us-ssn\"] }\n", d.Name)+
			fmt.Sprintf("[[rule]]\nid = \"c\"\naction = \"drop\"\nmatch = { keywords = [\"nowhere\"], detect = [%q] }\n", d.Name)).Scope(Upgrade{})
		text := "Here: " + f.before + f.value + " and more"
		var all strings.Builder // each character as an escape
		for _, r := range text {
			fmt.Fprintf(&all, `\u%04x`, r)
		}
		for _, m := range []string{text, `{"n":1,"a":"` + escapeJSON(text, random) + `"}`, `["` + all.String() + `"]`} {
			v := s.Message(frames.ToServer, frames.Text, []byte(m))
			if v.Action != Redact {
				t.Errorf("%s: %s: got %s", d.Name, m, judged(v))
				continue
			}
			left := string(v.Redact([]byte(m)))
			if strings.HasPrefix(m, "{") || strings.HasPrefix(m, "[") {
				if !jsonpath.Valid([]byte(left)) {
					t.Errorf("%s: %s became %s, which is not JSON", d.Name, m, left)
				}
				var u jsonpath.Unescaped
				u.Reset([]byte(left))
				left = string(u.Text())
			}
			if strings.Contains(left, f.value) || !strings.Contains(left, "and more") || s.Message(frames.ToServer, frames.Text, []byte(left)).Rules != nil {
				t.Errorf("%s: %s became %s", d.Name, m, left)
			}
			if v := other.Message(frames.ToServer, frames.Text, []byte(m)); !strings.HasSuffix(judged(v), "b") {
				t.Errorf("%s: %s: got %s", d.Name, m, judged(v))
			}
			for cut := range len(m) {
				pieces := []int{cut, 1, len(m)}
				got, _ := inPieces(s, frames.Text, []byte(m), func() (n int) { n, pieces = max(1, pieces[0]), append(pieces[1:], len(m)); return n })
				if got.Action != Close {
					t.Fatalf("%s: %s cut at %d: got %s", d.Name, m, cut, judged(got))
				}
			}
		}
	}
}

// Nothing is found at the edge of a window that is not in the message, and
// nothing is lost there.
func TestStreamEdges(t *testing.T) {
	p := mustParse(t, `
[[rule]]
id = "found"
action = "close"
match.detect = ["payment-card", "us-ssn", "iban", "ipv4", "email", "phone", "high-entropy", "aws-access-key"]
[[rule]]
id = "value"
action = "close"
match.regex = ['k=(\w+)']
value = { group = 1, entropy = 1.5, except = { words = ["example"] } }
[[rule]]
id = "words"
action = "close"
match.keywords = ["Night Jar"]
`)
	s := p.Scope(Upgrade{})
	fill := strings.Repeat("lorem ipsum, ", 12_000)
	for _, c := range []struct {
		text string
		hit  bool
	}{
		{"4111 1111 1111 1111", true},
		{"41111111111111111", false},
		{"94111111111111111", false},
		{"123-45-67890", false},
		{"123-45-6789-1", false},
		{"GB82 WEST 1234 5698 7654 321", false},
		{"GB82WEST12345698765432", true},
		{"1.192.0.2.1.5", false},
		{"AK" + "IAIOSFODNN7EXAMPLE", true},
		{"AK" + "IAIOSFODNN7EXAMPLES", false},
		{"k=abcdef", true},
		{"k=abcdefexample", false},
		{"k=exampleabcdef", false},
		{"k=aaaaaaaaaaaaaaaaaa", false},
		{"NIGHT JAR", true},
		{`\u0034111 1111 1111\u00201111`, true},
		{`\u0034111 1111 1111\u002011112`, false},
		{`n\u0069ght jar`, true},
		{`k\u003dabcdef`, true},
	} {
		for back := -3; back <= len(c.text)+3; back++ {
			for _, at := range []int{5000, streamWindow} {
				m := `["` + fill[:at-back-2] + " " + c.text + " " + fill[:1000] + `"]`
				if whole := s.Message(frames.ToServer, frames.Text, []byte(m)); (whole.Action == Close) != c.hit {
					t.Fatalf("%s: the whole got %s", c.text, judged(whole))
				}
				first := true
				got, _ := inPieces(s, frames.Text, []byte(m), func() int {
					if first {
						first = false
						return at
					}
					return 700
				})
				if (got.Action == Close) != c.hit {
					t.Errorf("%s, cut %d in, at %d: got %s", c.text, back, at, judged(got))
				}
			}
		}
	}
}

// A stream cannot answer a json condition. It counts as one that holds, unless
// the rule lets pass by it.
func TestStreamJSON(t *testing.T) {
	s := mustParse(t, `
[[rule]]
id = "order"
action = "drop"
match.json = [{ path = "type", equals = "order" }]
match.contains = ["total"]
[[rule]]
id = "known"
action = "allow"
match.json = [{ path = "type", equals = "known" }]
[[rule]]
id = "word"
action = "drop"
match.contains = ["word"]
except.json = [{ path = "type", equals = "ok" }]
`).Scope(Upgrade{})
	fill := strings.Repeat("x", 100_000)
	for _, c := range []struct{ text, whole, stream string }{
		{`{"type":"order","total":1}`, "drop order", `close 1008 "policy violation" order`},
		{`{"type":"other","total":1}`, "allow ", `close 1008 "policy violation" order`},
		{`{"type":"order"}`, "allow ", "allow "},
		{`{"type":"known"}`, "allow known", "allow "},
		{`{"type":"ok","a":"word"}`, "allow ", `close 1008 "policy violation" word`},
		{`total word`, "drop word", `close 1008 "policy violation" word`},
		{`total`, "allow ", "allow "},
	} {
		m := []byte(c.text + strings.Repeat(" ", 70_000))
		if c.text[0] != '{' {
			m = []byte(c.text + fill)
		}
		if got := judged(s.Message(frames.ToServer, frames.Text, m)); got != c.whole {
			t.Errorf("%s: the whole got %s, want %s", c.text, got, c.whole)
		}
		for name, size := range pieceSizes() {
			if got, _ := inPieces(s, frames.Text, m, size); judged(got) != c.stream {
				t.Errorf("%s, %s: got %s, want %s", c.text, name, judged(got), c.stream)
			}
		}
	}
}

func TestRedactContent(t *testing.T) {
	for _, c := range []struct{ name, lines, data, want string }{
		{"keywords", `match.keywords = ["Key"]`, "a KEY, a kEy", "a ***, a ***"},
		{"keywords that overlap", `match.keywords = ["aba"]`, "xAbaBAx", "x*****x"},
		{"a detector, each value", `match.detect = ["payment-card"]`, "4111 1111 1111 1111, 4012888888881881, 1234", "*******************, ****************, 1234"},
		{"a detector behind escapes", `match.detect = ["payment-card"]`, `{"a":"\u0034111111111111111 \u0041"}`, `{"a":"` + strings.Repeat("*", 21) + ` \u0041"}`},
		{"a number of JSON", `match.detect = ["payment-card"]`, `{"a":4111111111111111}`, `{"a":1111111111111111}`},
		{"a regex behind escapes", "match.regex = ['a\\nb']\nreplace = \"\"", `["xa\nbx","a\u000ab"]`, `["xx",""]`},
		{"a word behind escapes", `match.contains = ["é\"😀"]`, `["\u00e9\"\ud83d\ude00."]`, `["` + strings.Repeat("*", 20) + `."]`},
		{"a json value", `match.json = [{ path = "u.#.pin", exists = true }]`, `{"u":[{"pin":"12\n"},{"pin":34},{"pin":null,"x":"12"}]}`, `{"u":[{"pin":"****"},{"pin":11},{"pin":null,"x":"12"}]}`},
		{"json values of json_all", "match.json_all = [{ path = \"a\", equals = \"x\" }, { path = \"b\", gt = 5 }]\nreplace = \"-\"", `{"a":"x","b":77,"c":"x"}`, `{"a":"-","b":11,"c":"x"}`},
		{"only where the test holds", `match.json = [{ path = "l.#", equals = "x" }]`, `{"l":["x","y","\u0078"]}`, `{"l":["*","y","******"]}`},
		{"a json object", `match.json = [{ path = "o", exists = true }]`, `{"o":{"k":"v","n":[1,true]},"p":"v"}`, `{"o":{"*":"*","*":[1,true]},"p":"v"}`},
		{"a group", "match.regex = ['k=(\\w+)']\nvalue = { group = 1 }", "k=abc k=de", "k=*** k=**"},
		{"a group with exceptions", "match.regex = ['k=(\\w+)']\nvalue = { group = 1, except = { words = [\"x\"] } }", "k=abc k=xy k=z", "k=*** k=xy k=*"},
		{"a value behind escapes", "match.regex = ['k=\"(\\w+)\"']\nvalue = { group = 1 }", `{"a":"k=\"a\u0062c\""}`, `{"a":"k=\"********\""}`},
	} {
		s := mustParse(t, redacting("a", c.lines)).Scope(Upgrade{})
		v := s.Message(frames.ToServer, frames.Text, []byte(c.data))
		if v.Action != Redact {
			t.Errorf("%s: got %s", c.name, judged(v))
			continue
		}
		if got := string(v.Redact([]byte(c.data))); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

// Files on trial act on nothing, may repeat ids, and have no say in the rest.
func TestLoadBeside(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	now := write("now.toml", one("a", "log", "word"))
	trial := write("trial.toml", "[policy]\ndefault = \"drop\"\n[[connection]]\nid = \"c\"\ndecision = \"block\"\n"+one("a", "close", "word")+one("b", "drop", "other")+one("s", "drop", "other", `mode = "shadow"`))
	p, err := LoadBeside([]string{now}, []string{trial})
	if err != nil {
		t.Fatal(err)
	}
	s := p.Scope(Upgrade{})
	for text, want := range map[string]string{"word": "log a shadow a", "other": "allow  shadow b,s", "none": "allow "} {
		if got := judged(s.Message(frames.ToServer, frames.Text, []byte(text))); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		if got, _ := inPieces(s, frames.Text, []byte(text), func() int { return 2 }); judged(got) != want {
			t.Errorf("%s: a stream got %s, want %s", text, judged(got), want)
		}
	}
	if d := p.Connection(Flow{Host: "x.example"}); d.Action != Inspect {
		t.Errorf("got %v", d)
	}
	alone, err := Load([]string{now})
	if err != nil || alone.Version() == p.Version() {
		t.Errorf("a policy with a file on trial has the same version, or %v", err)
	}
	if _, err := LoadBeside([]string{now, write("twice.toml", one("a", "log", "x"))}, nil); err == nil {
		t.Error("an id was there twice")
	}
	if _, err := LoadBeside(nil, []string{write("bad.toml", "[[rule]]\n")}); err == nil {
		t.Error("a mistake in a file on trial was not reported")
	}
}

// A gate must let through what the regex matches, and find it where package
// regexp does, however many candidates there are.
func TestGate(t *testing.T) {
	for _, text := range regexes {
		re := regexp.MustCompile(text)
		r := newRegex(re, Error{})
		if r.gate == nil || r.gate.near == nil {
			continue
		}
		for _, unit := range []string{"needle", "needle=abcd;", "needle1 x", "yyneedlex", "xneedleneedle ", "key=abcde", "keykeykey", "é needle!", "hvs.s.abcd;", "needleab!", "password=aaaaa;", " needle\xff"} {
			data := []byte(strings.Repeat(unit, 40))
			var got [][]int
			r.gate.each(re, data, func(at []int) bool { got = append(got, at); return true })
			if want := re.FindAllSubmatchIndex(data, -1); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%q in %q: got %v, want %v", text, unit, got, want)
			}
		}
	}
}
