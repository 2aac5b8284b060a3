package mitm

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every outcome in docs/OUTCOMES.md names a test, and every test that it names
// exists.
func TestOutcomesNameTests(t *testing.T) {
	exists := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)
	for _, dir := range []string{".", filepath.Join("..", "frames"), filepath.Join("..", "internal", "endtoend")} {
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
	b, err := os.ReadFile(filepath.Join("..", "docs", "OUTCOMES.md"))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	rows := 0
	for i, line := range strings.Split(string(b), "\n") {
		names := name.FindAllString(line, -1)
		for _, n := range names {
			if !exists[n] {
				t.Errorf("line %d: there is no %s", i+1, n)
			}
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "| ") || strings.TrimSpace(cells[0]) == "what" {
			continue
		}
		if rows++; len(cells) != 6 || len(names) == 0 {
			t.Errorf("line %d: a row of %d cells with %d tests", i+1, len(cells), len(names))
		}
	}
	if rows < 25 {
		t.Errorf("%d rows", rows)
	}
}
