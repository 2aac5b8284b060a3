package policy

import (
	"fmt"
	"math/bits"
	"strings"

	"framegate/frames"
)

// String names the opcodes as rules do.
func (o opcodes) String() string { return strings.Join(o.names(), ",") }

func (o opcodes) names() (names []string) {
	for ; o != 0; o &= o - 1 {
		names = append(names, opcodeNames[bits.TrailingZeros8(uint8(o))])
	}
	return names
}

// brief is the scope in one line, "" if it is everywhere.
func (s *scope) brief() string {
	var parts []string
	if !s.direction[frames.ToServer] || !s.direction[frames.ToClient] {
		dir := frames.ToServer
		if s.direction[frames.ToClient] {
			dir = frames.ToClient
		}
		parts = append(parts, dir.String())
	}
	for _, list := range []struct {
		key   string
		texts []string
	}{
		{"host", hostTexts(s.host)},
		{"path", pathTexts(s.path)},
		{"origin", originTexts(s.origin)},
		{"subprotocol", s.subprotocol},
		{"client", prefixTexts(s.client)},
	} {
		if len(list.texts) > 0 {
			parts = append(parts, list.key+" "+first(list.texts))
		}
	}
	return strings.Join(parts, ", ")
}

// brief is in one line what makes a message a hit, "" if all do.
func (c *compiler) brief(r *rule) string {
	parts := c.keys(&r.match)
	if r.except != nil {
		parts = append(parts, "except "+strings.Join(c.keys(r.except), ", "))
	}
	if r.rate != nil {
		parts = append(parts, fmt.Sprintf("over %s in %v per %s", r.rate.limits(), r.rate.window, r.rate.per))
	}
	return strings.Join(parts, ", ")
}

// keys names the keys of a condition, each with its first value and the number
// of the others.
func (c *compiler) keys(cond *condition) (parts []string) {
	add := func(key string, values []string) {
		if len(values) > 0 {
			parts = append(parts, key+" "+first(values))
		}
	}
	if cond.opcodes != dataMessages && cond.opcodes != anyOpcode {
		parts = append(parts, cond.opcodes.String())
	}
	add("contains", quotedAll(cond.contains.texts))
	add("keywords", quotedAll(cond.keywords.texts))
	add("json_all", c.json.names(cond.jsonAll))
	add("json", c.json.names(cond.json))
	var names, regexes []string
	for _, d := range cond.detect {
		names = append(names, d.Name)
	}
	for _, re := range cond.regex {
		regexes = append(regexes, re.re.String())
	}
	add("detect", names)
	add("regex", quotedAll(regexes))
	if v := cond.value; v != nil && v.entropy > 0 {
		parts = append(parts, fmt.Sprintf("entropy %v", v.entropy))
	}
	if cond.min > 0 {
		parts = append(parts, fmt.Sprintf("min_size %d", cond.min))
	}
	if cond.max < maxSize {
		parts = append(parts, fmt.Sprintf("max_size %d", cond.max))
	}
	return parts
}

func (j *jsonTests) names(tests []int) (names []string) {
	for _, i := range tests {
		names = append(names, j.tests[i].text)
	}
	return names
}

func quotedAll(texts []string) []string {
	list := make([]string, len(texts))
	for i, s := range texts {
		list[i] = describe(s)
	}
	return list
}

func first(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return fmt.Sprintf("%s (+%d)", values[0], len(values)-1)
}
