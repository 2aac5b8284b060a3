package format

import (
	"slices"
	"strconv"
	"strings"

	"framegate/audit"
)

// ocsfVersion is the version of the schema that the attributes are of.
const ocsfVersion = "1.6.0"

// An ocsfClass is an event class with the activity that a record is.
type ocsfClass struct {
	category int64
	uid      int64
	name     string
	activity int64
	what     string // name of the activity
}

const (
	networkActivity = 4001
	httpActivity    = 4002
	dataFinding     = 2006
)

// The classes that have the ends of a connection, and those of them that are
// about the connection itself.
var (
	carried = []int64{networkActivity, httpActivity}
	ends    = []int64{networkActivity, httpActivity, dataFinding}
)

// httpMethods are the activities of HTTP Activity.
var httpMethods = map[string]int64{
	"CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8, "PATCH": 9,
}

const other = 99 // the activity is not in the list of the class, its name says what

// classOf chooses the class. There is none for WebSocket, so a message is
// traffic of its connection, unless a rule matched.
func classOf(r *audit.Record) ocsfClass {
	network := func(activity int64, what string) ocsfClass {
		return ocsfClass{4, networkActivity, "Network Activity", activity, what}
	}
	if hit(r) {
		return ocsfClass{2, dataFinding, "Data Security Finding", 1, "Create"}
	}
	switch r.Event {
	case audit.ConnOpen:
		return network(1, "Open")
	case audit.ConnClose:
		return network(2, "Close")
	case audit.TLSFail:
		return network(4, "Fail")
	case audit.ConnBlock:
		return network(5, "Refuse")
	case audit.WSMessage, audit.WSControl:
		return network(6, "Traffic")
	case audit.ConnBypass, audit.WSClose, audit.WSViolation:
		return network(other, r.Event)
	case audit.HTTPRequest, audit.WSOpen:
		method := r.Method
		if r.Event == audit.WSOpen {
			method = "GET" // RFC 6455 section 4.1: "The method of the request MUST be GET"
		}
		c := ocsfClass{4, httpActivity, "HTTP Activity", other, method}
		if id, ok := httpMethods[method]; ok {
			c.activity, c.what = id, method[:1]+strings.ToLower(method[1:])
		}
		return c
	}
	return ocsfClass{0, 0, "Base Event", other, r.Event}
}

func newOCSF(version string) *Format {
	fields := ocsfFields(version)
	return &Format{append: func(b []byte, r *audit.Record) []byte { return object(b, fields, r) }}
}

// in makes a field one of some classes only.
func in(get func(r *audit.Record) any, classes ...int64) func(*audit.Record) any {
	return func(r *audit.Record) any {
		if !slices.Contains(classes, classOf(r).uid) {
			return nil
		}
		return get(r)
	}
}

// notIn makes a field one of what a class has no attribute for.
func notIn(get func(r *audit.Record) any, classes ...int64) func(*audit.Record) any {
	return func(r *audit.Record) any {
		if slices.Contains(classes, classOf(r).uid) {
			return nil
		}
		return get(r)
	}
}

