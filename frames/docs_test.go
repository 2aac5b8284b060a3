package frames

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/FRAMES.md names exists, and every row of its tables
// names one, or says that there is none or nothing to test.
func TestDocsNameTests(t *testing.T) {
	exists := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example|Benchmark)\w*)\(`)
	for _, dir := range []string{".", filepath.Join("..", "mitm")} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no tests in %s: %v", dir, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range function.FindAllStringSubmatch(string(b), -1) {
				exists[m[1]] = true
			}
		}
	}

	b, err := os.ReadFile(filepath.Join("..", "docs", "FRAMES.md"))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\b(?:Test|Fuzz|Example|Benchmark)[A-Z]\w*`)
	rows := 0
	for i, line := range strings.Split(string(b), "\n") {
		names := name.FindAllString(line, -1)
		for _, n := range names {
			if !exists[n] {
				t.Errorf("line %d: there is no %s", i+1, n)
			}
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) != 4 || strings.TrimSpace(cells[0]) == "section" {
			continue
		}
		rows++
		concerns, test := strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])
		if applies := !strings.HasPrefix(concerns, "n/a"); applies && len(name.FindAllString(test, -1)) == 0 && !strings.HasPrefix(test, "none") || !applies && test != "" {
			t.Errorf("line %d: %q concerns %q, its test is %q", i+1, cells[1], concerns, test)
		}
	}
	if rows < 50 {
		t.Errorf("%d rows", rows)
	}
}
