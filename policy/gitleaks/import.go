package gitleaks

import (
	"cmp"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"framegate/policy"
)

// Options say what the rules of the policy are to do.
type Options struct {
	File   string // name of what is read, for messages and the head of the policy
	Action string // of all rules: allow, log, redact, drop or close; "": log
	Shadow bool   // the rules only record what they would do
}

// A Note tells what could not be carried over.
type Note struct {
	File         string
	Line, Column int
	Rule         string // its id for gitleaks, "" if it is about all rules
	Lost         bool   // the rule is left out, not only a part of it
	Text         string
}

func (n Note) String() string {
	rule := ""
	if n.Rule != "" {
		rule = fmt.Sprintf("rule %q ", n.Rule)
	}
	if n.Lost {
		rule += "is left out: "
	} else if rule != "" {
		rule = strings.TrimSuffix(rule, " ") + ": "
	}
	return fmt.Sprintf("%s:%d:%d: %s%s", n.File, n.Line, n.Column, rule, n.Text)
}

// A Result is what has become of a file.
type Result struct {
	Policy         []byte // in TOML; the same for the same file and options
	Rules, Carried int    // in the file, and in the policy
	Notes          []Note // in the order of the file
}

// A rule is one that can be carried over.
type rule struct {
	id, name    string // for gitleaks, and in the policy
	description string
	tags        []string
	keywords    []string
	regex       string
	groups      int // of regex
	group       int // 0: the first that has text
	entropy     float64
	except      except
}

// An except is what is left of allowlists.
type except struct {
	words, secret, match, line []string
}

func (e *except) add(f except) {
	e.words = append(e.words, f.words...)
	e.secret = append(e.secret, f.secret...)
	e.match = append(e.match, f.match...)
	e.line = append(e.line, f.line...)
}

// Import makes a policy of a rule file. The error holds every mistake found, each
// as a *[policy.Error], joined by [errors.Join].
func Import(data []byte, o Options) (*Result, error) {
	o.Action = cmp.Or(o.Action, "log")
	d := &document{name: o.File, text: string(data)}
	t := d.read()
	if t == nil {
		return nil, d.err()
	}
	title, _ := t.text("title")
	version, _ := t.text("minVersion")
	t.text("description")
	for _, extend := range t.tables("extend") {
		d.note(extend.at, Note{Text: "the rules that it extends are not in this file and not carried over"})
	}

	list := t.tables("rules")
	var rules []*rule
	ids := map[string]path{} // where each id is
	names := map[string]bool{}
	for _, t := range list {
		if r := readRule(t, o.Action, ids); r != nil {
			r.name = unique("gitleaks/"+strings.Map(inID, r.id), names)
			if r.name != "gitleaks/"+r.id {
				d.note(t.at, Note{Rule: r.id, Text: fmt.Sprintf("its id is now %q", r.name)})
			}
			rules = append(rules, r)
		}
	}
	for _, key := range []string{"allowlist", "allowlists"} {
		for _, a := range t.tables(key) {
			targets, _ := a.texts("targetRules")
			for _, id := range targets {
				if ids[id] == nil {
					d.note(a.at, Note{Text: fmt.Sprintf("targetRules: no rule of this file has the id %q", id)})
				}
			}
			e := readAllowlist(a, "")
			for _, r := range rules {
				if targets == nil || slices.Contains(targets, r.id) {
					r.except.add(e)
				}
			}
		}
	}
	t.close("")
	if err := d.err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(d.notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	w := writer{Options: o, title: title, version: version}
	return &Result{w.policy(d.text, rules), len(list), len(rules), d.notes}, nil
}

// readRule returns a rule, nil if it is not carried over.
func readRule(t *table, action string, ids map[string]path) *rule {
	d := t.doc
	r := &rule{}
	id, at := t.text("id")
	r.id = id
	switch first := ids[id]; {
	case strings.TrimSpace(id) == "":
		d.errorf(at, "[[rules]] has no id, expected one")
	case first != nil:
		line, column := policy.Position(d.text, first...)
		d.errorf(at, "id: got %q, which is taken at %d:%d, expected one that is not", id, line, column)
	default:
		ids[id] = at
	}
	r.description, _ = t.text("description")
	r.tags, _ = t.texts("tags")
	r.keywords, _ = t.texts("keywords")

	var lost string
	files, _ := t.text("path")
	text, at := t.text("regex")
	re := compile(d, at, "regex", text)
	r.regex = text
	if re != nil {
		r.groups = re.NumSubexp()
	}
	n, at, _ := as[int64](t, "secretGroup", "the number of a group")
	if n > int64(r.groups) && re != nil {
		d.errorf(at, "secretGroup: got %d, expected %d at most, the number of groups of the regex", n, r.groups)
	}
	r.group = int(max(0, n))
	r.entropy, _ = t.number("entropy")

	for _, key := range []string{"allowlist", "allowlists"} {
		for _, a := range t.tables(key) {
			r.except.add(readAllowlist(a, id))
		}
	}
	// Of v8.28.0, config/rule.go: both change what a rule means.
	required := t.tables("required")
	skip, _, _ := as[bool](t, "skipReport", "true or false")

	switch {
	case text == "" && files == "":
		lost = "it has no regex"
	case text == "":
		lost = "it is about the names of files, and a message has none"
	case files != "":
		lost = "it is confined to files by its path, and a message has none"
	case required != nil:
		lost = "it asks for findings of other rules nearby"
	case skip:
		lost = "it is there only for other rules to ask for (skipReport)"
	case r.entropy >= 21: // more than log2 of the number of characters of Unicode
		lost = "no text has so much entropy"
	case action == "redact" && re != nil && mayBeEmpty(text):
		lost = "its regex may match no character at all, which cannot be redacted"
	case re != nil:
		if _, err := policy.CompileRegex(text); err != nil {
			lost = "its regex is too large: " + err.Error()
		}
	}
	t.close(id)
	if lost != "" {
		d.note(t.at, Note{Rule: id, Lost: true, Text: lost})
		return nil
	}
	return r
}

// compile returns a regex, nil if it is none, which is reported.
func compile(d *document, at path, key, text string) *regexp.Regexp {
	re, err := regexp.Compile(text)
	if err != nil {
		_, err = policy.CompileRegex(text) // says it as a policy does
		d.errorf(at, "%s: %v", key, err)
	}
	return re
}

// mayBeEmpty reports whether a regex that compiles may match no character.
func mayBeEmpty(text string) bool {
	tree, err := syntax.Parse(text, syntax.Perl)
	return err == nil && empty(tree)
}

func empty(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral, syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return false
	case syntax.OpCapture, syntax.OpPlus:
		return empty(re.Sub[0])
	case syntax.OpRepeat:
		return re.Min == 0 || empty(re.Sub[0])
	case syntax.OpConcat:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !empty(sub) })
	case syntax.OpAlternate:
		return slices.ContainsFunc(re.Sub, empty)
	}
	return true
}

// inID maps what ids of a policy do not have.
func inID(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:/", r) {
		return r
	}
	return '-'
}

// unique returns name, with a number if it is taken.
func unique(name string, taken map[string]bool) string {
	free := name
	for n := 2; taken[free]; n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	taken[free] = true
	return free
}
