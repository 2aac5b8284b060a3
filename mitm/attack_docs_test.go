package mitm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/ATTACKS.md names tests that exist, and every attack that is carried out,
// with its source and its outcome.
func TestAttacksNameTests(t *testing.T) {
	exists := make(map[string]bool)
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`).FindAllStringSubmatch(string(b), -1) {
			exists[m[1]] = true
		}
	}
	b, err := os.ReadFile(filepath.Join("..", "docs", "ATTACKS.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]bool)
	for i, line := range strings.Split(string(b), "\n") {
		names := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`).FindAllString(line, -1)
		for _, name := range names {
			if !exists[name] {
				t.Errorf("line %d: there is no %s", i+1, name)
			}
		}
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| attack |") {
			rows[line] = true
			if strings.Count(line, "|") != 6 || len(names) == 0 {
				t.Errorf("line %d: no row of 5 cells with a test", i+1)
			}
		}
	}
	for _, row := range attackRows() {
		if !rows[row] {
			t.Errorf("not in docs/ATTACKS.md:\n%s", row)
		}
	}
}

// attackRows are the rows that the tables of attacks make.
func attackRows() (rows []string) {
	for _, a := range smugglings {
		outcome, record := "200, one meaning to all", "http.request 200"
		if status := a.status[len(a.status)-1]; status >= 400 {
			outcome, record = fmt.Sprintf("%d, the server gets no request", status), fmt.Sprintf("http.request %d", status)
		}
		tests := "TestAttackSmuggling, TestAttackServers"
		if a.name == manyFields {
			tests = "TestAttackSmuggling"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s |", a.name, a.source, outcome, record, tests))
	}
	for _, a := range tunnellings {
		outcome := fmt.Sprintf("%d, the server gets no request", a.status)
		if a.answer != "" {
			outcome = fmt.Sprintf("%d, the server gets nothing more", a.status)
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | http.request %d | TestAttackTunnel |", a.name, a.source, outcome, a.status))
	}
	return rows
}
