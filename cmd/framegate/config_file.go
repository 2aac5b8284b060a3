package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// A problem is one mistake in a configuration file.
type problem struct {
	file      string
	line, col int
	message   string
}

func (p *problem) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.file, p.line, p.col, p.message)
}

// loadConfig reads the file called name. Its error joins every problem that
// was found, in the order of the file.
func loadConfig(name string) (*config, error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parseConfig(name, src)
}

func parseConfig(name string, src []byte) (*config, error) {
	var sections map[string]toml.Primitive
	md, err := toml.Decode(string(src), &sections)
	if err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			// Its line is already the next one if a line ends too early.
			before := string(src[:min(max(syntax.Position.Start, 0), len(src))])
			line := strings.Count(before, "\n") + 1
			col := len(before) - strings.LastIndex(before, "\n")
			return nil, &problem{name, line, col, ourStyle(syntax.Message)}
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}

	c := defaultConfig()
	fields := c.fields()
	places := make(map[string]node) // of the keys that are there
	var problems []*problem
	report := func(n node, format string, args ...any) {
		problems = append(problems, &problem{name, n.line, n.col, fmt.Sprintf(format, args...)})
	}
	unknown := func(n node, key, format string, args ...any) {
		// The key stands before its value, as a rule on the same line.
		if i := strings.Index(lineOf(src, n.line), key); i >= 0 {
			n.col = i + 1
		}
		report(n, "unknown key %q"+format, append([]any{key}, args...)...)
	}
	for section, p := range sections {
		n := look(&md, p)
		known := keysOf(fields, section)
		if known == nil {
			unknown(n, section, ", expected one of the tables %s", sectionsOf(fields))
			continue
		}
		if _, ok := n.value.(map[string]any); !ok {
			report(n, "%s: got %s, expected a table", section, describe(n.value))
			continue
		}
		for key, p := range children(&md, p) {
			n := look(&md, p)
			i := slices.IndexFunc(fields, func(f field) bool { return f.key == section+"."+key })
			if i < 0 {
				unknown(n, key, " in [%s], expected one of %s", section, strings.Join(known, ", "))
				continue
			}
			places[fields[i].key] = n
			for _, err := range fields[i].set(n.value) {
				report(n, "%s.%s: %v", section, key, err)
			}
		}
	}
	if _, err := c.rules(); err != nil && len(problems) == 0 {
		// Each value is right by itself, so two of them disagree on ports.
		at, ok := places["intercept.listen"]
		if !ok {
			at = places["intercept.ports"]
		}
		report(at, "intercept: %v", err)
	}
	if c.Limits.MaxMessage < c.Limits.Hold && len(problems) == 0 {
		at, ok := places["limits.max_message"]
		if !ok {
			at = places["limits.hold"]
		}
		report(at, "limits: max_message is %d bytes, expected no less than hold, %d bytes", c.Limits.MaxMessage, c.Limits.Hold)
	}
	if key, err := c.checkRecipients(); err != nil && len(problems) == 0 {
		report(places[key], "%s: %v", key, err)
	}
	if c.Admin.Profile && !strings.HasPrefix(c.Admin.Listen, "unix:") && len(problems) == 0 {
		report(places["admin.pprof"], "admin.pprof: profiles are served on a socket of the file system only, expected admin.listen = \"unix:PATH\"")
	}
	if key, err := c.checkShipping(); err != nil && len(problems) == 0 {
		report(places[key], "%s: %v", key, err)
	}
	slices.SortStableFunc(problems, func(a, b *problem) int {
		return cmp.Or(a.line-b.line, a.col-b.col)
	})
	var all []error
	for _, p := range problems {
		all = append(all, p)
	}
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	return c, nil
}

// ourStyle turns a message of package toml into one line of ours.
func ourStyle(message string) string {
	message = printable(strings.TrimSuffix(message, "."))
	return strings.ToLower(message[:min(1, len(message))]) + message[min(1, len(message)):]
}

// A node is one value of the file and where it stands.
type node struct {
	value     any
	line, col int
}

// errStop makes package toml say where it is: it reports positions only in
// errors.
var errStop = errors.New("stop")

// UnmarshalTOML implements toml.Unmarshaler.
func (n *node) UnmarshalTOML(v any) error {
	n.value = v
	return errStop
}

// look returns the value behind p. A table that has no header of its own (by
// dotted keys) stands where the first of its values does.
func look(md *toml.MetaData, p toml.Primitive) node {
	var n node
	var at toml.ParseError
	if errors.As(md.PrimitiveDecode(p, &n), &at) {
		n.line, n.col = at.Position.Line, at.Position.Col
	}
	if _, ok := n.value.(map[string]any); !ok || n.line > 0 {
		return n
	}
	for _, child := range children(md, p) {
		if c := look(md, child); n.line == 0 || c.line < n.line {
			n.line, n.col = c.line, c.col
		}
	}
	return n
}

// children returns the values of the table behind p.
func children(md *toml.MetaData, p toml.Primitive) map[string]toml.Primitive {
	var m map[string]toml.Primitive
	if err := md.PrimitiveDecode(p, &m); err != nil {
		return nil // not a table
	}
	return m
}

// lineOf returns line n of src, counted from 1.
func lineOf(src []byte, n int) string {
	for line := range strings.Lines(string(src)) {
		if n--; n == 0 {
			return line
		}
	}
	return ""
}

// keysOf returns the keys of one table, nil if there is no such table.
func keysOf(fields []field, section string) []string {
	var keys []string
	for _, f := range fields {
		if key, ok := strings.CutPrefix(f.key, section+"."); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

func sectionsOf(fields []field) string {
	var names []string
	for _, f := range fields {
		section, _, _ := strings.Cut(f.key, ".")
		names = append(names, section)
	}
	return strings.Join(slices.Compact(names), ", ")
}
