package main

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"framegate/policy"
)

// printExplanation prints an explanation for a person: the rules in scope, then
// those that are not, then the verdict.
func printExplanation(w io.Writer, p *policy.Policy, q *question, e policy.Explanation) error {
	lines := []string{"message: " + q.String()}
	if r := q.record; r != nil {
		lines = append(lines, "record:  "+r.verdict(p))
	}
	if d := q.decision(p); d.Action != policy.Inspect {
		lines = append(lines, fmt.Sprintf("connection: %s says %s, so no rule is asked", d.Rule, d.Action))
	}
	var outside []string
	for _, r := range e.Rules {
		if r.Outcome == policy.OutOfScope {
			outside = append(outside, fmt.Sprintf("  %s: %s", r.ID, r.Reason))
			continue
		}
		lines = append(lines, "", fmt.Sprintf("%s (%s%s): %s", r.ID, r.Action, textIf(r.Shadow, ", shadow"), outcomes[r.Outcome]))
		lines = append(lines, ruleLines(q.data, r)...)
	}
	if outside != nil {
		lines = append(append(lines, "", "out of scope:"), outside...)
	}
	lines = append(append(lines, ""), verdictLines(q.data, e.Verdict)...)
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, printable(line)); err != nil {
			return err
		}
	}
	return nil
}

// outcomes are the outcomes as people say it.
var outcomes = map[policy.Outcome]string{
	policy.Matched:   "matched",
	policy.Failed:    "failed",
	policy.Excepted:  "excepted",
	policy.BelowRate: "counted, below its rate",
}

func textIf(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

// ruleLines say where a rule matched, or why not.
func ruleLines(data []byte, r policy.RuleExplanation) (lines []string) {
	for _, f := range r.Found {
		lines = append(lines, "  "+findingLine(data, f))
	}
	if r.Outcome != policy.Failed && len(r.Found) == 0 {
		lines = append(lines, "  matches every data message")
	}
	switch r.Outcome {
	case policy.Excepted:
		for _, f := range r.Excepted {
			lines = append(lines, "  but [rule.except] "+findingLine(data, f))
		}
	case policy.Failed, policy.BelowRate:
		lines = append(lines, "  "+r.Reason)
	}
	return lines
}

func findingLine(data []byte, f policy.Finding) string {
	value := f.Value
	if f.Key == "contains" || f.Key == "keywords" || f.Key == "regex" {
		value = quoted(value)
	}
	if f.Start < 0 {
		return fmt.Sprintf("%s %s", f.Key, value)
	}
	escaped := string(data[f.Start:f.End]) != f.Text
	return fmt.Sprintf("%s %s at %d-%d: %s%s", f.Key, value, f.Start, f.End, quoted(f.Text), textIf(escaped, ", without escapes"))
}

// quoted is the beginning of s, on one line.
func quoted(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) > most {
		return strconv.Quote(string([]rune(s)[:most])) + "..."
	}
	return strconv.Quote(s)
}

func verdictLines(data []byte, v policy.Verdict) []string {
	line := "verdict: " + v.Action.String()
	if len(v.Rules) > 0 {
		line += " by " + strings.Join(v.Rules, ", ")
	} else {
		line += " by default"
	}
	if v.Action == policy.Close {
		line += fmt.Sprintf(", code %d, reason %q", v.Code, v.Reason)
	}
	lines := []string{line}
	if v.Action == policy.Redact {
		lines = append(lines, "redacted: "+string(v.Redact(data)))
	}
	if len(v.Shadow) > 0 {
		lines = append(lines, "shadow: "+strings.Join(v.Shadow, ", "))
	}
	return lines
}

// String says in one line what the question is about.
func (q *question) String() string {
	parts := []string{q.opcode.String() + " " + q.dir.String(), counted(len(q.data), "byte")}
	for _, f := range []struct{ name, value string }{
		{"host", q.upgrade.Host}, {"path", q.upgrade.Path}, {"origin", q.upgrade.Origin},
		{"subprotocol", q.upgrade.Subprotocol}, {"client", q.client()},
	} {
		if f.value != "" {
			parts = append(parts, f.name+" "+f.value)
		}
	}
	return strings.Join(parts, ", ")
}

func (q *question) client() string {
	if q.upgrade.Client.IsValid() {
		return q.upgrade.Client.String()
	}
	return ""
}

// decision is what the policy makes of the connection, as far as it is known.
func (q *question) decision(p *policy.Policy) policy.Decision {
	return p.Connection(policy.Flow{Client: netip.AddrPortFrom(q.upgrade.Client, 0), Server: q.server, Host: q.upgrade.Host})
}

// verdict says what the record says became of the message.
func (r *messageRecord) verdict(p *policy.Policy) string {
	s := r.Action
	if len(r.Rules) > 0 {
		s += " by " + strings.Join(r.Rules, ", ")
	}
	if len(r.Shadow) > 0 {
		s += ", shadow: " + strings.Join(r.Shadow, ", ")
	}
	if r.Policy == p.Version() {
		return s + ", under this policy"
	}
	return s + ", under policy " + r.Policy + ", which is another version"
}
