package format

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"framegate/audit"
)

// extension are the keys of a CEF message. cs, cn and c6a keys are for the
// sender's own use and have a label each. What has no key of the dictionary is
// under one that begins with framegate.
var extension = []field{
	{"rt", func(r *audit.Record) any { return r.Time }},
	{"externalId", func(r *audit.Record) any { return int64(r.Seq) }},
	{"cat", of(protocol)},
	{"act", of(func(r *audit.Record) string { return r.Action })},
	{"outcome", outcome},
	{"reason", of(func(r *audit.Record) string { return r.Reason })},
	{"proto", func(r *audit.Record) any { return ifConn(r, "TCP") }},
	{"src", func(r *audit.Record) any { return ipv4(r.Client) }},
	{"c6a2Label", func(r *audit.Record) any { return label(ipv6(r.Client), "Source IPv6 Address") }},
	{"c6a2", func(r *audit.Record) any { return ipv6(r.Client) }},
	{"spt", func(r *audit.Record) any { return number(port(r.Client)) }},
	{"dst", func(r *audit.Record) any { return ipv4(r.Server) }},
	{"c6a3Label", func(r *audit.Record) any { return label(ipv6(r.Server), "Destination IPv6 Address") }},
	{"c6a3", func(r *audit.Record) any { return ipv6(r.Server) }},
	{"dpt", func(r *audit.Record) any { return number(port(r.Server)) }},
	{"dhost", of(hostOf)},
	{"deviceDirection", func(r *audit.Record) any {
		switch r.Dir {
		case toClient:
			return int64(0)
		case toServer:
			return int64(1)
		}
		return nil
	}},
	{"in", func(r *audit.Record) any { return bytesOf(r, toClient) }},
	{"out", func(r *audit.Record) any { return bytesOf(r, toServer) }},
	{"request", of(func(r *audit.Record) string { return r.Path })},
	{"requestMethod", of(func(r *audit.Record) string { return r.Method })},
	{"cs1Label", func(r *audit.Record) any { return label(list(r.Rules...), "rules") }},
	{"cs1", func(r *audit.Record) any { return list(r.Rules...) }},
	{"cs2Label", func(r *audit.Record) any { return label(text(r.Conn), "conn") }},
	{"cs2", of(func(r *audit.Record) string { return r.Conn })},
	{"cs3Label", func(r *audit.Record) any { return label(text(r.Policy), "policy") }},
	{"cs3", of(func(r *audit.Record) string { return r.Policy })},
	{"cs4Label", func(r *audit.Record) any { return label(text(r.SNI), "sni") }},
	{"cs4", of(func(r *audit.Record) string { return r.SNI })},
	{"cs5Label", func(r *audit.Record) any { return label(list(r.Shadow...), "shadow") }},
	{"cs5", func(r *audit.Record) any { return list(r.Shadow...) }},
	{"cs6Label", func(r *audit.Record) any { return label(text(r.State), "state") }},
	{"cs6", of(func(r *audit.Record) string { return r.State })},
	{"cn1Label", func(r *audit.Record) any { return label(number(r.Code), "code") }},
	{"cn1", func(r *audit.Record) any { return number(r.Code) }},
	{"cn2Label", whenMeasured(always("size"))},
	{"cn2", whenMeasured(func(r *audit.Record) any { return r.Size })},
	{"cn3Label", whenMeasured(always("frames"))},
	{"cn3", whenMeasured(func(r *audit.Record) any { return int64(r.Frames) })},
	{"framegateOpcode", of(func(r *audit.Record) string { return r.Opcode })},
	{"framegateCompressed", whenMeasured(func(r *audit.Record) any { return r.Compressed })},
	{"framegateSha256", of(func(r *audit.Record) string { return r.SHA256 })},
	{"framegateSubprotocol", of(func(r *audit.Record) string { return r.Subprotocol })},
	{"framegateEvidence", of(func(r *audit.Record) string { return r.Evidence })},
	{"framegateMessagesToServer", withTotals(func(t *audit.RecordTotals) any { return t.ToServer.Messages })},
	{"framegateMessagesToClient", withTotals(func(t *audit.RecordTotals) any { return t.ToClient.Messages })},
	{"framegateGapCount", withGap(func(g *audit.RecordGap) any { return number(g.Count) })},
	{"framegateGapBytes", withGap(func(g *audit.RecordGap) any { return number(g.Bytes) })},
	{"framegateExpired", expired},
	{"framegateUnshipped", unshipped},
}

