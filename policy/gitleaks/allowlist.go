package gitleaks

import (
	"fmt"
	"strings"

	"framegate/policy"
)

// readAllowlist returns what is left of an allowlist of a rule, or of all if it
// is "".
func readAllowlist(t *table, rule string) (e except) {
	d := t.doc
	note := func(at path, format string, args ...any) {
		d.note(at, Note{Rule: rule, Text: fmt.Sprintf(format, args...)})
	}
	t.text("description")
	condition, at := t.text("condition")
	and := false
	switch strings.ToUpper(condition) {
	case "", "OR", "||":
	case "AND", "&&":
		and = true
	default:
		d.errorf(at, `condition: got %q, expected "OR" or "AND"`, condition)
	}
	target, at := t.text("regexTarget")
	regexes := &e.secret
	switch target {
	case "", "secret":
	case "match":
		regexes = &e.match
	case "line":
		regexes = &e.line
	default:
		d.errorf(at, `regexTarget: got %q, expected "secret", "match" or "line"`, target)
	}
	paths, atPaths := t.texts("paths")
	commits, atCommits := t.texts("commits")
	e.words, _ = t.texts("stopwords")
	texts, at := t.texts("regexes")
	for i, text := range texts {
		re := compile(d, at.to(i), "regexes", text)
		if re == nil {
			continue
		}
		// "re.FindString(f) != """ is a match for regexMatched of config/utils.go.
		if mayBeEmpty(text) {
			note(at.to(i), "allowlist regex %s is left out: it may match no character at all, which gitleaks does not count", describe(text))
			continue
		}
		if _, err := policy.CompileRegex(text); err != nil {
			note(at.to(i), "allowlist regex is left out: it is too large: %v", err)
			continue
		}
		*regexes = append(*regexes, text)
	}
	t.close(rule)

	switch {
	case !t.has("regexes", "stopwords", "paths", "commits"):
		// Allowlist.Validate of config/allowlist.go refuses it, too.
		d.errorf(t.at, "%s has none of regexes, stopwords, paths, commits, expected one", t.name)
	case and && (paths != nil || commits != nil):
		note(t.at, "allowlist is left out: it asks for certain paths or commits as well, and a message has none")
		return except{}
	case and && e.words != nil && texts != nil:
		note(t.at, "allowlist is left out: it asks for a regex and a stopword at once, and a policy for any")
		return except{}
	}
	if paths != nil && !and {
		note(atPaths, "paths of the allowlist are left out: a message has none")
	}
	if commits != nil && !and {
		note(atCommits, "commits of the allowlist are left out: a message is part of none")
	}
	return e
}
