package format

import (
	"strconv"
	"strings"
	"time"

	"framegate/audit"
)

// columns of the CSV are the keys of a record, in the order of the log's
// specification, but for payload, and with a name each for what is an object.
var columns = []field{
	{"seq", func(r *audit.Record) any { return int64(r.Seq) }},
	{"time", func(r *audit.Record) any { return instant(r.Time) }},
	{"event", of(func(r *audit.Record) string { return r.Event })},
	{"conn", of(func(r *audit.Record) string { return r.Conn })},
	{"dir", of(func(r *audit.Record) string { return r.Dir })},
	{"opcode", of(func(r *audit.Record) string { return r.Opcode })},
	{"size", whenMeasured(func(r *audit.Record) any { return r.Size })},
	{"wire_size", whenMeasured(func(r *audit.Record) any { return r.WireSize })},
	{"frames", whenMeasured(func(r *audit.Record) any { return int64(r.Frames) })},
	{"compressed", whenMeasured(func(r *audit.Record) any { return r.Compressed })},
	{"sha256", of(func(r *audit.Record) string { return r.SHA256 })},
	{"rules", func(r *audit.Record) any { return list(r.Rules...) }},
	{"action", of(func(r *audit.Record) string { return r.Action })},
	{"policy", of(func(r *audit.Record) string { return r.Policy })},
	{"client", of(func(r *audit.Record) string { return r.Client })},
	{"server", of(func(r *audit.Record) string { return r.Server })},
	{"sni", of(func(r *audit.Record) string { return r.SNI })},
	{"host", of(func(r *audit.Record) string { return r.Host })},
	{"path", of(func(r *audit.Record) string { return r.Path })},
	{"subprotocol", of(func(r *audit.Record) string { return r.Subprotocol })},
	{"code", func(r *audit.Record) any { return number(r.Code) }},
	{"reason", of(func(r *audit.Record) string { return r.Reason })},
	{"method", of(func(r *audit.Record) string { return r.Method })},
	{"shadow", func(r *audit.Record) any { return list(r.Shadow...) }},
	{"state", of(func(r *audit.Record) string { return r.State })},
	{"evidence", of(func(r *audit.Record) string { return r.Evidence })},
	{"to_server_messages", withTotals(func(t *audit.RecordTotals) any { return t.ToServer.Messages })},
	{"to_server_bytes", withTotals(func(t *audit.RecordTotals) any { return t.ToServer.Bytes })},
	{"to_server_sha256", withTotals(func(t *audit.RecordTotals) any { return text(t.ToServer.SHA256) })},
	{"to_client_messages", withTotals(func(t *audit.RecordTotals) any { return t.ToClient.Messages })},
	{"to_client_bytes", withTotals(func(t *audit.RecordTotals) any { return t.ToClient.Bytes })},
	{"to_client_sha256", withTotals(func(t *audit.RecordTotals) any { return text(t.ToClient.SHA256) })},
	{"gap_count", withGap(func(g *audit.RecordGap) any { return number(g.Count) })},
	{"gap_bytes", withGap(func(g *audit.RecordGap) any { return number(g.Bytes) })},
	{"gap_since", withGap(func(g *audit.RecordGap) any {
		if g.Since.IsZero() {
			return nil
		}
		return instant(g.Since)
	})},
	{"expired", expired},
	{"unshipped", unshipped},
}

func whenMeasured(get func(r *audit.Record) any) func(*audit.Record) any {
	return func(r *audit.Record) any {
		if !measured(r) {
			return nil
		}
		return get(r)
	}
}

func withTotals(get func(t *audit.RecordTotals) any) func(*audit.Record) any {
	return func(r *audit.Record) any {
		if r.Totals == nil {
			return nil
		}
		return get(r.Totals)
	}
}

func withGap(get func(g *audit.RecordGap) any) func(*audit.Record) any {
	return func(r *audit.Record) any {
		if r.Gap == nil {
			return nil
		}
		return get(r.Gap)
	}
}

func newCSV(string) *Format {
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	// RFC 4180 section 2 ends a line with CRLF; all that read CSV take a
	// newline too, and so do the tools that read lines.
	return &Format{header: strings.Join(names, ",") + "\n", append: appendCSV}
}

func appendCSV(b []byte, r *audit.Record) []byte {
	for i, c := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		switch v := c.value(r).(type) {
		case nil:
		case string:
			b = cell(b, v)
		case []string:
			b = cell(b, strings.Join(v, " "))
		case time.Time:
			b = cell(b, instant(v))
		default:
			b = value(b, v)
		}
	}
	return b
}

// cell appends a string as a cell that no spreadsheet takes for a formula.
//
// ASVS 1.2.10: "special characters (including '=', '+', '-', '@', '\t' (tab),
// and '\0' (null character)) must be escaped with a single quote if they appear
// as the first character in a field value". Tab and null are escaped anyway, as
// is all that is not printable. The full-width forms are formulas too in some
// locales. A spreadsheet that splits at another separator, or takes quotation
// marks otherwise, makes cells of its own, so what would then come first is
// treated like the first.
func cell(b []byte, s string) []byte {
	start := len(b)
	b = append(b, '"')
	plain, first := true, true // nothing needs quotes; a cell may begin here
	for _, r := range s {
		switch {
		case strings.ContainsRune("=+-@＝＋－＠", r):
			if first {
				b = append(b, '\'')
			}
			b, first = append(b, string(r)...), false
		case strings.ContainsRune(`,;'"`, r):
			if r == '"' {
				b = append(b, '"')
			}
			b, plain, first = append(b, string(r)...), false, true
		case r == ' ':
			b, plain = append(b, ' '), false
		case r == '\\':
			b, first = append(b, `\\`...), false
		case !strconv.IsPrint(r):
			b, first = escaped(b, r), false
		default:
			b, first = append(b, string(r)...), false
		}
	}
	if plain {
		return append(b[:start], b[start+1:]...)
	}
	return append(b, '"')
}
