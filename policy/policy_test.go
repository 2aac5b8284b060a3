package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write puts files into a new directory and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustLoad(t *testing.T, files map[string]string) *Policy {
	t.Helper()
	p, err := Load([]string{filepath.Join(write(t, files), "*.toml")})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLoad(t *testing.T) {
	dir := write(t, map[string]string{
		"10.toml": "[policy]\nname = \"base\"\ndefault = \"drop\"\n" + ruleA,
		"20.toml": "[policy]\nname = \"more\"\ndefault = \"drop\"\n" + closing("b", "description = \"B\"\nseverity = \"high\"\ntags = [\"x\", \"y\"]\nmode = \"shadow\""),
		"30.txt":  "not TOML",
	})
	// A file that several patterns name is read once.
	p, err := Load([]string{filepath.Join(dir, "*.toml"), filepath.Join(dir, ".", "20.toml"), filepath.Join(dir, "x*.toml")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Name(), "base, more"; got != want {
		t.Errorf("name: got %q, want %q", got, want)
	}
	got := fmt.Sprintf("%+v", p.Rules())
	want := "[{ID:a Description: Severity: Tags:[] Action:log Shadow:false Code:0 Reason: Scope: Match:} " +
		"{ID:b Description:B Severity:high Tags:[x y] Action:close Shadow:true Code:1008 Reason:policy violation Scope: Match:}]"
	if got != want {
		t.Errorf("rules:\ngot  %s\nwant %s", got, want)
	}

	// No files are a policy, too.
	p, err = Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if v := p.Scope(Upgrade{}).Message(0, 1, []byte("x")); v.Action != Allow || v.Rules != nil {
		t.Errorf("no files: got %v", v)
	}
}

// Every mistake of every file comes at once, in the order of the files. First
// come those that could not be read.
func TestLoadMistakes(t *testing.T) {
	dir := write(t, map[string]string{
		"1.toml": ruleA + "[policy]\ndefault = \"drop\"\n",
		"2.toml": ruleA + "action_ = 1\n[policy]\ndefault = \"close\"\n",
		"3.toml": "x",
	})
	if err := os.Mkdir(filepath.Join(dir, "4.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := Load([]string{filepath.Join(dir, "*.toml")})
	if p != nil || err == nil {
		t.Fatalf("got %v, %v", p, err)
	}
	got := strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")
	want := `4.toml: cannot be read: is a directory
2.toml:2:6: id: got "a", which is taken at 1.toml:2, expected one that is not
2.toml:4:1: unknown key "action_" in [[rule]], expected action, code, description, except, id, match, mode, rate, reason, replace, scope, severity, tags, test, value (did you mean "action"?)
2.toml:6:11: default: got "close", expected "drop" as at 1.toml:5
3.toml:1:1: unexpected EOF; expected key separator '='`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	for pattern, want := range map[string]string{
		filepath.Join(dir, "none.toml"): dir + "/none.toml: cannot be read: no such file or directory",
		filepath.Join(dir, "4.toml"):    dir + "/4.toml: cannot be read: is a directory",
		filepath.Join(dir, "[.toml"):    dir + "/[.toml: bad glob pattern, expected *, ? or [a-z] as wildcards",
		// Not a directory, so nobody can say what is in it.
		filepath.Join(dir, "1.toml", "*.toml"): dir + "/1.toml: cannot be read: not a directory",
	} {
		_, err := Load([]string{pattern})
		if err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", pattern, err, want)
		}
		if bad, ok := errors.AsType[*Error](err); ok && bad.Line != 0 {
			t.Errorf("%s: got line %d of a file that was not read", pattern, bad.Line)
		}
	}
	// A directory that does not exist yet has no rules.
	if _, err := Load([]string{filepath.Join(dir, "none", "*.toml")}); err != nil {
		t.Errorf("no directory: %v", err)
	}
}

func TestVersion(t *testing.T) {
	files := map[string]string{"a.toml": ruleA, "b.toml": "# nothing\n"}
	first := mustLoad(t, files)
	hash := func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }
	want := hash(hash(ruleA) + "  a.toml\n" + hash("# nothing\n") + "  b.toml\n")
	if first.Version() != want {
		t.Errorf("got %s, want %s", first.Version(), want)
	}
	if again := mustLoad(t, files); again.Version() != want {
		t.Error("another directory makes another version")
	}
	for name, other := range map[string]map[string]string{
		"contents":       {"a.toml": ruleA + "\n", "b.toml": "# nothing\n"},
		"comment":        {"a.toml": ruleA, "b.toml": "# nothing.\n"},
		"name":           {"a.toml": ruleA, "c.toml": "# nothing\n"},
		"one file fewer": {"a.toml": ruleA},
	} {
		if mustLoad(t, other).Version() == want {
			t.Errorf("%s: same version", name)
		}
	}
}

func TestSlow(t *testing.T) {
	p := mustParse(t, ruleA+`
[rule.match]
regex = ['needle', '[a-z]+', '\b\d{16}\b', '^.{3}$']
[[rule]]
id = "b"
action = "log"
[rule.match]
contains = ["x"]
regex = ['[a-z]+']
`)
	var got []string
	for _, s := range p.Warnings() {
		got = append(got, fmt.Sprintf("%s %s:%d:%d", s.ID, s.File, s.Line, s.Column))
	}
	if want := "[a a.toml:6:20 a a.toml:6:44]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
