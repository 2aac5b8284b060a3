package policy

import (
	"bytes"
	"slices"

	"framegate/frames"
	"framegate/policy/jsonpath"
)

// An Outcome is what came of one rule for one message.
type Outcome string

const (
	Matched    Outcome = "matched"
	Failed     Outcome = "failed"       // a key of [rule.match] does not hold
	Excepted   Outcome = "excepted"     // [rule.match] holds, but so does [rule.except]
	BelowRate  Outcome = "below-rate"   // the message counts, but there are not too many yet
	OutOfScope Outcome = "out-of-scope" // the rule is not about this connection or direction
)

// An Explanation says why the rules of a policy make of a message what they do.
type Explanation struct {
	Verdict Verdict
	Rules   []RuleExplanation // all rules, in the order of the files
}

// A RuleExplanation is what came of one rule, and why.
type RuleExplanation struct {
	Rule
	File         string
	Line, Column int

	Outcome  Outcome
	Found    []Finding // unless it is Failed or OutOfScope, how [rule.match] holds
	Excepted []Finding // if it is Excepted, how [rule.except] holds
	Reason   string    // unless it is Matched, why not; text of the message in it is quoted and shortened
}

// A Finding is one value of a key that holds, and the first place where it does.
type Finding struct {
	Key   string // contains, regex, detect, ...
	Value string // as the rule has it
	// Start and End are where in the message, as it was sent. Start is -1 if the
	// key is about the message as a whole.
	Start, End int
	Text       string // what is there, without the escapes of JSON
}

// Explain says what the policy makes of a message on the connection u, and why.
// Its verdict is that of [Scope.Message] on the next message of a Scope with the
// same counts; it counts nothing itself.
func (p *Policy) Explain(u Upgrade, dir frames.Direction, op frames.Opcode, data []byte) Explanation {
	scope, m := p.Scope(u), p.matcher
	hits := map[*rule]bool{} // but for their rates
	m.match(scope.rules[dir&1], op, data, func(r *rule) { hits[r] = true })

	s := m.subject(op, data)
	defer m.done(s)
	m.scan(s, looksJSON(data))
	e := Explanation{Rules: make([]RuleExplanation, 0, len(p.rules))}
	var t tally
	for i, r := range p.rules {
		x := RuleExplanation{Rule: r.Rule, File: r.at.File, Line: r.at.Line, Column: r.at.Column}
		switch {
		case !scope.rules[dir&1].has(i):
			x.Outcome, x.Reason = OutOfScope, r.scope.reason(&u, dir)
		case hits[r]:
			x.Outcome, x.Found = Matched, r.match.findings(m, s)
			if r.rate != nil {
				messages, bytes := scope.rates.peek(scope.rateKey(r), s.size, scope.rates.now())
				if !r.rate.over(messages, bytes) {
					x.Outcome, x.Reason = BelowRate, r.rate.reason(messages, bytes)
				}
			}
		default:
			if key := r.match.failing(m, s); key != "" {
				x.Outcome, x.Reason = Failed, r.match.reason(key, m, s)
				break
			}
			x.Outcome, x.Reason = Excepted, "[rule.except] holds as well"
			x.Found, x.Excepted = r.match.findings(m, s), r.except.findings(m, s)
		}
		if x.Outcome == Matched {
			t.hit(r)
		}
		e.Rules = append(e.Rules, x)
	}
	e.Verdict = t.verdict(p, op)
	return e
}

// findings says how c holds for s, by each of its keys.
func (c *condition) findings(m *matcher, s *subject) []Finding {
	list := c.whole(s)
	add := func(key, value string, find func([]byte) (start, end int)) {
		if f, ok := s.place(find); ok {
			f.Key, f.Value = key, value
			list = append(list, f)
		}
	}
	for _, text := range c.contains.texts {
		add("contains", text, func(data []byte) (int, int) {
			start := bytes.Index(data, []byte(text))
			return start, start + len(text)
		})
	}
	for _, text := range c.keywords.texts {
		add("keywords", text, func(data []byte) (int, int) {
			start := bytes.Index([]byte(lower(string(data))), []byte(lower(text)))
			return start, start + len(text)
		})
	}
	list = c.jsonFindings(list, m, s)
	for _, d := range c.detect {
		add("detect", d.Name, func(data []byte) (int, int) { return d.Find(data, 0) })
	}
	for i := range c.regex {
		add("regex", c.regex[i].re.String(), func(data []byte) (start, end int) {
			start = -1
			c.regex[i].each(data, c.value, func(from, to int) bool {
				start, end = from, to
				return false
			})
			return start, end
		})
	}
	return list
}

// whole says what c asks of the message as a whole.
func (c *condition) whole(s *subject) (list []Finding) {
	add := func(key, value string) { list = append(list, Finding{Key: key, Value: value, Start: -1}) }
	if c.opcodes != dataMessages && c.opcodes != anyOpcode {
		add("opcode", s.op.String())
	}
	if c.min > 0 {
		add("min_size", counted(c.min, "byte"))
	}
	if c.max < maxSize {
		add("max_size", counted(c.max, "byte"))
	}
	return list
}

// place returns the first place that find finds in the message, or else in what
// that is without the escapes of JSON.
func (s *subject) place(find func([]byte) (start, end int)) (f Finding, ok bool) {
	if start, end := find(s.data); start >= 0 {
		return Finding{Start: start, End: end, Text: string(s.data[start:end])}, true
	}
	if s.text != nil {
		if start, end := find(s.text); start >= 0 {
			f.Text = string(s.text[start:end])
			f.Start, f.End = s.unescaped.Span(start, end)
			return f, true
		}
	}
	return f, false
}

// jsonFindings appends the first value for which each json test of c holds.
func (c *condition) jsonFindings(list []Finding, m *matcher, s *subject) []Finding {
	if c.json == nil && c.jsonAll == nil {
		return list
	}
	first := map[int]Finding{}
	m.json.set.Walk(s.data, func(i int, v jsonpath.Value) bool {
		if _, has := first[i]; !has && m.json.tests[i].holds(v) {
			f := Finding{Start: v.Start, End: v.Start + len(v.Raw), Text: string(v.Text(nil))}
			if v.Kind == jsonpath.String { // what is between the quotation marks
				f.Start++
				f.End--
			}
			first[i] = f
		}
		return true
	})
	held := m.jsonHeld(s)
	for i, test := range slices.Concat(c.jsonAll, c.json) {
		if !held.has(test) {
			continue
		}
		f := Finding{Start: -1}
		if !m.json.tests[test].absent {
			f = first[test]
		}
		if f.Key = "json"; i < len(c.jsonAll) {
			f.Key = "json_all"
		}
		f.Value = m.json.tests[test].text
		list = append(list, f)
	}
	return list
}
