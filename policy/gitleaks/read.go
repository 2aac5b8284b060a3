package gitleaks

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"framegate/policy"
)

// A document is the file being read. It collects mistakes and notes.
type document struct {
	name, text string
	errors     []*policy.Error
	notes      []Note
}

// A path leads to a value of the document, as [policy.Position] has it.
type path []any

func (p path) to(part any) path { return append(slices.Clip(p), part) }

// read parses the text as TOML. It returns nil if it is none.
func (d *document) read() *table {
	var values map[string]any
	_, err := toml.Decode(d.text, &values)
	if err == nil {
		return &table{doc: d, name: "the file", values: values, asked: map[string]bool{}}
	}
	e := &policy.Error{File: d.name, Message: err.Error()}
	if bad, ok := errors.AsType[toml.ParseError](err); ok {
		// Its line is already the next one if a line ends too early.
		before := d.text[:min(max(bad.Position.Start, 0), len(d.text))]
		start := strings.LastIndexByte(before, '\n') + 1
		e.Line, e.Column = strings.Count(before, "\n")+1, utf8.RuneCountInString(before[start:])+1
		e.Message = bad.Message
	}
	d.errors = append(d.errors, e)
	return nil
}

func (d *document) errorf(at path, format string, args ...any) {
	line, column := policy.Position(d.text, at...)
	d.errors = append(d.errors, &policy.Error{File: d.name, Line: line, Column: column, Message: fmt.Sprintf(format, args...)})
}

func (d *document) note(at path, n Note) {
	n.File = d.name
	n.Line, n.Column = policy.Position(d.text, at...)
	d.notes = append(d.notes, n)
}

// err returns all mistakes as one, in the order of the file.
func (d *document) err() error {
	slices.SortStableFunc(d.errors, func(a, b *policy.Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	all := make([]error, len(d.errors))
	for i, e := range d.errors {
		all[i] = e
	}
	return errors.Join(all...)
}

// A table is one table of the document. gitleaks reads it by package viper, for
// which the case of keys does not matter.
type table struct {
	doc    *document
	name   string // in messages
	at     path
	values map[string]any
	asked  map[string]bool // keys as they are written
}

// get returns a value and where it is, nil if it is absent.
func (t *table) get(key string) (v any, at path) {
	for _, k := range slices.Sorted(maps.Keys(t.values)) {
		if strings.EqualFold(k, key) {
			t.asked[k] = true
			return t.values[k], t.at.to(k)
		}
	}
	return nil, t.at
}

// has reports whether one of the keys is there.
func (t *table) has(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { v, _ := t.get(key); return v != nil })
}

// as returns a value if it has the type T, and reports any other.
func as[T any](t *table, key, expected string) (v T, at path, ok bool) {
	raw, at := t.get(key)
	v, ok = raw.(T)
	if raw != nil && !ok {
		t.doc.errorf(at, "%s: got %s, expected %s", key, describe(raw), expected)
	}
	return v, at, ok
}

func (t *table) text(key string) (string, path) {
	s, at, _ := as[string](t, key, "a string")
	return s, at
}

func (t *table) number(key string) (float64, path) {
	if n, at := t.get(key); n != nil {
		if n, ok := n.(int64); ok {
			return float64(n), at
		}
	}
	f, at, _ := as[float64](t, key, "a number")
	return f, at
}

// texts returns a list of strings, of which none may be empty.
func (t *table) texts(key string) ([]string, path) {
	list, at, _ := as[[]any](t, key, "a list of strings")
	var texts []string
	for i, v := range list {
		s, ok := v.(string)
		switch {
		case !ok:
			t.doc.errorf(at.to(i), "%s: got %s, expected a string", key, describe(v))
		case s == "":
			t.doc.errorf(at.to(i), "%s: got an empty string, expected some text", key)
		default:
			texts = append(texts, s)
		}
	}
	return texts, at
}

// tables returns the tables of an array, or a single one.
func (t *table) tables(key string) (tables []*table) {
	v, at := t.get(key)
	sub := func(values map[string]any, at path) {
		tables = append(tables, &table{t.doc, key, at, values, map[string]bool{}})
	}
	switch v := v.(type) {
	case nil:
	case map[string]any:
		sub(v, at)
	case []map[string]any:
		for i, m := range v {
			sub(m, at.to(i))
		}
	case []any:
		for i, m := range v {
			if m, ok := m.(map[string]any); ok {
				sub(m, at.to(i))
			} else {
				t.doc.errorf(at.to(i), "%s: got %s, expected a table", key, describe(v[i]))
			}
		}
	default:
		t.doc.errorf(at, "%s: got %s, expected tables", key, describe(v))
	}
	return tables
}

// close notes the keys that nobody asked for.
func (t *table) close(rule string) {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if !t.asked[key] {
			t.doc.note(t.at.to(key), Note{Rule: rule, Text: fmt.Sprintf("key %q of %s is not known and left out", key, t.name)})
		}
	}
}

func describe(v any) string {
	switch v := v.(type) {
	case string:
		if r := []rune(v); len(r) > 60 {
			v = string(r[:60]) + "..."
		}
		return fmt.Sprintf("%q", v)
	case int64, float64, bool:
		return fmt.Sprint(v)
	case []any, []map[string]any:
		return "an array"
	case map[string]any:
		return "a table"
	}
	return "a date"
}
