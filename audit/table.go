package audit

import (
	"bytes"
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Table prints records for a person, one a line. The columns have fixed
// widths, so that a log can be followed; a longer value pushes its line aside.
// What an outsider controls is escaped, spaces too where they could pass for
// the border of a column.
type Table struct {
	w   io.Writer
	buf []byte
}

// NewTable returns a table that is printed to w, one Write a line.
func NewTable(w io.Writer) *Table { return &Table{w: w} }

// columns are what a line has; the last one is as long as it is.
var columns = [...]struct {
	name  string
	width int
	right bool
	value func(*Record) string
}{
	{"TIME", 23, false, func(r *Record) string { return r.Time.UTC().Format("2006-01-02T15:04:05.000") }},
	{"EVENT", 13, false, func(r *Record) string { return r.Event }},
	{"CONN", 16, false, func(r *Record) string { return r.Conn }},
	{"DIR", 9, false, func(r *Record) string { return r.Dir }},
	{"OPCODE", 6, false, func(r *Record) string { return r.Opcode }},
	{"SIZE", 8, true, func(r *Record) string {
		if r.Opcode == "" {
			return ""
		}
		return strconv.FormatInt(r.Size, 10)
	}},
	{"ACTION", 9, false, func(r *Record) string { return cmp.Or(r.Action, r.State) }},
	{"RULES", 20, false, func(r *Record) string { return strings.Join(r.Rules, ",") }},
	{"HOST", 24, false, func(r *Record) string { return cmp.Or(r.Host, r.SNI) }},
	{"REASON", 0, false, detail},
}

// detail is the last column: the reason, behind what else says what happened.
func detail(r *Record) string {
	code := ""
	if r.Code != 0 {
		code = strconv.Itoa(r.Code)
	}
	parts := []string{r.Method, r.Path, code, r.Reason}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

// Header prints the names of the columns.
func (t *Table) Header() error {
	t.buf = t.buf[:0]
	for _, c := range columns {
		t.cell(c.name, c.width, c.right)
	}
	return t.flush()
}

// Row prints a record.
func (t *Table) Row(r Record) error {
	t.buf = t.buf[:0]
	for _, c := range columns {
		t.cell(cmp.Or(c.value(&r), "-"), c.width, c.right)
	}
	return t.flush()
}

func (t *Table) cell(s string, width int, right bool) {
	shown := appendShown(nil, s, width > 0)
	pad := strings.Repeat(" ", max(0, width-utf8.RuneCount(shown)))
	if right {
		t.buf = append(t.buf, pad...)
		pad = ""
	}
	t.buf = append(t.buf, shown...)
	t.buf = append(t.buf, pad...)
	t.buf = append(t.buf, ' ', ' ')
}

func (t *Table) flush() error {
	_, err := t.w.Write(append(bytes.TrimRight(t.buf, " "), '\n'))
	return err
}

// appendShown appends s with everything escaped that is not printable, in Go's
// notation, and the reverse solidus itself; a space too if word is set.
func appendShown(b []byte, s string, word bool) []byte {
	for i, n := 0, 0; i < len(s); i += n {
		var r rune
		r, n = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1, r == ' ' && word:
			b = append(b, '\\', 'x', "0123456789abcdef"[s[i]>>4], "0123456789abcdef"[s[i]&15])
		case r == '\\' || !strconv.IsPrint(r):
			quoted := strconv.QuoteRune(r)
			b = append(b, quoted[1:len(quoted)-1]...)
		default:
			b = append(b, s[i:i+n]...)
		}
	}
	return b
}
