package policy

import (
	"fmt"
	"time"

	"framegate/frames"
)

// A ruleTest is one [[rule.test]]: a message, whether the rule matches it, and
// what it becomes.
type ruleTest struct {
	at        Error // where it stands
	payload   string
	want      string
	redacted  *string // nil if the test does not say
	direction [2]bool // those to try
	opcode    frames.Opcode
	upgrade   Upgrade
	given     map[string]bool // the fields of upgrade that count
	repeat    int             // how often the message comes; the last one counts
}

// None is what a test expects of a message that its rule lets alone.
const None = "none"

// testOf reads a test of r. What it does not say is as the rule wants it, so
// that a rule with a narrow scope needs no long tests. If the rule's action is
// not known, then nothing is said about what the test expects.
func testOf(t *table, r *rule, known bool) ruleTest {
	line, column := lineColumn(t.doc.text, t.node.key)
	test := ruleTest{
		at:        Error{File: t.doc.name, Line: line, Column: column},
		direction: r.scope.direction,
		repeat:    t.repeat(),
	}
	if t.has("repeat") && r.rate == nil {
		t.errorf(t.sub("repeat").key, "repeat: has no meaning here, expected it for a rule with [rule.rate] only")
	}
	payload, ok := t.text("payload")
	if !ok && !t.has("payload") {
		t.errorf(t.node.key, "[[rule.test]] has no payload, expected payload = \"...\"")
	}
	test.payload = payload.string

	switch {
	case !known:
		t.get("expect")
	case !t.has("expect"):
		t.errorf(t.node.key, "[[rule.test]] has no expect, expected %q or %q", r.Action, None)
	default:
		test.want = t.word("expect", None, r.Action.String(), None)
	}

	if redacted, ok := t.text("redacted"); ok {
		if known && test.want != Redact.String() {
			t.errorf(redacted.at, `redacted: has no meaning here, expected it beside expect = "redact" only`)
		}
		test.redacted = &redacted.string
	}

	if word := t.word("direction", "", "to-server", "to-client"); word != "" {
		test.direction = directions(word)
	}
	op := r.match.opcodes
	if word, ok := t.text("opcode"); ok {
		for _, set := range parseAll(t, "opcode", []text{word}, parseOpcode) {
			op = set
		}
	}
	test.opcode = firstOpcode(op)

	test.upgrade, test.given = t.upgrade()
	t.close()
	return test
}

// upgrade reads the connection that a message is to come on, and which of its
// fields are given.
func (t *table) upgrade() (u Upgrade, given map[string]bool) {
	given = map[string]bool{}
	field := func(key string) string {
		s, ok := t.text(key)
		given[key] = ok
		return s.string
	}
	u.Host, u.Path = field("host"), field("path")
	u.Origin, u.Subprotocol = field("origin"), field("subprotocol")
	if client, ok := t.text("client"); ok {
		for _, a := range parseAll(t, "client", []text{client}, parseClient) {
			u.Client, given["client"] = a, true
		}
	}
	return u, given
}

// maxRepeat keeps a slip of the finger from taking hours.
const maxRepeat = 100_000

// repeat reads how often a message comes.
func (t *table) repeat() int {
	v, ok := t.get("repeat")
	if !ok {
		return 1
	}
	n, isInt := v.(int64)
	if !isInt || n < 1 || n > maxRepeat {
		t.mismatch(t.sub("repeat").value, "repeat", v, fmt.Sprintf("a number from 1 to %d", maxRepeat))
		return 1
	}
	return int(n)
}

// firstOpcode returns the most usual opcode of a set.
func firstOpcode(set opcodes) frames.Opcode {
	for _, op := range []frames.Opcode{frames.Text, frames.Binary, frames.Ping, frames.Pong} {
		if opcodeSet(op)&set != 0 {
			return op
		}
	}
	return frames.Close
}

// A TestResult is the outcome of one [[rule.test]].
type TestResult struct {
	Rule         string // id
	File         string
	Line, Column int
	Want, Got    string // an action, or [None]; of a redaction also the result, if the test gives it
}

// Passed reports whether the rule did what its test expects.
func (r TestResult) Passed() bool { return r.Want == r.Got }

// RunTests runs the tests that the rules bring along, each against its own rule
// alone. A rule in shadow mode counts with the action that it would take.
func (p *Policy) RunTests() []TestResult {
	var results []TestResult
	for i, r := range p.rules {
		for _, t := range r.tests {
			want, got := t.want, None
			if p.matches(i, t) {
				got = r.Action.String()
			}
			if t.redacted != nil {
				want += fmt.Sprintf(" to %q", *t.redacted)
				if got != None {
					got += fmt.Sprintf(" to %q", p.matcher.redact([]*rule{r}, []byte(t.payload)))
				}
			}
			results = append(results, TestResult{r.ID, t.at.File, t.at.Line, t.at.Column, want, got})
		}
	}
	return results
}

// matches asks the same matcher that judges live messages about one rule. Each
// direction of each test has counts of its own.
func (p *Policy) matches(i int, t ruleTest) bool {
	s := p.rules[i].scope.only(t.given)
	if !s.holds(&t.upgrade) {
		return false
	}
	for dir, try := range t.direction {
		if !try {
			continue
		}
		alone := newScope(p)
		alone.add(i, s.direction)
		alone.rates = testRates()
		hit := false
		for range t.repeat {
			p.matcher.match(alone.rules[dir], t.opcode, []byte(t.payload), func(r *rule) {
				hit = alone.overRate(r, int64(len(t.payload)), true)
			})
		}
		if hit {
			return true
		}
	}
	return false
}

// testRates are rates without any count, for which time stands still: how fast
// tests run has no influence on them.
func testRates() *Rates {
	r, now := NewRates(), time.Now()
	r.Now = func() time.Time { return now }
	return r
}

// only returns the scope without the lists of keys that are not given.
func (s scope) only(given map[string]bool) scope {
	if !given["host"] {
		s.host = nil
	}
	if !given["path"] {
		s.path = nil
	}
	if !given["origin"] {
		s.origin = nil
	}
	if !given["subprotocol"] {
		s.subprotocol = nil
	}
	if !given["client"] {
		s.client = nil
	}
	return s
}
