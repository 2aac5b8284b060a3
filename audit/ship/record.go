package ship

import (
	"bytes"
	"encoding/json"
	"strings"

	"framegate/audit"
)

// A severity is that of a record, in the numbers of both worlds.
type severity struct {
	syslog int   // RFC 5424 table 2
	otel   int32 // SeverityNumber of the OpenTelemetry logs data model
	text   string
}

var (
	severe  = severity{3, 17, "ERROR"}
	warning = severity{4, 13, "WARN"}
	notice  = severity{5, 10, "INFO2"}
	plain   = severity{6, 9, "INFO"}
)

// severityOf: what the log lacks, what was stopped, what operators did, the rest.
func severityOf(r *audit.Record) severity {
	switch r.Event {
	case audit.AuditGap, audit.AuditUnshipped, audit.ConfigReject, audit.PolicyReject, audit.TrustReject, audit.CAReject:
		return severe
	case audit.ConnBlock, audit.TLSFail, audit.WSViolation:
		return warning
	case audit.CAIssue: // one for each host
		return plain
	}
	switch r.Action {
	case "block", "close", "drop", "redact":
		return warning
	}
	for _, prefix := range []string{"gateway.", "config.", "policy.", "trust.", "ca.", "admin.", "audit."} {
		if strings.HasPrefix(r.Event, prefix) {
			return notice
		}
	}
	return plain
}

// withoutPayload returns a record without the keys that begin with "payload":
// content stays with the log. A record without them is returned as it is, byte
// for byte, so that it can be held against the log.
func withoutPayload(line []byte) []byte {
	if !bytes.Contains(line, []byte(`,"payload`)) {
		return line
	}
	out := make([]byte, 0, len(line))
	start := 1 // of a member, behind the brace or the comma
	for depth, i := 0, 0; i < len(line); i++ {
		switch line[i] {
		case '"':
			i = stringEnd(line, i)
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if i >= len(line) || !(depth == 1 && line[i] == ',' || depth == 0) {
			continue
		}
		if member := line[start:i]; !bytes.HasPrefix(member, []byte(`"payload`)) {
			out = append(append(out, ','), member...)
		}
		start = i + 1
	}
	if len(out) == 0 {
		return []byte("{}")
	}
	out[0] = '{'
	return append(out, '}')
}

// stringEnd returns the index of the quotation mark that ends the string which
// begins at i.
func stringEnd(line []byte, i int) int {
	for i++; i < len(line) && line[i] != '"'; i++ {
		if line[i] == '\\' {
			i++
		}
	}
	return i
}

// eachRecord calls f with each record of a batch, parsed and as it is shipped.
func eachRecord(b *batch, f func(r *audit.Record, line []byte)) error {
	for line := range bytes.Lines(b.records) {
		line = withoutPayload(bytes.TrimSuffix(line, []byte("\n")))
		var r audit.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		f(&r, line)
	}
	return nil
}
