package ship

import (
	"net"
	"strconv"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"

	"framegate/audit"
)

// An otlpFormat has what is the same in all requests of a gateway.
type otlpFormat struct {
	host    string
	version string
	origin  string // name of the log
}

// records renders a batch as LogsData. That message and the
// ExportLogsServiceRequest of the protocol have the same one field, which is why
// the package of the service, and gRPC with it, is not needed.
func (f *otlpFormat) records(b *batch, now time.Time) (*logs.LogsData, error) {
	list := make([]*logs.LogRecord, 0, b.count)
	err := eachRecord(b, func(r *audit.Record, line []byte) { list = append(list, f.record(r, line, now)) })
	return &logs.LogsData{ResourceLogs: []*logs.ResourceLogs{{
		Resource: &resource.Resource{Attributes: present(
			text("service.name", "framegate"),
			text("service.version", f.version),
			text("service.instance.id", f.origin),
			text("host.name", f.host),
		)},
		ScopeLogs: []*logs.ScopeLogs{{
			Scope:      &common.InstrumentationScope{Name: "framegate/audit", Version: f.version},
			LogRecords: list,
		}},
	}}}, err
}

// record renders one record. Attributes have the names of the OpenTelemetry
// semantic conventions where there is one.
func (f *otlpFormat) record(r *audit.Record, line []byte, now time.Time) *logs.LogRecord {
	s := severityOf(r)
	clientHost, clientPort := hostPort(r.Client)
	serverHost, serverPort := hostPort(r.Server)
	seq := strconv.FormatUint(r.Seq, 10)
	var status, closeCode int64
	if r.Event == audit.HTTPRequest || r.Event == audit.WSOpen {
		status = int64(r.Code)
	} else {
		closeCode = int64(r.Code)
	}
	return &logs.LogRecord{
		TimeUnixNano:         unixNano(r.Time),
		ObservedTimeUnixNano: unixNano(now),
		SeverityNumber:       logs.SeverityNumber(s.otel),
		SeverityText:         s.text,
		EventName:            "framegate." + r.Event,
		Body:                 &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: string(line)}},
		Attributes: present(
			text("log.record.uid", f.origin+"/"+seq),
			number("framegate.seq", int64(r.Seq)),
			text("framegate.conn", r.Conn),
			text("framegate.action", r.Action),
			list("framegate.rules", r.Rules),
			list("framegate.shadow", r.Shadow),
			text("framegate.policy", r.Policy),
			text("framegate.direction", r.Dir),
			text("framegate.opcode", r.Opcode),
			text("framegate.state", r.State),
			number("framegate.size", r.Size),
			number("framegate.code", closeCode),
			text("client.address", clientHost),
			number("client.port", clientPort),
			text("server.address", r.Host),
			text("network.peer.address", serverHost),
			number("network.peer.port", serverPort),
			text("tls.client.server_name", r.SNI),
			text("http.request.method", r.Method),
			number("http.response.status_code", status),
			text("url.path", r.Path),
		),
	}
}

// unixNano: "fixed64 ... Value of 0 indicates unknown or missing timestamp".
func unixNano(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

func hostPort(s string) (host string, port int64) {
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0
	}
	port, _ = strconv.ParseInt(digits, 10, 32)
	return host, port
}

// present leaves out what is absent from the record.
func present(attributes ...*common.KeyValue) []*common.KeyValue {
	out := attributes[:0]
	for _, a := range attributes {
		if a != nil {
			out = append(out, a)
		}
	}
	return out
}

func text(key, s string) *common.KeyValue {
	if s == "" {
		return nil
	}
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}}
}

func number(key string, n int64) *common.KeyValue {
	if n == 0 {
		return nil
	}
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}}
}

func list(key string, values []string) *common.KeyValue {
	if len(values) == 0 {
		return nil
	}
	array := new(common.ArrayValue)
	for _, s := range values {
		array.Values = append(array.Values, &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}})
	}
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: array}}}
}
