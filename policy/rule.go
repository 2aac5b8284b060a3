package policy

import (
	"math"

	"framegate/frames"
)

// A Rule is what people and records need to know about a [[rule]].
type Rule struct {
	ID          string
	Description string
	Severity    string // info, low, medium, high or critical, "" if not given
	Tags        []string
	Action      Action
	Shadow      bool        // only recorded, not enforced
	Code        frames.Code // of a rule that closes
	Reason      string      // of a rule that closes
}

type rule struct {
	Rule
	scope  scope
	match  condition
	except *condition // nil if there is none
	tests  []ruleTest

	replace *replacement // of a rule that redacts
}

// hits reports whether the rule matches. found is what the automaton found.
func (r *rule) hits(op opcodes, data []byte, found bitset) bool {
	return r.match.holds(op, data, found) &&
		(r.except == nil || !r.except.holds(op, data, found))
}

// A condition is one [rule.match] or [rule.except]: all parts must hold.
type condition struct {
	opcodes  opcodes
	min, max int64    // bytes, inclusive
	contains []string // any does; none: no condition
	regex    []regex  // any does; none: no condition

	slot int // where the automaton reports that a string of contains is there
}

func (c *condition) holds(op opcodes, data []byte, found bitset) bool {
	if !c.fits(op, int64(len(data))) {
		return false
	}
	if len(c.contains) > 0 && !found.has(c.slot) {
		return false
	}
	if len(c.regex) == 0 {
		return true
	}
	for i := range c.regex {
		if re := &c.regex[i]; (re.literals == nil || found.has(re.slot)) && re.match(data) {
			return true
		}
	}
	return false
}

// fits reports whether opcode and size are as c asks.
func (c *condition) fits(op opcodes, size int64) bool {
	return c.opcodes&op != 0 && c.min <= size && size <= c.max
}

// anyOpcode, for an except, leaves the choice to the match.
const anyOpcode opcodes = math.MaxUint8

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

var opcodeNames = []string{"text", "binary", "ping", "pong", "close"}

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
