package policy

import (
	"bytes"

	"framegate/frames"
)

// naive judges a message as the documentation says it, each condition by
// itself. It is what the matcher is held to, and measured against.
func naive(rules []*rule, opcode frames.Opcode, data []byte) (ids []string) {
	op := opcodeSet(opcode)
	for _, r := range rules {
		if naiveCondition(&r.match, op, data) && (r.except == nil || !naiveCondition(r.except, op, data)) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func naiveCondition(c *condition, op opcodes, data []byte) bool {
	if c.opcodes&op == 0 || int64(len(data)) < c.min || int64(len(data)) > c.max {
		return false
	}
	found := len(c.contains) == 0
	for _, s := range c.contains {
		found = found || bytes.Contains(data, []byte(s))
	}
	if !found {
		return false
	}
	found = len(c.regex) == 0
	for _, r := range c.regex {
		found = found || r.re.Match(data)
	}
	return found
}
