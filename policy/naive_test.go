package policy

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"framegate/frames"
	"framegate/policy/jsonpath"
)

// naive judges a message as the documentation says it, each condition by
// itself. It is what the matcher is held to, and measured against.
func naive(rules []*rule, tests *jsonTests, opcode frames.Opcode, data []byte) (ids []string) {
	op := opcodeSet(opcode)
	for _, r := range rules {
		if naiveCondition(tests, &r.match, op, data) && (r.except == nil || !naiveCondition(tests, r.except, op, data)) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func naiveCondition(tests *jsonTests, c *condition, op opcodes, data []byte) bool {
	if c.opcodes&op == 0 || int64(len(data)) < c.min || int64(len(data)) > c.max {
		return false
	}
	views := [][]byte{data}
	if first := bytes.TrimLeftFunc(data, func(r rune) bool { return strings.ContainsRune(" \t\r\n\ufeff", r) }); len(first) > 0 && bytes.ContainsRune([]byte(`{["`), rune(first[0])) {
		views = append(views, unescape(data))
	}
	any := func(n int, holds func(i int, data []byte) bool) bool {
		for i := range n {
			for _, v := range views {
				if holds(i, v) {
					return true
				}
			}
		}
		return n == 0
	}
	return any(len(c.contains.texts), func(i int, data []byte) bool {
		return bytes.Contains(data, []byte(c.contains.texts[i]))
	}) && any(len(c.keywords.texts), func(i int, data []byte) bool {
		return bytes.Contains(smallASCII(data), smallASCII([]byte(c.keywords.texts[i])))
	}) && any(len(c.regex), func(i int, data []byte) bool {
		if c.value == nil {
			return c.regex[i].re.Match(data)
		}
		for _, at := range c.regex[i].re.FindAllSubmatchIndex(data, -1) {
			if _, _, ok := c.value.of(data, at); ok {
				return true
			}
		}
		return false
	}) && any(len(c.detect), func(i int, data []byte) bool {
		start, _ := c.detect[i].Find(data, 0)
		return start >= 0
	}) && naiveJSON(tests, c, data)
}

func naiveJSON(tests *jsonTests, c *condition, data []byte) bool {
	holds := func(i int) bool {
		t := &tests.tests[i]
		found, all := false, true
		valid := jsonpath.NewSet([]jsonpath.Path{t.path}).Walk(data, func(_ int, v jsonpath.Value) bool {
			holds := t.absent || t.holds(v)
			found, all = found || holds, all && holds
			return true
		})
		return valid && found != t.absent && (all || !t.every)
	}
	for _, i := range c.jsonAll {
		if !holds(i) {
			return false
		}
	}
	return len(c.json) == 0 || slices.ContainsFunc(c.json, holds)
}

// smallASCII is b with its ASCII letters in lower case.
func smallASCII(b []byte) []byte {
	b = bytes.Clone(b)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 32
		}
	}
	return b
}

// unescape decodes the escapes of JSON one after the other.
func unescape(data []byte) []byte {
	var out []byte
	for len(data) > 0 {
		n := 1
		for _, size := range []int{12, 6, 2} {
			var s string
			if size <= len(data) && data[0] == '\\' && json.Unmarshal([]byte(`"`+string(data[:size])+`"`), &s) == nil && utf8.RuneCountInString(s) == 1 && (size < 12 || s != "\ufffd") {
				out = append(out, s...)
				n = size
				break
			}
		}
		if n == 1 {
			out = append(out, data[0])
		}
		data = data[n:]
	}
	return out
}
