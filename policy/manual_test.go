package policy

import (
	"os"
	"strings"
	"testing"
)

// TestManual holds every example of the manual to what it says: it is complete,
// and its tests pass. Together they make one policy.
func TestManual(t *testing.T) {
	data, err := os.ReadFile("../docs/POLICY.md")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	blocks := strings.Split(string(data), "```toml\n")[1:]
	for _, b := range blocks {
		text, _, closed := strings.Cut(b, "\n```\n")
		if !closed {
			t.Fatalf("no end of\n%s", b)
		}
		if _, err := Parse("POLICY.md", []byte(text)); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		all.WriteString(text + "\n")
	}
	p := mustParse(t, all.String())
	if len(p.Rules()) < 8 || len(p.Warnings()) > 0 {
		t.Errorf("got %d rules, warnings: %v", len(p.Rules()), p.Warnings())
	}
	tests := p.RunTests()
	for _, r := range tests {
		if !r.Passed() {
			t.Errorf("%+v", r)
		}
	}
	if len(tests) < 4 {
		t.Errorf("got %d tests", len(tests))
	}
}
