package policy

import (
	"fmt"
	"slices"
	"strings"
)

// A Warning is something in a policy that works, but hardly as it was meant, or
// at a cost.
type Warning struct {
	ID           string // of the rule or connection
	File         string
	Line, Column int
	Reason       string
}

func (w Warning) String() string {
	return fmt.Sprintf("%s:%d:%d: %q %s", w.File, w.Line, w.Column, w.ID, w.Reason)
}

// review refuses conditions that nothing can meet, and warns of what is
// superfluous. The manual has the list.
func (c *compiler) review() (warnings []Warning) {
	for _, r := range c.policy.rules {
		c.unreachable(r)
		if r.except != nil {
			if r.except.opcodes&r.match.opcodes == 0 || r.except.min > r.match.max || r.except.max < r.match.min {
				warnings = append(warnings, r.at.warning(r.ID, "has a [rule.except] that no message of its [rule.match] meets"))
			}
		}
		if id := c.bypassed(r); id != "" {
			warnings = append(warnings, r.at.warning(r.ID, fmt.Sprintf("is never asked: connection %q keeps its hosts from being inspected", id)))
		}
	}
	for i := range c.policy.connections {
		conn := &c.policy.connections[i]
		all := slices.IndexFunc(c.policy.connections[:i], func(c connection) bool { return c.host == nil && c.client == nil && c.server == nil })
		if all >= 0 {
			warnings = append(warnings, conn.at.warning(conn.id, fmt.Sprintf("is never asked: connection %q before it matches every connection", c.policy.connections[all].id)))
		}
	}
	return warnings
}

func (e *Error) warning(id, reason string) Warning {
	return Warning{id, e.File, e.Line, e.Column, reason}
}

// unreachable reports conditions that contradict each other.
func (c *compiler) unreachable(r *rule) {
	report := func(format string, args ...any) {
		e := r.at
		e.Message = fmt.Sprintf("rule %q can never match: ", r.ID) + fmt.Sprintf(format, args...)
		c.errors = append(c.errors, &e)
	}
	m := &r.match
	if shortest(m.contains.texts) > m.max {
		report("every value of contains is longer than max_size, %d bytes", m.max)
	}
	if shortest(m.keywords.texts) > m.max {
		report("every value of keywords is longer than max_size, %d bytes", m.max)
	}
	if m.opcodes&dataMessages == 0 && m.min > 125 {
		report("a control frame has 125 bytes at most, and min_size is %d", m.min)
	}
	if len(m.regex) > 0 && !slices.ContainsFunc(m.regex, func(re regex) bool { return int64(re.least) <= m.max }) {
		report("every regex needs more than max_size, %d bytes", m.max)
	}
	if (m.json != nil || m.jsonAll != nil) && m.opcodes&dataMessages == 0 {
		report("a json condition is about messages, and opcode names control frames only")
	}
	// Every string that makes a hit has one in it that excepts it.
	if e := r.except; e != nil && e.only() && len(m.contains.texts) > 0 {
		if !slices.ContainsFunc(m.contains.texts, func(s string) bool {
			return !slices.ContainsFunc(e.contains.texts, func(t string) bool { return strings.Contains(s, t) })
		}) {
			report("[rule.except] excepts each value of contains in [rule.match]")
		}
	}
}

// only reports whether contains is all there is to c.
func (c *condition) only() bool {
	return len(c.contains.texts) > 0 && len(c.keywords.texts) == 0 && c.regex == nil && c.detect == nil && c.json == nil && c.jsonAll == nil &&
		c.opcodes == anyOpcode && c.min == 0 && c.max == maxSize
}

// shortest returns the length of the shortest of texts, 0 if there are none.
func shortest(texts []string) int64 {
	least := -1
	for _, s := range texts {
		if least < 0 || len(s) < least {
			least = len(s)
		}
	}
	return int64(max(0, least))
}

// bypassed returns the id of a connection by which all hosts of r, if it names
// them one by one, are bypassed or blocked, or "".
func (c *compiler) bypassed(r *rule) (id string) {
	for _, h := range r.scope.host {
		host := strings.Join(h, ".")
		if strings.Contains(host, "*") {
			return ""
		}
		i := slices.IndexFunc(c.policy.connections, func(conn connection) bool {
			return conn.host == nil || hostMatches(conn.host, host)
		})
		if i < 0 {
			return ""
		}
		conn := c.policy.connections[i]
		if conn.action == Inspect || conn.client != nil || conn.server != nil {
			return ""
		}
		id = conn.id
	}
	return id
}
