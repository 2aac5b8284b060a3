package policy

import (
	"math"
	"slices"

	"framegate/frames"
	"framegate/policy/detect"
)

// A condition is one [rule.match] or [rule.except]: all keys must hold, and of
// a key any value.
type condition struct {
	opcodes  opcodes
	min, max int64 // bytes, inclusive
	contains words
	keywords words // without regard to the case of ASCII letters
	json     []int // tests, of which any has to hold
	jsonAll  []int // tests that all have to hold
	detect   []detector
	regex    []regex
	value    *value // of regex; nil: nothing is asked
}

// maxSize is the max of a condition without one.
const maxSize = math.MaxInt64

// words are strings of which any is to be found.
type words struct {
	texts []string
	slot  int // where the automaton reports that one of them is there
}

func (w *words) holds(found bitset) bool { return len(w.texts) == 0 || found.has(w.slot) }

// A detector is one value of a detect condition.
type detector struct {
	*detect.Detector
	slot   int // where the automaton reports its literals; -1 if it has none
	number int // among those of the policy
}

// fits reports whether opcode and size are as c asks.
func (c *condition) fits(op opcodes, size int64) bool {
	return c.opcodes&op != 0 && c.min <= size && size <= c.max
}

func (c *condition) holds(m *matcher, s *subject) bool { return c.failing(m, s) == "" }

// failing returns the first key that does not hold, "" if all do. It tries first
// what is cheap.
func (c *condition) failing(m *matcher, s *subject) (key string) {
	switch {
	case c.opcodes&s.op == 0:
		return "opcode"
	case s.size < c.min:
		return "min_size"
	case s.size > c.max:
		return "max_size"
	case !c.contains.holds(s.found):
		return "contains"
	case !c.keywords.holds(s.found):
		return "keywords"
	case c.jsonAll != nil && slices.ContainsFunc(c.jsonAll, func(i int) bool { return !m.jsonHeld(s).has(i) }):
		return "json_all"
	case c.json != nil && !slices.ContainsFunc(c.json, func(i int) bool { return m.jsonHeld(s).has(i) }):
		return "json"
	case !c.detects(s, false, false):
		return "detect"
	case !c.matches(s, false, false):
		return "regex"
	}
	return ""
}

// detects reports whether a detector finds something, if there are any. Of a
// window it is told whether the message goes on beyond its edges.
func (c *condition) detects(s *subject, cutBefore, cutAfter bool) bool {
	for i := range c.detect {
		if d := &c.detect[i]; (d.slot < 0 || s.found.has(d.slot)) && s.detects(d, cutBefore, cutAfter) {
			return true
		}
	}
	return c.detect == nil
}

// detectMargin is how much of a message a detector has to see beside a value to
// know that it is one.
const detectMargin = 64

func (d *detector) in(data []byte, cutBefore, cutAfter bool) bool {
	from, most := 0, len(data)
	if cutBefore {
		from = detectMargin
	}
	if cutAfter {
		most -= detectMargin
	}
	for {
		start, end := d.Find(data, from)
		if start < 0 || end <= most {
			return start >= 0
		}
		from = start + 1
	}
}

// matches is detects for the regexes.
func (c *condition) matches(s *subject, cutBefore, cutAfter bool) bool {
	for i := range c.regex {
		r := &c.regex[i]
		if r.literals != nil && !s.found.has(r.slot) {
			continue
		}
		if r.in(s.data, c.value, cutBefore, cutAfter) || s.text != nil && r.in(s.text, c.value, cutBefore, cutAfter) {
			return true
		}
	}
	return c.regex == nil
}

// anyOpcode, for an except, leaves the choice to the match.
const anyOpcode opcodes = 1<<len(opcodeNames) - 1

// An opcodes is a set of opcodes, one bit each.
type opcodes uint8

const (
	textMessage opcodes = 1 << iota
	binaryMessage
	pingFrame
	pongFrame
	closeFrame

	dataMessages = textMessage | binaryMessage
)

var opcodeNames = [...]string{"text", "binary", "ping", "pong", "close"}

// opcodeSet returns op as a set. What is not known counts as binary, so that no
// message escapes the rules that are about all data.
func opcodeSet(op frames.Opcode) opcodes {
	switch op {
	case frames.Text:
		return textMessage
	case frames.Ping:
		return pingFrame
	case frames.Pong:
		return pongFrame
	case frames.Close:
		return closeFrame
	}
	return binaryMessage
}