func ocsfFields(version string) []field {
	httpMethod := of(func(r *audit.Record) string { return r.Method })
	path := of(func(r *audit.Record) string { return r.Path })
	state := of(func(r *audit.Record) string { return r.State })
	code := func(r *audit.Record) any { return number(r.Code) }
	conn := of(func(r *audit.Record) string { return r.Conn })
	policy := of(func(r *audit.Record) string { return r.Policy })
	rules := func(r *audit.Record) []string { return slices.Concat(r.Rules, r.Shadow) }
	out := func(r *audit.Record) any { return bytesOf(r, toServer) }
	into := func(r *audit.Record) any { return bytesOf(r, toClient) }
	return slices.Concat([]field{
		{"activity_id", func(r *audit.Record) any { return classOf(r).activity }},
		{"activity_name", func(r *audit.Record) any { return text(classOf(r).what) }},
		{"category_uid", func(r *audit.Record) any { return classOf(r).category }},
		{"class_uid", func(r *audit.Record) any { return classOf(r).uid }},
		{"class_name", func(r *audit.Record) any { return classOf(r).name }},
		{"type_uid", func(r *audit.Record) any { c := classOf(r); return c.uid*100 + c.activity }},
		{"severity_id", func(r *audit.Record) any { return severity(r) }},
		{"time", func(r *audit.Record) any { return r.Time }},
		{"metadata.version", always(ocsfVersion)},
		{"metadata.product.name", always("framegate")},
		{"metadata.product.vendor_name", always("framegate")},
		{"metadata.product.version", always(text(version))},
		{"metadata.profiles", func(r *audit.Record) any {
			if classOf(r).uid == 0 {
				return nil
			}
			return []string{"security_control"}
		}},
		{"metadata.log_name", always("audit")},
		{"metadata.event_code", of(func(r *audit.Record) string { return r.Event })},
		{"metadata.original_time", func(r *audit.Record) any { return instant(r.Time) }},
		{"metadata.sequence", func(r *audit.Record) any { return int64(r.Seq) }},
		{"metadata.correlation_uid", conn},
		{"action_id", in(ocsfAction, ends...)},
		{"disposition_id", in(ocsfDisposition, ends...)},
		{"is_alert", in(func(r *audit.Record) any { return severity(r) > 2 }, dataFinding)},
		{"policy.version", in(policy, carried...)},
		{"status_id", notIn(ocsfStatus, dataFinding)},
		{"status_detail", of(func(r *audit.Record) string { return r.Reason })},
		{"connection_info.uid", in(conn, carried...)},
		{"connection_info.direction_id", in(func(r *audit.Record) any {
			return map[string]int64{toClient: 1, toServer: 2}[r.Dir] // 0: unknown
		}, carried...)},
		{"connection_info.protocol_name", in(always("tcp"), carried...)},
		{"connection_info.protocol_num", in(always(int64(6)), carried...)},
		{"observation_point_id", in(always(int64(3)), carried...)}, // neither end
		{"src_endpoint.ip", in(of(func(r *audit.Record) string { return address(r.Client) }), ends...)},
		{"src_endpoint.port", in(func(r *audit.Record) any { return number(port(r.Client)) }, ends...)},
		{"dst_endpoint.ip", in(of(func(r *audit.Record) string { return address(r.Server) }), ends...)},
		{"dst_endpoint.port", in(func(r *audit.Record) any { return number(port(r.Server)) }, ends...)},
		{"dst_endpoint.hostname", in(of(hostOf), ends...)},
		{"traffic.bytes_out", in(out, carried...)},
		{"traffic.bytes_in", in(into, carried...)},
		{"http_request.http_method", in(httpMethod, httpActivity)},
		{"http_request.url.hostname", in(of(hostOf), httpActivity)},
		{"http_request.url.path", in(path, httpActivity)},
		{"http_response.code", in(code, httpActivity)},
		{"finding_info.uid", in(func(r *audit.Record) any { return r.Conn + "/" + strconv.FormatUint(r.Seq, 10) }, dataFinding)},
		{"finding_info.title", in(func(r *audit.Record) any { return "A message matched " + strings.Join(rules(r), ", ") }, dataFinding)},
		{"finding_info.created_time", in(func(r *audit.Record) any { return r.Time }, dataFinding)},
		{"finding_info.types", in(func(r *audit.Record) any { return list(rules(r)...) }, dataFinding)},
		{"data_security.detection_pattern", in(func(r *audit.Record) any { return strings.Join(rules(r), ", ") }, dataFinding)},
		{"data_security.data_lifecycle_state_id", in(always(int64(2)), dataFinding)}, // in transit
		{"data_security.policy.version", in(policy, dataFinding)},
		{"unmapped.rules", func(r *audit.Record) any { return list(r.Rules...) }},
		{"unmapped.shadow", func(r *audit.Record) any { return list(r.Shadow...) }},
		{"unmapped.sni", of(func(r *audit.Record) string { return r.SNI })},
		{"unmapped.host", notIn(of(hostOf), ends...)},
		{"unmapped.client", notIn(of(func(r *audit.Record) string { return r.Client }), ends...)},
		{"unmapped.server", notIn(of(func(r *audit.Record) string { return r.Server }), ends...)},
		{"unmapped.method", notIn(httpMethod, httpActivity)},
		{"unmapped.path", notIn(path, httpActivity)},
		{"unmapped.code", notIn(code, httpActivity)},
		{"unmapped.policy", in(policy, 0)},
		{"unmapped.action", of(func(r *audit.Record) string { return r.Action })},
		{"unmapped.state", state},
		{"unmapped.gap.count", withGap(func(g *audit.RecordGap) any { return number(g.Count) })},
		{"unmapped.gap.bytes", withGap(func(g *audit.RecordGap) any { return number(g.Bytes) })},
		{"unmapped.totals.to_server.messages", withTotals(func(t *audit.RecordTotals) any { return t.ToServer.Messages })},
		{"unmapped.totals.to_client.messages", withTotals(func(t *audit.RecordTotals) any { return t.ToClient.Messages })},
		{"unmapped.ws.dir", of(func(r *audit.Record) string { return r.Dir })},
		{"unmapped.ws.opcode", of(func(r *audit.Record) string { return r.Opcode })},
		{"unmapped.ws.size", whenMeasured(func(r *audit.Record) any { return r.Size })},
		{"unmapped.ws.wire_size", whenMeasured(func(r *audit.Record) any { return r.WireSize })},
		{"unmapped.ws.frames", whenMeasured(func(r *audit.Record) any { return int64(r.Frames) })},
		{"unmapped.ws.compressed", whenMeasured(func(r *audit.Record) any { return r.Compressed })},
		{"unmapped.ws.sha256", of(func(r *audit.Record) string { return r.SHA256 })},
		{"unmapped.ws.subprotocol", of(func(r *audit.Record) string { return r.Subprotocol })},
		{"unmapped.ws.evidence", of(func(r *audit.Record) string { return r.Evidence })},
	}, objects("unmapped."))
}

