package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// A document is one file being read. It collects mistakes instead of stopping
// at the first one.
type document struct {
	name   string
	text   string
	errors *[]*Error
}

// read parses the text as TOML. It returns nil if it is none.
func (d *document) read() *table {
	var m map[string]any
	if _, err := toml.Decode(d.text, &m); err != nil {
		e := &Error{File: d.name, Message: printable(err.Error())}
		if bad, ok := errors.AsType[toml.ParseError](err); ok {
			e = d.at(bad.Position.Start, "%s", printable(bad.Message))
		}
		*d.errors = append(*d.errors, e)
		return nil
	}
	return &table{doc: d, name: "a policy file", node: locate(d.text), values: m}
}

func (d *document) at(offset int, format string, args ...any) *Error {
	line, column := lineColumn(d.text, offset)
	return &Error{File: d.name, Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
}

// A table reads one TOML table by asking for the keys it may have. A getter
// records a value of the wrong type as a mistake and reports it as absent.
type table struct {
	doc    *document
	name   string // in messages
	node   *node
	values map[string]any
	asked  []string
}

// A text is a string with the place where it is written.
type text struct {
	string
	at int
}

func (t *table) errorf(at int, format string, args ...any) {
	*t.doc.errors = append(*t.doc.errors, t.doc.at(at, format, args...))
}

// sub returns the node of a key, or that of the table if it was not located.
func (t *table) sub(key string) *node {
	if n := t.node.keys[key]; n != nil {
		return n
	}
	return t.node
}

func (t *table) get(key string) (any, bool) {
	t.asked = append(t.asked, key)
	v, ok := t.values[key]
	return v, ok
}

func (t *table) has(key string) bool {
	_, ok := t.values[key]
	return ok
}

func (t *table) mismatch(at int, key string, v any, expected string) {
	t.errorf(at, "%s: got %s, expected %s", key, describe(v), expected)
}

func (t *table) text(key string) (text, bool) {
	v, ok := t.get(key)
	if !ok {
		return text{}, false
	}
	at := t.sub(key).value
	s, ok := v.(string)
	if !ok {
		t.mismatch(at, key, v, "a string")
	}
	return text{s, at}, ok
}

// word reads one of the given words, or returns def.
func (t *table) word(key, def string, words ...string) string {
	s, ok := t.text(key)
	if !ok {
		return def
	}
	if !slices.Contains(words, s.string) {
		t.mismatch(s.at, key, s.string, oneOf(words)+didYouMean(s.string, words))
		return def
	}
	return s.string
}

// texts reads a list of strings. given tells that the key is there at all.
func (t *table) texts(key string) (list []text, given bool) {
	v, ok := t.get(key)
	if !ok {
		return nil, false
	}
	n := t.sub(key)
	values, ok := v.([]any)
	if !ok {
		t.mismatch(n.value, key, v, "a list of strings")
		return nil, true
	}
	for i, v := range values {
		at := n.value
		if i < len(n.items) {
			at = n.items[i].value
		}
		s, ok := v.(string)
		switch {
		case !ok:
			t.mismatch(at, key, v, "a string")
		case s == "":
			t.errorf(at, "%s: got an empty string, expected some text", key)
		default:
			list = append(list, text{s, at})
		}
	}
	return list, true
}

// some is texts for a key where an empty list would silently mean "everything".
func (t *table) some(key string) []text {
	list, given := t.texts(key)
	if values, ok := t.values[key].([]any); given && ok && len(values) == 0 {
		t.errorf(t.sub(key).value, "%s: got an empty list, expected at least one value", key)
	}
	return list
}

// size reads a number of bytes, or returns def.
func (t *table) size(key string, def int64) int64 {
	v, ok := t.get(key)
	if !ok {
		return def
	}
	at := t.sub(key).value
	n, isInt := v.(int64)
	err := errSize
	if isInt && n >= 0 {
		return n
	}
	if s, ok := v.(string); ok {
		n, err = parseSize(s)
	}
	if err != nil {
		t.errorf(at, "%s: got %s, %v", key, describe(v), err)
		return def
	}
	return n
}

// table reads a table, nil if it is absent.
func (t *table) table(key, name string) *table {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	n := t.sub(key)
	m, ok := v.(map[string]any)
	if !ok {
		t.mismatch(n.value, key, v, "a table")
		return nil
	}
	return &table{doc: t.doc, name: name, node: n, values: m}
}

// tables reads an array of tables, written with headers or inline.
func (t *table) tables(key, name string) []*table {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	n := t.sub(key)
	maps, ok := v.([]map[string]any)
	if values, inline := v.([]any); inline {
		ok = true
		for _, v := range values {
			m, isTable := v.(map[string]any)
			ok = ok && isTable
			maps = append(maps, m)
		}
	}
	if !ok {
		t.mismatch(n.value, key, v, "an array of tables, "+name)
		return nil
	}
	list := make([]*table, len(maps))
	for i, m := range maps {
		at := n
		if i < len(n.items) {
			at = n.items[i]
		}
		list[i] = &table{doc: t.doc, name: name, node: at, values: m}
	}
	return list
}

// close reports the keys that nobody asked for.
func (t *table) close() {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if !slices.Contains(t.asked, key) {
			known := slices.Clone(t.asked)
			slices.Sort(known)
			known = slices.Compact(known)
			t.errorf(t.sub(key).key, "unknown key %q in %s, expected %s%s", key, t.name, strings.Join(known, ", "), didYouMean(key, known))
		}
	}
}

func oneOf(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return strings.Join(quoted, " or ")
}

// describe names a value of a TOML file in a message.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		if r := []rune(v); len(r) > 60 {
			v = string(r[:60]) + "..."
		}
		return strconv.Quote(v)
	case int64, float64, bool:
		return fmt.Sprint(v)
	case time.Time:
		return "a date"
	case []any, []map[string]any:
		return "an array"
	}
	return "a table"
}

// printable escapes what a terminal might take for a command.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
