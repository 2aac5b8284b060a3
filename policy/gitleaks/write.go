package gitleaks

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A writer writes the policy. The same input gives the same bytes.
type writer struct {
	strings.Builder
	Options
	title, version string
}

func (w *writer) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

func (w *writer) policy(source string, rules []*rule) []byte {
	w.head(source)
	for _, r := range rules {
		w.rule(r)
	}
	return []byte(w.String())
}

// head says where the rules come from. Comments at the top of the source, where
// a notice of its licence would be, are kept.
func (w *writer) head(source string) {
	title := w.title
	if title == "" {
		title = "gitleaks"
	}
	w.line("# Rules of gitleaks, %s, made by framegate policy import of", comment(quote(title)))
	w.line("# %s. Do not edit: import again.", comment(filepath.Base(w.File)))
	if w.version != "" {
		w.line("# They are for gitleaks %s or later.", comment(w.version))
	}
	w.line("#\n# What the source is under, this file is under, too. The rules that come with\n" +
		"# gitleaks (https://github.com/gitleaks/gitleaks) are under the MIT License,\n" +
		"# Copyright (c) 2019 Zachary Rice.\n#")
	w.line("# An entropy is the next number above that of the source: gitleaks wants more\n# than it says, a policy no less.")
	first := true
	for line := range strings.Lines(strings.TrimPrefix(source, "\ufeff")) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "#") {
			break
		}
		if first {
			w.line("#\n# The source says of itself:\n#")
			first = false
		}
		text := strings.TrimPrefix(strings.TrimPrefix(line, "#"), " ")
		w.line("%s", strings.TrimRight("#   "+comment(text), " "))
	}
	w.line("\n[policy]\nname = %s", quote(title))
}

// comment keeps s on its line.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

func (w *writer) rule(r *rule) {
	w.line("\n[[rule]]")
	w.line("id          = %s", quote(r.name))
	if r.description != "" {
		w.line("description = %s", quote(r.description))
	}
	w.line("severity    = \"high\"")
	tags := append([]string{"gitleaks"}, r.tags...)
	w.list("tags        = ", distinct(tags), quote)
	w.line("action      = %s", quote(w.Action))
	if w.Shadow {
		w.line("mode        = \"shadow\"")
	}
	w.line("\n[rule.match]")
	w.list("keywords = ", distinct(r.keywords), quote)
	w.list("regex = ", []string{r.regex}, literal)

	var group, entropy string
	switch {
	case r.group > 0:
		group = strconv.Itoa(r.group)
	case r.groups > 0:
		group = `"first"`
	}
	// "if entropy <= r.Entropy" is too low for detectRule of detect/detect.go. Not
	// a number and what is below 0 never are.
	if r.entropy > 0 {
		entropy = strconv.FormatFloat(math.Nextafter(r.entropy, math.Inf(1)), 'f', -1, 64)
	}
	if group != "" || entropy != "" {
		w.line("\n[rule.value]")
	}
	if group != "" {
		w.line("group = %s", group)
	}
	if entropy != "" {
		w.line("entropy = %s", entropy)
	}
	if e := r.except; len(e.words)+len(e.secret)+len(e.match)+len(e.line) > 0 {
		w.line("\n[rule.value.except]")
		w.list("words = ", distinct(e.words), quote)
		w.list("regex = ", distinct(e.secret), literal)
		w.list("match = ", distinct(e.match), literal)
		w.list("line = ", distinct(e.line), literal)
	}
}

// list writes a list, in one line if it is short, and nothing if it is empty.
func (w *writer) list(key string, list []string, quote func(string) string) {
	quoted := make([]string, len(list))
	n := 0
	for i, s := range list {
		quoted[i] = quote(s)
		n += len(quoted[i])
	}
	switch {
	case len(list) == 0:
	case len(list) == 1 || n < 80:
		w.line("%s[%s]", key, strings.Join(quoted, ", "))
	default:
		w.line("%s[\n    %s,\n]", key, strings.Join(quoted, ",\n    "))
	}
}

// distinct returns list without what is in it before, in its order.
func distinct(list []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool {
		again := seen[s]
		seen[s] = true
		return again
	})
}

// literal writes a regex as a literal string of TOML, which knows no escapes, if
// there is a way to.
func literal(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return quote(s)
	}
	if !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	if !strings.Contains(s, "'''") {
		return "'''" + s + "'''"
	}
	return quote(s)
}

// quote writes a basic string of TOML: "the characters that must be escaped:
// quotation mark, backslash, and the control characters other than tab" (TOML
// 1.0.0, String).
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
