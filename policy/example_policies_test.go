package policy

import (
	"os"
	"path/filepath"
	"testing"
)

const examples = "../examples/policies"

// TestExamplePolicies holds every example to its own tests, and every rule of
// an example to having one that hits and one that does not.
func TestExamplePolicies(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(examples, "*.toml"))
	if err != nil || len(files) < 3 {
		t.Fatalf("got %d example policies, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p, err := Load([]string{file})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range p.Slow() {
				t.Errorf("%s:%d:%d: slow: %s", s.File, s.Line, s.Column, s.Reason)
			}
			tested := map[string]int{}
			for _, r := range p.RunTests() {
				if !r.Passed() {
					t.Errorf("%s:%d:%d: rule %s: got %s, want %s", r.File, r.Line, r.Column, r.Rule, r.Got, r.Want)
				}
				if r.Want == None {
					tested[r.Rule] |= 1
				} else {
					tested[r.Rule] |= 2
				}
			}
			for _, r := range p.Rules() {
				if tested[r.ID] != 3 {
					t.Errorf("rule %s lacks a test that hits or one that does not", r.ID)
				}
				if r.Description == "" || r.Severity == "" || len(r.Tags) == 0 {
					t.Errorf("rule %s lacks a description, severity or tags", r.ID)
				}
			}
		})
	}
}

// TestExamplesTogether loads all examples at once, as a directory of them would be.
func TestExamplesTogether(t *testing.T) {
	p, err := Load([]string{filepath.Join(examples, "*.toml")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Name(), "bypass, default, demo"; got != want {
		t.Errorf("name: got %q, want %q", got, want)
	}
	if len(loadExample(t, "default.toml").Rules()) != 10 {
		t.Error("the default policy is measured as one of ten rules")
	}
}

func loadExample(t testing.TB, name string) *Policy {
	t.Helper()
	p, err := Parse(name, readExample(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readExample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
