package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"framegate/frames"
	"framegate/policy/jsonpath"
)

func TestRedact(t *testing.T) {
	for _, c := range []struct {
		name, rules string // redacting rules, one a line
		data, want  string
	}{
		{"every place", `match.contains = ["key"]`, "a key, a key and keys", "a ***, a *** and ***s"},
		{"places that overlap", `match.contains = ["aba"]`, "xababax aba", "x*****x ***"},
		{"several strings", `match.contains = ["key", "eye"]`, "key keye eye", "*** **** ***"},
		{"a regex, all of it", `match.regex = ['k(e+)y']`, "key keey ky", "*** **** ky"},
		{"what a regex sees around it", `match.regex = ['\bkey\b', '^a']`, "a key keys a", "* *** keys a"},
		{"strings and regexes of one rule", `match = { contains = ["no"], regex = ['\d+'] }`, "no 42, no 7", "** **, ** *"},
		{"one star for each byte", `match.regex = ['é.']`, "aéßb", "a****b"},
		{"bytes that are not UTF-8", `match.regex = ['a.b']`, "a\xffb\xff", "***\xff"},
		{"all of the message", `match.regex = ['(?s)^.+$']`, "a\nb", "***"},

		{"replaced", `replace = "[cut]", match.contains = ["key"]`, "a key, a key", "a [cut], a [cut]"},
		{"removed", `replace = "", match.contains = ["key "]`, "a key here", "a here"},
		{"removed to the last byte", `replace = "", match.regex = ['.+']`, "a key", ""},
		{"neighbours are two", `replace = "x", match.contains = ["key"]`, "keykey", "xx"},
		{"no template", `replace = "$0", match.regex = ['k(e)y']`, "key", "$0"},

		{"several rules", "match.contains = [\"key\"]\nreplace = \"x\", match.contains = [\"eye\"]", "eye key", "x ***"},
		{"overlap: the first in the message says how", "match.contains = [\"eyes\"]\nreplace = \"x\", match.contains = [\"key\"]", "a keyes", "a x"},
		{"overlap: then the first in the files", "match.contains = [\"keys\"]\nreplace = \"x\", match.contains = [\"key\"]", "keys", "****"},
		{"overlap: a chain", "replace = \"x\", match.contains = [\"abc\"]\nmatch.contains = [\"cde\"]\nmatch.contains = [\"efg\"]", "1abcdefg2", "1x2"},
		{"a rule that is excepted", "match.contains = [\"key\"]\nmatch.contains = [\"a\"], except.contains = [\"test\"]", "a test key", "a test ***"},
		{"a rule in shadow mode", "match.contains = [\"key\"]\nmode = \"shadow\", match.contains = [\"a\"]", "a key", "a ***"},

		{"JSON: in a string", `match.contains = ["key"]`, `{"a":"the key"}`, `{"a":"the ***"}`},
		{"JSON: over the ends of strings", `match.contains = ['a": "b']`, `{"xa": "by", "n": 1}`, `{"x*": "*y", "n": 1}`},
		{"JSON: structure and words stay", `match.regex = ['(?s).+']`, ` {"a":[true, -0.5e+10,null ,"b"]}`, ` {"*":[true, -1.1e+11,null ,"*"]}`},
		{"JSON: digits", `match.contains = ["40128"]`, `[401288,-40128.0,"40128"]`, `[111118,-11111.0,"*****"]`},
		{"JSON: no leading zero", `match.contains = ["1"]`, `[10,0,1]`, `[10,0,1]`},
		{"JSON: zero", `match.regex = ['[0-9]+']`, `[0,-0,0.0]`, `[1,-1,1.1]`},
		{"JSON: only a number", `match.regex = ['\d{16}']`, `4012888888881881`, `1111111111111111`},
		{"JSON: an escape goes as a whole", `match.contains = ["041"]`, `"\u0041\n"`, `"******\n"`},
		{"JSON: half a short escape", `match.contains = ["n"]`, `"a\nb\\n"`, `"a**b\\*"`},
		{"JSON: an escaped quote", `match.contains = ['"b']`, `"a\"b"`, `"a***"`},
		{"JSON: half of a surrogate pair", `match.contains = ["de00"]`, `"\ud83d\ude00 \ude00 \uD83D\u0041"`, `"************ ****** \uD83D\u0041"`},
		{"JSON: a lone surrogate", `match.contains = ["\\ud83d"]`, `"\ud83d\u0041"`, `"******\u0041"`},
		{"JSON: not quite", `match.contains = ['a":1']`, `{"a":1}}`, `{"****}}`},
		{"JSON: replaced", `replace = "<\"\\\n\u2028é>", match.contains = ["key"]`, `["a key"]`, `["a <\"\\\n\u2028é>"]`},
		{"JSON: replaced in each string", `replace = "x", match.regex = ['"p":".*"']`, `{"p":"hunter2","q":""}`, `{"x":"x","x":""}`},
		{"JSON: one string, two places", `replace = "x", match.contains = ["key"]`, `"keykey"`, `"xx"`},
		{"JSON: digits are not replaced by text", `replace = "x", match.contains = ["42"]`, `[42,"42"]`, `[11,"x"]`},
		{"JSON: removed", `replace = "", match.contains = ["key"]`, `{"key":"key"}`, `{"":""}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			for i, r := range strings.Split(c.rules, "\n") {
				b.WriteString(redacting(fmt.Sprint(i), strings.ReplaceAll(strings.ReplaceAll(r, ", match", "\nmatch"), ", except", "\nexcept")))
			}
			s := mustParse(t, b.String()).Scope(Upgrade{})
			for _, op := range []frames.Opcode{frames.Text, frames.Binary} {
				data := []byte(c.data)
				v := s.Message(frames.ToServer, op, data)
				if v.Action != Redact {
					t.Fatalf("got verdict %s", judged(v))
				}
				if got := v.Redact(data); string(got) != c.want || got == nil {
					t.Errorf("got  %q\nwant %q", got, c.want)
				}
				if string(data) != c.data {
					t.Errorf("the message itself became %q", data)
				}
			}
		})
	}
}

// A redact rule is stricter than one that logs, and leaves the others their say.
func TestRedactPrecedence(t *testing.T) {
	s := mustParse(t, "[policy]\ndefault = \"drop\"\n"+one("cut", "redact", "R")+one("logs", "log", "L")+one("drop", "drop", "D")+
		one("close", "close", "C")+one("try", "redact", "S", "mode = \"shadow\"")).Scope(Upgrade{})
	for message, want := range map[string]string{
		"R":   "redact cut",
		"RL":  "redact cut,logs",
		"RD":  "drop cut,drop",
		"RC":  `close 1008 "policy violation" cut,close`,
		"S":   "drop  shadow try",
		"RS":  "redact cut shadow try",
		"xyz": "drop ",
	} {
		if got := judged(s.Message(frames.ToServer, frames.Text, []byte(message))); got != want {
			t.Errorf("%s: got %s, want %s", message, got, want)
		}
	}
	if got := judged(s.Message(frames.ToServer, frames.Ping, []byte("R"))); got != "allow " {
		t.Errorf("ping: got %s", got)
	}
}

func TestRunRedactTests(t *testing.T) {
	p := mustParse(t, redacting("a", `
match.contains = ["key"]
test = [
  { payload = '"a key"', expect = "redact" },
  { payload = '"a key"', expect = "redact", redacted = '"a ***"' },
  { payload = 'a lock', expect = "none" },
  { payload = 'a key', expect = "redact", redacted = 'a key' },
  { payload = 'a lock', expect = "redact", redacted = 'a lock' },
]`))
	var failed []string
	for _, r := range p.RunTests() {
		if !r.Passed() {
			failed = append(failed, r.Want+", "+r.Got)
		}
	}
	if got, want := fmt.Sprint(failed), `[redact to "a key", redact to "a ***" redact to "a lock", none]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzRedact holds redaction to this: it has the length of the message, JSON is
// JSON of the same shape, UTF-8 is UTF-8, nothing but what was found is changed,
// and of that nothing is left in a string or in a text that is no JSON.
func FuzzRedact(f *testing.F) {
	for _, seed := range []struct{ word, regex, replace, data string }{
		{"key", `\d+`, "[cut]", `{"key":["a key",-0.5e+10,"\ud83d\ude00",true,null,{"":"\\"}]}`},
		{`a":"`, `u00\w`, "\"\\\n", `{"a":"\u0041\"b","a":"A"}`},
		{`\\`, `"[^"]*"`, "", ` [ "\\\\" , 1E5 , 0 ]`},
		{"aba", `.`, "\u2028", "ababa \xff é"},
		{"4", `4012`, "é", "4012888888881881"},
		{`\`, `[{}:,]`, "x", `{"a\\":{"b\n":"\uD83D\u0041 \udE00"}}`},
	} {
		f.Add(seed.word, seed.regex, seed.replace, []byte(seed.data))
	}
	f.Fuzz(func(t *testing.T, word, text, replace string, data []byte) {
		re, err := regexp.Compile(text)
		if err != nil || word == "" || !utf8.ValidString(word) || len(text) > 100 || len(data) > 500 {
			return
		}
		r := &rule{match: condition{contains: words{texts: []string{word}}, regex: []regex{newRegex(re, Error{})}}}
		if r.match.regex[0].least == 0 {
			return // refused
		}
		if jsonpath.Valid(data) != json.Valid(data) {
			return // a byte order mark, which package json does not want
		}
		m, _ := newMatcher([]*rule{r}, jsonTests{})
		before := bytes.Clone(data)
		got := m.redact([]*rule{r}, data)
		if !bytes.Equal(data, before) {
			t.Fatalf("the message itself became %q", data)
		}
		if len(got) != len(data) {
			t.Fatalf("%q became %q", data, got)
		}
		for _, s := range m.find(nil, r, data) {
			if s.end-s.start < min(len(word), r.match.regex[0].least) {
				t.Errorf("%q in %q: found %d bytes at %d", text, data, s.end-s.start, s.start)
			}
		}
		changed := found(data, word, re)
		if looksJSON(data) {
			var u jsonpath.Unescaped
			u.Reset(data)
			for i, mark := range found(u.Text(), word, re) {
				if start, end := u.Span(i, i+1); mark != 0 {
					copy(changed[start:end], bytes.Repeat([]byte{1}, end-start))
				}
			}
		}
		isJSON := json.Valid(data)
		if isJSON {
			checkShape(t, data, got)
		}
		if utf8.Valid(data) && !utf8.Valid(got) {
			t.Errorf("%q became %q, which is not UTF-8", data, got)
		}
		inString := false
		for i := 0; i < len(data); i++ {
			c, n := data[i], 1
			if isJSON && inString && c == '\\' {
				n = max(2, len(surrogates.Find(data[i:])))
			}
			if isJSON && c == '"' {
				inString = !inString
			}
			touched := bytes.IndexByte(changed[i:i+n], 1) >= 0
			want := data[i : i+n]
			switch {
			case !touched || isJSON && c == '"':
			case !isJSON || inString:
				want = bytes.Repeat([]byte("*"), n)
			case '0' <= c && c <= '9':
				want = []byte("1")
			}
			if !bytes.Equal(got[i:i+n], want) {
				t.Fatalf("%q became %q: at %d expected %q", data, got, i, want)
			}
			i += n - 1
		}

		r.replace = newReplacement(replace)
		got = m.redact([]*rule{r}, data)
		if isJSON {
			checkShape(t, data, got)
		}
		if utf8.Valid(data) && utf8.ValidString(replace) && !utf8.Valid(got) {
			t.Errorf("%q became %q, which is not UTF-8", data, got)
		}
	})
}

// surrogates finds an escape sequence with a code, or a pair of them.
var surrogates = regexp.MustCompile(`(?i)^(?:\\uD[89AB][0-9A-F]{2}\\uD[C-F][0-9A-F]{2}|\\u[0-9A-F]{4})`)

// found marks the bytes that a word and a regex find.
func found(data []byte, word string, re *regexp.Regexp) []byte {
	marks := make([]byte, len(data))
	for i := range data {
		if bytes.HasPrefix(data[i:], []byte(word)) {
			copy(marks[i:], bytes.Repeat([]byte{1}, len(word)))
		}
	}
	for _, at := range re.FindAllIndex(data, -1) {
		copy(marks[at[0]:at[1]], bytes.Repeat([]byte{1}, at[1]-at[0]))
	}
	return marks
}

// checkShape compares the tokens of two JSON texts but for the contents of
// strings and numbers.
func checkShape(t *testing.T, a, b []byte) {
	t.Helper()
	if !json.Valid(b) {
		t.Fatalf("%q became %q, which is not JSON", a, b)
	}
	one, other := json.NewDecoder(bytes.NewReader(a)), json.NewDecoder(bytes.NewReader(b))
	one.UseNumber()
	other.UseNumber()
	for {
		x, err := one.Token()
		y, errOther := other.Token()
		if err != nil || errOther != nil {
			if err != errOther {
				t.Fatalf("%q became %q: %v, %v", a, b, err, errOther)
			}
			return
		}
		if kind := reflect.TypeOf(x); kind != reflect.TypeOf(y) || fmt.Sprint(kind) != "string" && fmt.Sprint(kind) != "json.Number" && x != y {
			t.Fatalf("%q became %q: %v, %v", a, b, x, y)
		}
	}
}

// A policy with redact rules costs nothing on a message that none of them hits.
func TestRedactNoAllocation(t *testing.T) {
	s := mustParse(t, redacting("a", `match.regex = ['\b\d{16}\b', 'sk_[a-z]{8}']`)+redacting("b", `match.contains = ["nightjar"]`)).Scope(Upgrade{})
	data := bytes.Repeat([]byte(`{"type":"message","n":1610241741}`), 100)
	if got := testing.AllocsPerRun(500, func() { s.Message(frames.ToServer, frames.Text, data) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
