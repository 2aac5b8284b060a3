package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A tomlBlock is one example of the manual.
type tomlBlock struct {
	line int // of its first line
	text string
}

// cases reports whether the example is a file of cases and no policy.
func (b tomlBlock) cases() bool { return strings.HasPrefix(b.text, "[[case]]") }

// tomlBlocks returns what the manual has between ```toml and ```.
func tomlBlocks(manual string) (blocks []tomlBlock) {
	text, at := manual, 0
	for {
		start := strings.Index(text[at:], "```toml\n")
		if start < 0 {
			return blocks
		}
		at += start + len("```toml\n")
		end := strings.Index(text[at:], "\n```\n")
		if end < 0 {
			end = len(text) - at
		}
		blocks = append(blocks, tomlBlock{strings.Count(text[:at], "\n") + 1, text[at : at+end]})
		at += end
	}
}

// TestManual holds every example of the manual to what it says: it is complete,
// nothing is to be warned of, and its tests pass. Together they make one policy,
// so no id comes twice, and the cases are about that.
func TestManual(t *testing.T) {
	data, err := os.ReadFile("../docs/POLICY.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	var cases []string
	var rules, tests int
	for _, b := range tomlBlocks(string(data)) {
		text := []byte(strings.Repeat("\n", b.line-1) + b.text)
		if b.cases() {
			cases = append(cases, filepath.Join(t.TempDir(), "POLICY.md"))
			if err := os.WriteFile(cases[len(cases)-1], text, 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		p, err := Parse("POLICY.md", text)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, w := range p.Warnings() {
			t.Error(w)
		}
		results := p.RunTests()
		for _, r := range results {
			if !r.Passed() {
				t.Errorf("POLICY.md:%d: rule %s: got %s, want %s", r.Line, r.Rule, r.Got, r.Want)
			}
		}
		rules, tests = rules+len(p.Rules()), tests+len(results)
		all = append(all, source{name: "POLICY.md", data: text})
	}
	p, err := build(all, nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.LoadCases(cases)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.RunCases(list) {
		if !r.Passed() {
			t.Errorf("POLICY.md:%d: case: %v", r.Line, r.Differences)
		}
	}
	if len(p.Rules()) != rules || rules < 14 || tests < 18 || len(list) < 2 {
		t.Errorf("got %d rules with %d tests, together %d rules with %d cases", rules, tests, len(p.Rules()), len(list))
	}
}

// TestManualKeys wants every key of a policy file to be in the manual.
func TestManualKeys(t *testing.T) {
	data, err := os.ReadFile("../docs/POLICY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, reference, _ := strings.Cut(string(data), "\n## All keys\n")
	root := loadSchema(t)
	var look func(name string, s schema)
	look = func(name string, s schema) {
		properties, _ := s["properties"].(map[string]any)
		for key := range properties {
			if !strings.Contains(reference, "`"+key+"`") {
				t.Errorf("the reference lacks %s %s", name, key)
			}
			look(name+" "+key, s.at(root, key))
		}
	}
	for _, table := range []string{"policy", "connection", "rule"} {
		look(table, root.at(root, table))
	}
}
