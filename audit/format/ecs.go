package format

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"framegate/audit"
)

// ecsVersion is the version of the schema that the fields are of. They are the
// same in version 9.
const ecsVersion = "8.11.0"

func newECS(version string) *Format {
	fields := ecsFields(version)
	return &Format{append: func(b []byte, r *audit.Record) []byte { return object(b, fields, r) }}
}

func ecsFields(version string) []field {
	return slices.Concat([]field{
		{"@timestamp", func(r *audit.Record) any { return instant(r.Time) }},
		{"ecs.version", always(ecsVersion)},
		{"event.kind", func(r *audit.Record) any {
			if hit(r) || denied(r) {
				return "alert"
			}
			return "event"
		}},
		{"event.category", func(r *audit.Record) any { c, _ := ecsCategory(r); return c }},
		{"event.type", func(r *audit.Record) any { _, t := ecsCategory(r); return t }},
		{"event.action", of(func(r *audit.Record) string { return r.Action })},
		{"event.outcome", outcome},
		{"event.code", of(func(r *audit.Record) string { return r.Event })},
		{"event.sequence", func(r *audit.Record) any { return int64(r.Seq) }},
		{"event.reason", of(func(r *audit.Record) string { return r.Reason })},
		{"event.module", always("framegate")},
		{"event.dataset", always("framegate.audit")},
		{"observer.vendor", always("framegate")},
		{"observer.product", always("framegate")},
		{"observer.type", always("proxy")},
		{"observer.version", always(text(version))},
		{"source.ip", of(func(r *audit.Record) string { return address(r.Client) })},
		{"source.port", func(r *audit.Record) any { return number(port(r.Client)) }},
		{"source.bytes", func(r *audit.Record) any { return bytesOf(r, toServer) }},
		{"destination.ip", of(func(r *audit.Record) string { return address(r.Server) })},
		{"destination.port", func(r *audit.Record) any { return number(port(r.Server)) }},
		{"destination.domain", of(hostOf)},
		{"destination.bytes", func(r *audit.Record) any { return bytesOf(r, toClient) }},
		{"network.transport", func(r *audit.Record) any { return ifConn(r, "tcp") }},
		{"network.type", ecsNetworkType},
		{"network.protocol", of(protocol)},
		{"network.direction", func(r *audit.Record) any {
			return text(map[string]string{toServer: "outbound", toClient: "inbound"}[r.Dir])
		}},
		{"network.community_id", of(func(r *audit.Record) string { return communityID(r.Client, r.Server) })},
		{"http.request.method", of(func(r *audit.Record) string { return r.Method })},
		{"http.response.status_code", func(r *audit.Record) any {
			if isHTTP(r) {
				return number(r.Code)
			}
			return nil
		}},
		{"url.domain", of(func(r *audit.Record) string { return r.Host })},
		{"url.path", of(func(r *audit.Record) string { return r.Path })},
		{"tls.client.server_name", of(func(r *audit.Record) string { return r.SNI })},
		{"rule.id", func(r *audit.Record) any { return list(r.Rules...) }},
		{"rule.version", of(func(r *audit.Record) string { return r.Policy })},
		{"related.ip", func(r *audit.Record) any { return list(address(r.Client), address(r.Server)) }},
		{"related.hosts", func(r *audit.Record) any { return list(distinct(r.Host, r.SNI)...) }},
		{"related.hash", func(r *audit.Record) any { return list(r.SHA256) }},
		{"framegate.conn", of(func(r *audit.Record) string { return r.Conn })},
		{"framegate.shadow", func(r *audit.Record) any { return list(r.Shadow...) }},
		{"framegate.state", of(func(r *audit.Record) string { return r.State })},
		{"framegate.gap.count", withGap(func(g *audit.RecordGap) any { return number(g.Count) })},
		{"framegate.gap.bytes", withGap(func(g *audit.RecordGap) any { return number(g.Bytes) })},
		{"framegate.totals.to_server.messages", withTotals(func(t *audit.RecordTotals) any { return t.ToServer.Messages })},
		{"framegate.totals.to_client.messages", withTotals(func(t *audit.RecordTotals) any { return t.ToClient.Messages })},
		{"framegate.ws.opcode", of(func(r *audit.Record) string { return r.Opcode })},
		{"framegate.ws.size", whenMeasured(func(r *audit.Record) any { return r.Size })},
		{"framegate.ws.wire_size", whenMeasured(func(r *audit.Record) any { return r.WireSize })},
		{"framegate.ws.frames", whenMeasured(func(r *audit.Record) any { return int64(r.Frames) })},
		{"framegate.ws.compressed", whenMeasured(func(r *audit.Record) any { return r.Compressed })},
		{"framegate.ws.sha256", of(func(r *audit.Record) string { return r.SHA256 })},
		{"framegate.ws.subprotocol", of(func(r *audit.Record) string { return r.Subprotocol })},
		{"framegate.ws.close_code", func(r *audit.Record) any {
			if isHTTP(r) {
				return nil
			}
			return number(r.Code)
		}},
		{"framegate.ws.evidence", of(func(r *audit.Record) string { return r.Evidence })},
	}, objects("framegate."))
}

