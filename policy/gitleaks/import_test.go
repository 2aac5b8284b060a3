package gitleaks

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"regexp/syntax"
	"runtime"
	"slices"
	"strings"
	"testing"

	"framegate/frames"
	"framegate/policy"
)

// defaultRules is the file that gitleaks has its rules in.
func defaultRules(tb testing.TB) []byte {
	tb.Helper()
	data, err := os.ReadFile("testdata/gitleaks.toml")
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func mustImport(tb testing.TB, data []byte, o Options) *Result {
	tb.Helper()
	r, err := Import(data, o)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func mustParse(tb testing.TB, data []byte) *policy.Policy {
	tb.Helper()
	p, err := policy.Parse("imported.toml", data)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestDefaultRules(t *testing.T) {
	data := defaultRules(t)
	for _, action := range []string{"log", "redact", "close"} {
		o := Options{File: "gitleaks.toml", Action: action, Shadow: action == "redact"}
		r := mustImport(t, data, o)
		if again := mustImport(t, data, o); !reflect.DeepEqual(r, again) {
			t.Fatal("two imports of one file differ")
		}
		p := mustParse(t, r.Policy)
		if w := p.Warnings(); len(w) > 0 {
			t.Errorf("%s: %v", action, w)
		}
		if r.Rules != 222 || r.Carried != 217 || len(p.Rules()) != 217 {
			t.Errorf("%s: got %d of %d, and %d rules, expected 217 of 222", action, r.Carried, r.Rules, len(p.Rules()))
		}
		for _, rule := range p.Rules() {
			if rule.Action.String() != action || rule.Shadow != o.Shadow || rule.Severity != "high" || !slices.Contains(rule.Tags, "gitleaks") || rule.Description == "" {
				t.Errorf("%s: got %+v", action, rule)
			}
		}
	}
	var notes []string
	for _, n := range mustImport(t, data, Options{File: "gitleaks.toml"}).Notes {
		notes = append(notes, n.String())
	}
	want := strings.Split(strings.TrimSpace(`
gitleaks.toml:24:9: paths of the allowlist are left out: a message has none
gitleaks.toml:598:1: rule "freemius-secret-key" is left out: it is confined to files by its path, and a message has none
gitleaks.toml:2118:1: rule "generic-api-key": allowlist is left out: it asks for certain paths or commits as well, and a message has none
gitleaks.toml:2140:9: rule "github-app-token": paths of the allowlist are left out: a message has none
gitleaks.toml:2165:9: rule "github-pat": paths of the allowlist are left out: a message has none
gitleaks.toml:2333:1: rule "hashicorp-tf-password" is left out: it is confined to files by its path, and a message has none
gitleaks.toml:2443:1: rule "kubernetes-secret-yaml" is left out: it is confined to files by its path, and a message has none
gitleaks.toml:2665:1: rule "nuget-config-password" is left out: it is confined to files by its path, and a message has none
gitleaks.toml:2724:1: rule "pkcs12-file" is left out: it is about the names of files, and a message has none`), "\n")
	if !slices.Equal(notes, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(notes, "\n"), strings.Join(want, "\n"))
	}
}

// Each case is a rule file and the texts that its rules match or do not.
func TestMeaning(t *testing.T) {
	for _, c := range []struct {
		name, source string
		hits, misses []string
	}{
		{"keywords in any case", `
[[rules]]
id = "a"
regex = 't\d'
keywords = ["Token", "KEY"]`,
			[]string{"toKEN t1", "t1 is the key"}, []string{"t1", "token"}},
		{"entropy is more than it says", `
[[rules]]
id = "a"
regex = 't\w+'
entropy = 2`,
			[]string{"tabcd"}, []string{"tabc"}}, // log2 of 5 and of 4
		{"entropy of the group", `
[[rules]]
id = "a"
regex = 'token_(\w+)'
entropy = 1.5`,
			[]string{"token_abc"}, []string{"token_aab"}},
		{"the first group that has text", `
[[rules]]
id = "a"
regex = 'one=(x*)|two=(\w+)'
stopwords = []
[[rules.allowlists]]
stopwords = ["no", "one"]`,
			[]string{"two=yes", "one=x"}, []string{"two=NOT", "one="}}, // the last has no text in a group
		{"the group that is asked for", `
[[rules]]
id = "a"
regex = '(\w+):(\w+)'
secretGroup = 2
[[rules.allowlists]]
stopwords = ["no"]`,
			[]string{"no:yes"}, []string{"yes:no"}},
		{"no groups", `
[[rules]]
id = "a"
regex = 'key=\w+'
[[rules.allowlists]]
regexes = ['^key=0']`,
			[]string{"key=10"}, []string{"key=01"}},
		{"targets", `
[[rules]]
id = "a"
regex = 'key=(\w+)'
[[rules.allowlists]]
regexTarget = "secret"
regexes = ['^1']
[[rules.allowlists]]
regexTarget = "match"
regexes = ['^key=2']
[[rules.allowlists]]
regexTarget = "line"
regexes = ['^3']`,
			[]string{"1 key=0", "2 key=0", "3\nkey=0", "key=3"}, []string{"key=1", "a key=2", "0\n3 key=0\n0"}},
		{"global and targeted", `
[allowlist]
stopwords = ["nothing"]
[[allowlists]]
targetRules = ["b"]
stopwords = ["key"]
[[rules]]
id = "a"
regex = 'key\w+'
[[rules]]
id = "b"
regex = 'key_not\w+'`,
			[]string{"key_note"}, []string{"key_nothing"}},
		{"keys in any case", `
[[Rules]]
ID = "a"
REGEX = '(\w+):(\w+)'
secretgroup = 2
[[Rules.AllowLists]]
stopWords = ["no"]
regextarget = "match"
Regexes = ["^x"]`,
			[]string{"no:yes"}, []string{"yes:no", "x:yes"}},
		{"conditions", `
[[rules]]
id = "a"
regex = 'key=(\w+)'
[[rules.allowlists]]
condition = "AND"
paths = ["a"]
regexes = ["1"]
[[rules.allowlists]]
condition = "&&"
stopwords = ["2"]
regexes = ["2"]
[[rules.allowlists]]
condition = "&&"
regexes = ["3"]
[[rules.allowlists]]
condition = "||"
stopwords = ["4"]
paths = ["a"]
commits = ["a"]`,
			[]string{"key=1", "key=2"}, []string{"key=3", "key=4"}},
	} {
		p := mustParse(t, mustImport(t, []byte(c.source), Options{}).Policy)
		for _, text := range c.hits {
			if ids := hits(p, text); !slices.Equal(ids, []string{"gitleaks/a"}) {
				t.Errorf("%s: %q: got %v, expected a", c.name, text, ids)
			}
		}
		for _, text := range c.misses {
			if ids := hits(p, text); ids != nil {
				t.Errorf("%s: %q: got %v, expected none", c.name, text, ids)
			}
		}
	}
}

func hits(p *policy.Policy, text string) []string {
	return p.Scope(policy.Upgrade{}).Message(frames.ToServer, frames.Text, []byte(text)).Rules
}

// Strings come out as they went in, whatever is in them.
func TestQuoting(t *testing.T) {
	odd := []string{`a`, `'`, `a''`, `'''`, `'''a`, `"`, `\`, "tab\t", "line\nfeed\r", "\x00\x1f\x7f", "é\u2028\ufeff", "# no comment"}
	for _, s := range odd {
		source := fmt.Sprintf("title = %[1]s\n[[rules]]\nid = %[1]s\ndescription = %[1]s\ntags = [%[1]s]\nkeywords = [%[1]s]\nregex = %[2]s\n", quote(s), literal("odd"+s))
		r, err := Import([]byte(source), Options{File: s})
		if s == `\` { // is no regex at its end
			source = strings.Replace(source, literal(`odd\`), literal(`odd\\`), 1)
			r, err = Import([]byte(source), Options{File: s})
		}
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		p := mustParse(t, r.Policy)
		rule := p.Rules()[0]
		if p.Name() != s || rule.Description != s || !slices.Equal(rule.Tags, []string{"gitleaks", s}) {
			t.Errorf("%q: got name %q, %+v", s, p.Name(), rule)
		}
		if ids := hits(p, "odd"+s); len(ids) != 1 {
			t.Errorf("%q: its regex does not match it", s)
		}
	}
}

// Ids of a policy are letters, digits and little else.
func TestIDs(t *testing.T) {
	source := ""
	for i, id := range []string{"a b", "a-b", "a/b", "a\tb", "ü"} {
		source += fmt.Sprintf("[[rules]]\nid = %s\nregex = 'x%d'\n", quote(id), i)
	}
	r := mustImport(t, []byte(source), Options{})
	var ids []string
	for _, rule := range mustParse(t, r.Policy).Rules() {
		ids = append(ids, rule.ID)
	}
	if want := []string{"gitleaks/a-b", "gitleaks/a-b-2", "gitleaks/a/b", "gitleaks/a-b-3", "gitleaks/-"}; !slices.Equal(ids, want) {
		t.Errorf("got %q, want %q", ids, want)
	}
	if len(r.Notes) != 4 {
		t.Errorf("got %v, expected a note for each id that is not as it was", r.Notes)
	}
}

// What a policy refuses as too large is left out.
func TestTooLarge(t *testing.T) {
	large := `(?:[a-z]{1000}|[0-9]{1000}){60}`
	if _, err := syntax.Parse(large, syntax.Perl); err == nil {
		t.Fatalf("%s is no example: it is no larger than RE2 has it", large)
	}
	large = strings.Repeat(`[a-z]{900}x`, 60)
	r := mustImport(t, []byte("[[rules]]\nid = 'a'\nregex = '"+large+"'\n[[rules]]\nid = 'b'\nregex = 'b'\n[[rules.allowlists]]\nregexes = ['"+large+"']"), Options{})
	mustParse(t, r.Policy)
	if r.Carried != 1 || len(r.Notes) != 2 || !r.Notes[0].Lost || r.Notes[1].Lost {
		t.Errorf("got %d rules, %v", r.Carried, r.Notes)
	}
}

// What Import accepts, a policy accepts.
func FuzzImport(f *testing.F) {
	for part := range bytes.SplitSeq(defaultRules(f), []byte("[[rules]]")) {
		if len(part) < 2000 {
			f.Add(append([]byte("[[rules]]"), part...), byte(len(part)))
		}
	}
	f.Add([]byte("[extend]\nuseDefault=true\n[[allowlists]]\ntargetRules=['a']\nregexes=['x*']\n[[rules]]\nid='a'\nregex='(a)|b*'\nsecretGroup=1\nentropy=nan\nrequired=[{id='a'}]\nskipReport=true"), byte(2))
	f.Add([]byte("allowlists=[1,{}]\nrules=[{id='a',regex='a',entropy=1e-320,allowlist={condition='and',commits=['a']}}]"), byte(1))
	f.Fuzz(func(t *testing.T, data []byte, action byte) {
		o := Options{File: "f.toml", Action: []string{"log", "close", "redact"}[action%3], Shadow: action > 127}
		r, err := Import(data, o)
		if err != nil {
			return
		}
		p, err := policy.Parse("out.toml", r.Policy)
		if err != nil {
			t.Fatalf("%v\n%s", err, r.Policy)
		}
		if len(p.Rules()) != r.Carried {
			t.Fatalf("%d rules, expected %d", len(p.Rules()), r.Carried)
		}
	})
}

// BenchmarkParse compiles the imported rules; "live" is what they keep.
func BenchmarkParse(b *testing.B) {
	r := mustImport(b, defaultRules(b), Options{})
	var p *policy.Policy
	before := heap()
	b.ReportAllocs()
	for b.Loop() {
		p = mustParse(b, r.Policy)
	}
	b.ReportMetric(float64(heap()-before)/1e6, "MB-live")
	runtime.KeepAlive(p)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what sync.Pool keeps goes with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkImport(b *testing.B) {
	data := defaultRules(b)
	b.ReportAllocs()
	for b.Loop() {
		mustImport(b, data, Options{})
	}
}
