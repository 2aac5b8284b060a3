package main

import (
	"encoding/base64"
	"io"
	"unicode/utf8"

	"framegate/policy"
)

type jsonExplanation struct {
	Policy      string          `json:"policy"` // version
	Dir         string          `json:"dir"`
	Opcode      string          `json:"opcode"`
	Size        int             `json:"size"`
	Host        string          `json:"host,omitempty"`
	Path        string          `json:"path,omitempty"`
	Origin      string          `json:"origin,omitempty"`
	Subprotocol string          `json:"subprotocol,omitempty"`
	Client      string          `json:"client,omitempty"`
	Record      *uint64         `json:"record,omitempty"`
	Connection  *jsonConnection `json:"connection,omitempty"` // unless it is inspected
	Rules       []jsonRule      `json:"rules"`
	Verdict     jsonVerdict     `json:"verdict"`
}

type jsonConnection struct {
	ID       string `json:"id"`
	Decision string `json:"decision"`
}

type jsonRule struct {
	ID      string        `json:"id"`
	Action  string        `json:"action"`
	Mode    string        `json:"mode"`
	File    string        `json:"file"`
	Line    int           `json:"line"`
	Column  int           `json:"column"`
	Outcome string        `json:"outcome"`
	Reason  string        `json:"reason,omitempty"`
	Found   []jsonFinding `json:"found,omitempty"`
	Except  []jsonFinding `json:"except,omitempty"`
}

type jsonFinding struct {
	Key   string  `json:"key"`
	Value string  `json:"value"`
	Start *int    `json:"start,omitempty"`
	End   *int    `json:"end,omitempty"`
	Text  *string `json:"text,omitempty"`
}

type jsonVerdict struct {
	Action      string   `json:"action"`
	Rules       []string `json:"rules"`
	Shadow      []string `json:"shadow"`
	Code        int      `json:"code,omitempty"`
	Reason      string   `json:"reason,omitempty"`
	Redacted    *string  `json:"redacted,omitempty"`
	RedactedB64 string   `json:"redacted_b64,omitempty"` // of what is not UTF-8
}

// printExplanationJSON prints the same as one object.
func printExplanationJSON(w io.Writer, p *policy.Policy, q *question, e policy.Explanation) error {
	out := jsonExplanation{
		Policy: p.Version(), Dir: q.dir.String(), Opcode: q.opcode.String(), Size: len(q.data),
		Host: q.upgrade.Host, Path: q.upgrade.Path, Origin: q.upgrade.Origin, Subprotocol: q.upgrade.Subprotocol, Client: q.client(),
		Rules: []jsonRule{},
	}
	if q.record != nil {
		out.Record = &q.record.Seq
	}
	if d := q.decision(p); d.Action != policy.Inspect {
		out.Connection = &jsonConnection{d.Rule, d.Action.String()}
	}
	for _, r := range e.Rules {
		out.Rules = append(out.Rules, jsonRule{
			r.ID, r.Action.String(), modeOf(r.Rule), r.File, r.Line, r.Column,
			string(r.Outcome), r.Reason, jsonFindings(r.Found), jsonFindings(r.Excepted),
		})
	}
	v := &e.Verdict
	out.Verdict = jsonVerdict{
		Action: v.Action.String(), Rules: append([]string{}, v.Rules...), Shadow: append([]string{}, v.Shadow...),
		Code: int(v.Code), Reason: v.Reason,
	}
	if v.Action == policy.Redact {
		if redacted := v.Redact(q.data); utf8.Valid(redacted) {
			text := string(redacted)
			out.Verdict.Redacted = &text
		} else {
			out.Verdict.RedactedB64 = base64.StdEncoding.EncodeToString(redacted)
		}
	}
	return printJSON(w, out)
}

func jsonFindings(list []policy.Finding) (out []jsonFinding) {
	for _, f := range list {
		j := jsonFinding{Key: f.Key, Value: f.Value}
		if f.Start >= 0 {
			j.Start, j.End, j.Text = &f.Start, &f.End, &f.Text
		}
		out = append(out, j)
	}
	return out
}