// label is the name of a custom field that has a value.
func label(v any, name string) any {
	if v == nil {
		return nil
	}
	return name
}

func ipv4(s string) any { return ofFamily(s, true) }
func ipv6(s string) any { return ofFamily(s, false) }

func ofFamily(s string, four bool) any {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Addr().Is4() != four {
		return nil
	}
	return a.Addr().WithZone("").String()
}

func newCEF(version string) *Format {
	prefix := string(cefHeader([]byte("CEF:0|framegate|framegate|"), version)) + "|"
	return &Format{append: func(b []byte, r *audit.Record) []byte {
		b = append(b, prefix...)
		b = append(cefHeader(b, r.Event), '|')
		b = append(cefHeader(b, cefName(r)), '|')
		b = append(strconv.AppendInt(b, cefSeverity(r), 10), '|')
		start := len(b)
		for _, f := range extension {
			v := f.value(r)
			if v == nil {
				continue
			}
			if len(b) > start {
				b = append(b, ' ')
			}
			b = append(append(b, f.name...), '=')
			b = cefValue(b, v)
		}
		return b
	}}
}

func cefValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return cefExtension(b, v)
	case []string:
		return cefExtension(b, strings.Join(v, ","))
	case time.Time:
		return strconv.AppendInt(b, v.UnixMilli(), 10)
	}
	return value(b, v)
}

// cefHeader escapes a field of the header: "If a pipe (|) is used in the header,
// it has to be escaped with a backslash (\)", "If a backslash (\) is used in the
// header or the extension, it has to be escaped with another backslash (\)". A
// header has no way to say a newline: like all that is not printable, it is
// written as the text \u and four digits.
func cefHeader(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '|' || r == '\\':
			b = append(b, '\\', byte(r))
		case !strconv.IsPrint(r):
			b = escaped(append(b, '\\'), r)
		default:
			b = append(b, string(r)...)
		}
		i += n
	}
	return b
}

// cefExtension escapes a value of the extension: "If an equal sign (=) is used
// in the extensions, it has to be escaped with a backslash (\)"; a newline is
// \n, a carriage return \r. For other characters that are not printable CEF has
// no escape: they are written as the text \u and four digits.
func cefExtension(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '=' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case !strconv.IsPrint(r):
			b = escaped(append(b, '\\'), r)
		default:
			b = append(b, string(r)...)
		}
		i += n
	}
	return b
}

// cefName says in words what happened.
func cefName(r *audit.Record) string {
	name, ok := map[string]string{
		audit.GatewayStart:    "Gateway started",
		audit.GatewayStop:     "Gateway stopped",
		audit.GatewayHandover: "Gateway upgraded",
		audit.ConfigLoad:      "Configuration loaded",
		audit.ConfigReject:    "Configuration refused",
		audit.PolicyLoad:      "Policy loaded",
		audit.PolicyReject:    "Policy refused",
		audit.TrustLoad:       "Trusted roots loaded",
		audit.TrustReject:     "Trusted roots refused",
		audit.CALoad:          "Authority loaded",
		audit.CAReject:        "Authority refused",
		audit.CAIssue:         "Certificate issued",
		audit.ConnOpen:        "Connection accepted",
		audit.ConnBypass:      "Connection bypassed",
		audit.ConnBlock:       "Connection blocked",
		audit.TLSFail:         "TLS handshake failed",
		audit.HTTPRequest:     "HTTP request",
		audit.WSOpen:          "WebSocket opened",
		audit.WSMessage:       "WebSocket message",
		audit.WSControl:       "WebSocket control frame",
		audit.WSViolation:     "WebSocket protocol violation",
		audit.WSClose:         "WebSocket closed",
		audit.ConnClose:       "Connection closed",
		audit.AuditGap:        "Audit records missing",
		audit.AuditExpire:     "Audit records expired",
		audit.AdminErase:      "Payloads erased",

		audit.AuditUnshipped:  "Audit records not shipped",
		audit.GatewayOverload: "Gateway load changed",
	}[r.Event]
	if !ok {
		return r.Event
	}
	if hit(r) {
		name += " matched a rule"
	}
	return name
}

// cefSeverity is 0 to 10. A record does not have the severity of a rule, so it
// follows from what was done.
func cefSeverity(r *audit.Record) int64 { return [...]int64{1: 1, 2: 3, 3: 6, 4: 8}[severity(r)] }