// ecsCategory returns event.category and event.type.
func ecsCategory(r *audit.Record) (category, kind []string) {
	switch r.Event {
	case audit.GatewayStart:
		return []string{"process"}, []string{"start"}
	case audit.GatewayStop:
		return []string{"process"}, []string{"end"}
	case audit.AuditGap, audit.AuditUnshipped, audit.GatewayOverload, audit.GatewayHandover:
		return []string{"process"}, []string{"info"}
	case audit.AuditExpire, audit.AdminErase:
		return []string{"file"}, []string{"deletion"}
	case audit.ConfigLoad, audit.PolicyLoad, audit.TrustLoad, audit.CALoad:
		return []string{"configuration"}, []string{"change"}
	case audit.ConfigReject, audit.PolicyReject, audit.TrustReject, audit.CAReject:
		return []string{"configuration"}, []string{"info"}
	case audit.CAIssue:
		return []string{"configuration"}, []string{"creation"}
	case audit.ConnOpen:
		kind = []string{"connection", "start"}
	case audit.ConnClose:
		kind = []string{"connection", "end"}
	case audit.ConnBypass, audit.ConnBlock:
		kind = []string{"connection"}
	case audit.TLSFail:
		kind = []string{"protocol", "info"}
	case audit.HTTPRequest:
		return []string{"network", "web"}, allowedOrDenied(r, "access")
	case audit.WSOpen:
		kind = []string{"protocol", "start"}
	case audit.WSClose:
		kind = []string{"protocol", "end"}
	case audit.WSMessage, audit.WSControl, audit.WSViolation:
		kind = []string{"protocol"}
	default: // admin.* and what a later version adds
		return []string{"configuration"}, []string{"access"}
	}
	category = []string{"network"}
	if hit(r) || r.Event == audit.WSViolation {
		category = append(category, "intrusion_detection")
	}
	return category, allowedOrDenied(r, kind...)
}

func allowedOrDenied(r *audit.Record, kind ...string) []string {
	switch {
	case denied(r):
		return append(kind, "denied")
	case r.Action != "":
		return append(kind, "allowed")
	}
	return kind
}

func ecsNetworkType(r *audit.Record) any {
	a, err := netip.ParseAddrPort(r.Server)
	switch {
	case err != nil:
		return nil
	case a.Addr().Is4():
		return "ipv4"
	}
	return "ipv6"
}

// ifConn is s if the record is about a connection.
func ifConn(r *audit.Record, s string) any {
	if r.Client == "" && r.Server == "" {
		return nil
	}
	return s
}

// protocol is what was spoken, as far as the event says.
func protocol(r *audit.Record) string {
	switch {
	case strings.HasPrefix(r.Event, "ws."):
		return "websocket"
	case r.Event == audit.HTTPRequest:
		return "http"
	case r.Event == audit.TLSFail:
		return "tls"
	}
	return ""
}

// isHTTP says whether code is an HTTP status.
func isHTTP(r *audit.Record) bool { return r.Event == audit.HTTPRequest || r.Event == audit.WSOpen }

func distinct(a, b string) []string {
	if a == b {
		return []string{a}
	}
	return []string{a, b}
}

// communityID is the hash of a flow by which other sensors know it, version 1
// of the Community ID specification with seed 0: the lower end comes first.
func communityID(client, server string) string {
	a, errA := netip.ParseAddrPort(client)
	b, errB := netip.ParseAddrPort(server)
	if errA != nil || errB != nil || a.Addr().Is4() != b.Addr().Is4() {
		return ""
	}
	low, high := a.Addr().WithZone("").AsSlice(), b.Addr().WithZone("").AsSlice()
	lowPort, highPort := a.Port(), b.Port()
	if order := bytes.Compare(low, high); order > 0 || order == 0 && lowPort > highPort {
		low, high, lowPort, highPort = high, low, highPort, lowPort
	}
	const tcp = 6
	h := sha1.New()
	h.Write([]byte{0, 0})
	h.Write(low)
	h.Write(high)
	h.Write([]byte{tcp, 0})
	h.Write(binary.BigEndian.AppendUint16(nil, lowPort))
	h.Write(binary.BigEndian.AppendUint16(nil, highPort))
	return "1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
}