// severity is OCSF's: 1 informational, 2 low, 3 medium, 4 high. A record does
// not have the severity of a rule, so it follows from what was done.
func severity(r *audit.Record) int64 {
	switch {
	case r.Event == audit.AuditGap:
		return 4
	case denied(r), r.Action == "redact", r.Event == audit.AuditUnshipped,
		r.Expired != nil && r.Expired.Missing > 0: // gone before they were due
		return 3
	case hit(r), rejected(r), r.Event == audit.TLSFail, r.Event == audit.AdminErase:
		return 2
	}
	return 1
}

// ocsfAction is action_id of the security_control profile.
func ocsfAction(r *audit.Record) any {
	switch {
	case denied(r):
		return int64(2) // denied
	case r.Action == "redact":
		return int64(4) // modified
	case r.Action == "log", r.Action == "inspect", hit(r) && len(r.Rules) == 0:
		return int64(3) // observed
	case r.Action == "allow", r.Action == "bypass":
		return int64(1) // allowed
	}
	return nil
}

// ocsfDisposition is disposition_id of the same.
func ocsfDisposition(r *audit.Record) any {
	switch {
	case r.Action == "drop":
		return int64(6) // dropped
	case denied(r):
		return int64(2) // blocked
	case r.Action == "redact":
		return int64(11) // corrected
	case r.Action == "log", r.Action == "inspect", hit(r) && len(r.Rules) == 0:
		return int64(17) // logged
	case r.Action == "allow", r.Action == "bypass":
		return int64(1) // allowed
	}
	return nil
}

// ocsfStatus is status_id: 1 success, 2 failure.
func ocsfStatus(r *audit.Record) any {
	switch outcome(r) {
	case "success":
		return int64(1)
	case "failure":
		return int64(2)
	}
	return nil
}
