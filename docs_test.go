package framegate_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// documents are the README and what is in docs, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d documents, %v", len(names), err)
	}
	texts := make(map[string]string)
	for _, name := range append(names, "README.md") {
		texts[name] = readText(t, name)
	}
	return texts
}

func readText(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// lineOf is where in a text an offset is.
func lineOf(text string, offset int) int { return 1 + strings.Count(text[:offset], "\n") }

// testsByPackage has the tests, fuzz tests and benchmarks of each directory.
func testsByPackage(t *testing.T) map[string][]string {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
	tests := make(map[string][]string)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range function.FindAllStringSubmatch(readText(t, path), -1) {
				dir := filepath.ToSlash(filepath.Dir(path))
				tests[dir] = append(tests[dir], m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// Every test that a document names exists: in that package, if it says which
// (audit.TestKeep), and as a script, if it is one (TestScripts/ca).
func TestDocsNameTests(t *testing.T) {
	tests := testsByPackage(t)
	var all []string
	for _, names := range tests {
		all = append(all, names...)
	}
	mention := regexp.MustCompile("(?:`([a-z/]+)\\.)?\\b((?:Test|Fuzz|Benchmark)[A-Z]\\w*)(?:/(\\w+))?")
	found := make(map[string]int)
	for name, text := range documents(t) {
		for _, at := range mention.FindAllStringSubmatchIndex(text, -1) {
			part := func(i int) string {
				if at[2*i] < 0 {
					return ""
				}
				return text[at[2*i]:at[2*i+1]]
			}
			dir, test, script := part(1), part(2), part(3)
			have := all
			if dir != "" {
				have = tests[dir]
			}
			found[name]++
			if !slices.Contains(have, test) {
				t.Errorf("%s:%d: there is no %s", name, lineOf(text, at[0]), strings.Trim(dir+"."+test, "."))
			}
			if test == "TestScripts" && script != "" && script != "NAME" {
				if _, err := os.Stat(filepath.Join(dir, "testdata", "script", script+".txt")); err != nil {
					t.Errorf("%s:%d: %v", name, lineOf(text, at[0]), err)
				}
			}
		}
	}
	for name, least := range map[string]int{"docs/COMPLIANCE.md": 100, "docs/SECURITY.md": 50} {
		if found[name] < least {
			t.Errorf("%s names %d tests", name, found[name])
		}
	}
}

// In each table of these documents that has a column for tests, a row that
// claims something names one.
func TestDocsClaimsAreTested(t *testing.T) {
	for _, name := range []string{"docs/COMPLIANCE.md", "docs/SECURITY.md"} {
		column, claims, width := -1, -1, 0
		for i, line := range strings.Split(readText(t, name), "\n") {
			cells := strings.Split(strings.Trim(line, "|"), "|")
			if !strings.HasPrefix(line, "|") {
				column = -1
				continue
			}
			for j := range cells {
				cells[j] = strings.TrimSpace(cells[j])
			}
			if header := slices.Index(cells, "tested"); header >= 0 {
				column, claims, width = header, slices.Index(cells, "gives"), len(cells)
				continue
			}
			switch {
			case column < 0 || strings.HasPrefix(line, "|-"):
			case len(cells) != width:
				t.Errorf("%s:%d: %d cells, expected %d", name, i+1, len(cells), width)
			case claims >= 0 && !slices.Contains([]string{"yes", "part", "no"}, cells[claims]):
				t.Errorf("%s:%d: gives %q", name, i+1, cells[claims])
			case claims >= 0 && cells[claims] == "yes" && cells[column] == "":
				t.Errorf("%s:%d: a claim without a test", name, i+1)
			}
		}
	}
}

// configKeys are the keys of framegate.toml, as cmd/framegate binds them.
func configKeys(t *testing.T) []string {
	t.Helper()
	var keys []string
	for _, m := range regexp.MustCompile(`(?m)^\t\t\{"([a-z]+\.[a-z_]+)", `).FindAllStringSubmatch(readText(t, "cmd/framegate/config.go"), -1) {
		keys = append(keys, m[1])
	}
	if len(keys) < 40 {
		t.Fatalf("%d keys", len(keys))
	}
	return keys
}

// Every key of framegate.toml that a document names exists: as `section.key`,
// where the events of the log look alike, and in blocks of TOML.
func TestDocsNameKeys(t *testing.T) {
	known := configKeys(t)
	var sections []string
	for _, key := range known {
		section, _, _ := strings.Cut(key, ".")
		if !slices.Contains(sections, section) {
			sections = append(sections, section)
		}
	}
	for _, name := range []string{"audit/event.go", "audit/erase.go"} {
		for _, m := range regexp.MustCompile(`= "([a-z]+\.[a-z]+)"`).FindAllStringSubmatch(readText(t, name), -1) {
			known = append(known, m[1])
		}
	}
	known = append(known, "policy.version") // of OCSF
	inline := regexp.MustCompile("`([a-z]+)\\.([a-z_]+)`|`\\[([a-z]+)\\] ([a-z_]+)[ =`]")
	for name, text := range documents(t) {
		for _, m := range inline.FindAllStringSubmatch(text, -1) {
			section, key := m[1]+m[3], m[2]+m[4]
			if slices.Contains(sections, section) && !slices.Contains(known, section+"."+key) {
				t.Errorf("%s: there is no key %s.%s", name, section, key)
			}
		}
		for _, block := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(text, -1) {
			section := ""
			for line := range strings.Lines(block[1]) {
				if strings.HasPrefix(line, "[") {
					section = strings.Trim(strings.Fields(line)[0], "[]")
				}
				key, _, ok := strings.Cut(line, "=")
				key = strings.TrimSpace(key)
				// Files of rules have a [policy], too.
				if ok && section != "policy" && slices.Contains(sections, section) && !slices.Contains(known, section+"."+key) {
					t.Errorf("%s: there is no key %s.%s", name, section, key)
				}
			}
		}
	}
}

// The README names every key, in the row of its section, and no other.
func TestReadmeHasEveryKey(t *testing.T) {
	rows := make(map[string][]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `\\[([a-z]+)\\]` \\| (.*) \\|$").FindAllStringSubmatch(readText(t, "README.md"), -1) {
		for _, key := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(m[2], -1) {
			rows[m[1]] = append(rows[m[1]], key[1])
		}
	}
	known := configKeys(t)
	for _, key := range known {
		section, name, _ := strings.Cut(key, ".")
		if !slices.Contains(rows[section], name) {
			t.Errorf("README.md does not name %s", key)
		}
	}
	for section, names := range rows {
		for _, name := range names {
			if !slices.Contains(known, section+"."+name) {
				t.Errorf("README.md: there is no key %s.%s", section, name)
			}
		}
	}
}

// Every relative link leads to a file, and to a heading of it if it says which.
func TestDocsLinks(t *testing.T) {
	code := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	plain := regexp.MustCompile(`\bdocs/[\w.-]+\.md\b`)
	for name, text := range documents(t) {
		for _, path := range plain.FindAllString(text, -1) {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, ":") {
				continue // of the web
			}
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s: %v", name, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(readText(t, target)), anchor) {
				t.Errorf("%s: link to %s: no such heading", name, m[1])
			}
		}
	}
}

// anchors are the headings of a document as forges make links of them.
func anchors(text string) []string {
	var list []string
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if fenced || !strings.HasPrefix(line, "#") {
			continue
		}
		title := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
		list = append(list, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return r
			}
			return -1
		}, title))
	}
	return list
}

// The lines of systemd that docs/SECURITY.md explains are those of the units.
func TestDocsUnitLines(t *testing.T) {
	units := ""
	for _, name := range []string{"framegate.service", "framegate.socket", "fail-closed.conf"} {
		units += "\n" + readText(t, filepath.Join("examples", "systemd", name))
	}
	blocks := regexp.MustCompile("(?s)```ini\n(.*?)```").FindAllStringSubmatch(readText(t, "docs/SECURITY.md"), -1)
	if len(blocks) == 0 {
		t.Fatal("no lines")
	}
	for _, block := range blocks {
		for line := range strings.Lines(block[1]) {
			if line = strings.TrimSpace(line); line != "" && !strings.Contains(units, "\n"+line+"\n") {
				t.Errorf("no unit has the line %q", line)
			}
		}
	}
}
