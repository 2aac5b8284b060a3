package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"framegate/policy/jsonpath"
)

// A replacement is what a redact rule puts in the place of what it finds. nil
// stands for one '*' for each byte.
type replacement struct {
	text string
	json string // text as the contents of a JSON string
}

func newReplacement(text string) *replacement {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(text) // a string has no way to fail
	quoted := strings.TrimSuffix(b.String(), "\n")
	return &replacement{text, quoted[1 : len(quoted)-1]}
}

// A span is data[start:end], which has to go.
type span struct {
	start, end int
	by         *replacement
}

// Redact returns the message that this is the verdict on without what the
// redact rules found, as the manual says it, in a slice of its own. data is that
// message, and stays as it is. Only an Action of [Redact] asks for it.
func (v *Verdict) Redact(data []byte) []byte { return v.matcher.redact(v.redact, data) }

func (m *matcher) redact(rules []*rule, data []byte) []byte {
	var spans []span
	for _, r := range rules {
		spans = m.find(spans, r, data)
	}
	return replaceAll(data, spans)
}

// replaceAll returns data with what spans are of it replaced.
func replaceAll(data []byte, spans []span) []byte {
	spans = merge(spans)
	if jsonpath.Valid(data) {
		return redactJSON(data, spans)
	}
	out := make([]byte, 0, len(data))
	end := 0
	for _, s := range spans {
		out = append(out, data[end:s.start]...)
		if end = s.end; s.by == nil {
			out = appendMask(out, s.end-s.start)
		} else {
			out = append(out, s.by.text...)
		}
	}
	return append(out, data[end:]...)
}

// find appends all that the match conditions of r find in data, and in what data
// is without the escapes of JSON: each place of a contains or a keyword, also
// where they overlap; what each detector finds; the matches of each regex that
// [regexp.Regexp.FindAll] finds, or of these the values; the values for which a
// json test holds.
func (m *matcher) find(spans []span, r *rule, data []byte) []span {
	spans = r.match.find(spans, data, r.replace)
	if looksJSON(data) && jsonpath.Escaped(data) {
		var u jsonpath.Unescaped
		u.Reset(data)
		for _, s := range r.match.find(nil, u.Text(), r.replace) {
			s.start, s.end = u.Span(s.start, s.end)
			spans = append(spans, s)
		}
	}
	return m.findJSON(spans, r, data)
}

func (c *condition) find(spans []span, data []byte, by *replacement) []span {
	for _, s := range c.contains.texts {
		spans = findAll(spans, data, []byte(s), by)
	}
	if len(c.keywords.texts) > 0 {
		small := []byte(lower(string(data)))
		for _, s := range c.keywords.texts {
			spans = findAll(spans, small, []byte(lower(s)), by)
		}
	}
	for _, d := range c.detect {
		for start, end := d.Find(data, 0); start >= 0; start, end = d.Find(data, end) {
			spans = append(spans, span{start, end, by})
		}
	}
	for i := range c.regex {
		c.regex[i].each(data, c.value, func(start, end int) bool {
			spans = append(spans, span{start, end, by})
			return true
		})
	}
	return spans
}

func findAll(spans []span, data, word []byte, by *replacement) []span {
	first := len(spans)
	for start := 0; ; start++ {
		i := bytes.Index(data[start:], word)
		if i < 0 {
			return spans
		}
		start += i
		spans = extend(spans, first, span{start, start + len(word), by})
	}
}

// findJSON appends the values for which a json test of r holds; of a string what
// is between the quotation marks.
func (m *matcher) findJSON(spans []span, r *rule, data []byte) []span {
	tests := slices.Concat(r.match.json, r.match.jsonAll)
	if len(tests) == 0 {
		return spans
	}
	first := len(spans)
	valid := m.json.set.Walk(data, func(i int, v jsonpath.Value) bool {
		if t := &m.json.tests[i]; slices.Contains(tests, i) && !t.absent && t.holds(v) {
			s := span{v.Start, v.Start + len(v.Raw), r.replace}
			if v.Kind == jsonpath.String {
				s.start++
				s.end--
			}
			spans = append(spans, s)
		}
		return true
	})
	if !valid {
		return spans[:first]
	}
	return spans
}

// merge sorts spans and makes one of those that overlap. It is replaced as the
// first of them asks, by place and then by the order of the rules.
func merge(spans []span) []span {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	merged := spans[:0]
	for _, s := range spans {
		merged = extend(merged, 0, s)
	}
	return merged
}

// extend appends s, or adds it to the last of spans[first:] if they overlap.
func extend(spans []span, first int, s span) []span {
	if n := len(spans); n > first && s.start < spans[n-1].end {
		spans[n-1].end = max(spans[n-1].end, s.end)
		return spans
	}
	return append(spans, s)
}

// redactJSON changes only what is inside of string literals, and digits of
// numbers, so that JSON remains JSON (RFC 8259). An escape sequence goes as a
// whole. A digit becomes 1 whatever the rule's replacement is: no digit can be
// another character, and 0 must not lead ("leading zeros are not allowed",
// Section 6).
func redactJSON(data []byte, spans []span) []byte {
	out := make([]byte, 0, len(data))
	inString := false
	replaced := false // the span has its replacement in this string
	for i, n := 0, 0; i < len(data); i += n {
		n = 1
		if inString && data[i] == '\\' {
			n = escape(data[i:])
		}
		for len(spans) > 0 && spans[0].end <= i {
			spans, replaced = spans[1:], false
		}
		c := data[i]
		if c == '"' {
			inString, replaced = !inString, false
		}
		switch touched := len(spans) > 0 && spans[0].start < i+n; {
		case !touched || c == '"':
			out = append(out, data[i:i+n]...)
		case !inString && '0' <= c && c <= '9':
			out = append(out, '1')
		case !inString:
			out = append(out, c)
		case spans[0].by == nil:
			out = appendMask(out, n)
		case !replaced:
			out = append(out, spans[0].by.json...)
			replaced = true
		}
	}
	return out
}

// escape returns the length of the escape sequence that b, valid JSON, begins
// with. "To escape an extended character that is not in the Basic Multilingual
// Plane, the character is represented as a 12-character sequence, encoding the
// UTF-16 surrogate pair" (RFC 8259, Section 7): half of it would be no character.
func escape(b []byte) int {
	switch {
	case b[1] != 'u':
		return 2
	case surrogate(b, "89ab") && surrogate(b[6:], "cdef"):
		return 12
	}
	return 6
}

// surrogate reports whether b begins with \uDxxx where the first x is one of kind.
func surrogate(b []byte, kind string) bool {
	return len(b) >= 6 && b[0] == '\\' && b[1] == 'u' && lowerByte(b[2]) == 'd' && strings.IndexByte(kind, lowerByte(b[3])) >= 0
}

func appendMask(b []byte, n int) []byte {
	for range n {
		b = append(b, '*')
	}
	return b
}
