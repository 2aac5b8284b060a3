package ship

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

func TestWithoutPayload(t *testing.T) {
	for in, want := range map[string]string{
		`{"seq":1,"event":"x"}`:                                                 `{"seq":1,"event":"x"}`,
		`{"seq":1,"payload":"a\",\"b\\","state":"s"}`:                           `{"seq":1,"state":"s"}`,
		`{"seq":1,"payload_b64":"AA=="}`:                                        `{"seq":1}`,
		`{"seq":1,"payload_sealed":"AA==","totals":{"a":{"b":1},"payload":2}}`:  `{"seq":1,"totals":{"a":{"b":1},"payload":2}}`,
		`{"seq":1,"reason":",\"payload\":\"x\"","rules":["a","b,]"],"code":2}`:  `{"seq":1,"reason":",\"payload\":\"x\"","rules":["a","b,]"],"code":2}`,
		`{"payload":{"a":[1,{"b":"}"}]},"seq":1}`:                               `{"payload":{"a":[1,{"b":"}"}]},"seq":1}`, // no such record: seq comes first
		`{"seq":1,"payload":{"a":[1,{"b":"}"}]},"payload_omitted":"no","x":[]}`: `{"seq":1,"x":[]}`,
	} {
		if got := string(withoutPayload([]byte(in))); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}

// Whatever a record holds, what is shipped is the record without its payload.
func FuzzWithoutPayload(f *testing.F) {
	f.Add("a", `b"},`, []byte(`"payload":`))
	f.Add("\\", "\n\u202e", []byte{0xff, 0})
	f.Fuzz(func(t *testing.T, path, reason string, payload []byte) {
		e := audit.Event{Event: audit.WSMessage, Path: path, Reason: reason, Rules: []string{reason, path},
			Msg: &audit.Message{Dir: "to-client", Opcode: "text", Payload: append(payload, 'x')}}
		with := e.AppendJSON(nil, 7)
		e.Msg.Payload = nil
		want := e.AppendJSON(nil, 7)
		if got := withoutPayload(with); string(got) != string(want) {
			t.Errorf("%s is %s", with, got)
		}
	})
}

func TestSyslogFormat(t *testing.T) {
	f := &syslogFormat{host: "gw", pid: "7", origin: "framegate/ab"}
	at := time.Date(2026, 3, 9, 0, 2, 3, 4005999, time.UTC)
	render := func(e audit.Event) string {
		e.Time = at
		line := append(e.AppendJSON(nil, 9), '\n')
		b, err := f.records(&batch{9, 1, line})
		check(t, err)
		return string(b)
	}
	for _, tt := range []struct {
		event audit.Event
		want  string
	}{
		{audit.Event{Event: audit.ConnOpen, Conn: `a"\]`},
			`149 <110>1 2026-03-09T00:02:03.004005Z gw framegate 7 conn.open [framegate@32473 log="framegate/ab" seq="9" conn="a\"\\\]"] ` +
				`{"seq":9,"time":"2026-03-09T00:02:03.004005999Z","event":"conn.open","conn":"a\"\\]"}`},
		{audit.Event{Event: "admin.a b\u00fc" + strings.Repeat("x", 40), Host: "ü"},
			"<109>1 2026-03-09T00:02:03.004005Z gw framegate 7 admin.a?b?xxxxxxxxxxxxxxxxxxxxxx [framegate@32473 log=\"framegate/ab\" seq=\"9\"] \xef\xbb\xbf{"},
		{audit.Event{Event: audit.AuditGap}, "<107>1 "},
		{audit.Event{Event: audit.TLSFail}, "<108>1 "},
		{audit.Event{Event: audit.WSMessage, Action: "redact"}, "<108>1 "},
	} {
		got := render(tt.event)
		if !strings.Contains(got, tt.want[strings.Index(tt.want, "<"):]) {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
		digits, msg, _ := strings.Cut(got, " ")
		if digits != strconv.Itoa(len(msg)) {
			t.Errorf("framed as %s, has %d", digits, len(msg))
		}
	}
	if b, err := f.records(&batch{1, 1, []byte("{\n")}); err == nil {
		t.Errorf("no record, and it gave %s", b)
	}
}

func TestTargets(t *testing.T) {
	for s, want := range map[string]string{ // what is wrong, "" for nothing
		"syslog+tls://siem":               "",
		"syslog+tls://siem:6514/":         "",
		"syslog+tcp://[2001:db8::1]:601":  "",
		"otlp+https://collector":          "",
		"otlp+https://collector:4318/x/y": "",
		"otlp+http://127.0.0.1:4318":      "",
		"otlp+http://[::1]:4318":          "",
		"otlp+http://localhost":           "",
		"otlp+http://collector:4318":      "without TLS only loopback is reached, expected otlp+https://",
		"otlp+http://localhost.evil.test": "without TLS only loopback",
		"syslog+tcp://siem":               "expected a port",
		"syslog+tls://siem:0":             "expected a port",
		"syslog+tls://siem:70000":         "expected a port",
		"syslog+tls://:6514":              "expected a host",
		"syslog+tls://siem/x":             "expected no path",
		"syslog+tls://u:geheim@siem":      "user name or password",
		"syslog+tls://siem?insecure":      "without ? and #",
		"syslog+tls://siem?":              "without ? and #",
		"syslog+tls://siem#x":             "without ? and #",
		"syslog+udp://siem:514":           "expected a URL with syslog+tcp://, syslog+tls://, otlp+https://, otlp+http://",
		"siem:6514":                       "expected a URL with",
		"":                                "expected a URL with",
		"otlp+https://%":                  "not a URL",
		"file:///x":                       "expected a URL with",
	} {
		_, err := ParseRecordTarget(s)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", s, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%v tells a password", err)
		}
	}
	for s, want := range map[string]string{
		"file:///mnt/worm/checkpoints": "", "https://w.example/prefix": "", "http://127.0.0.1:7380": "",
		"file://host/x": "file:///PATH", "file:x": "file:///PATH", "file:///mnt/": "file:///PATH", "http://w.example": "only loopback", "otlp+https://x": "expected a URL with",
	} {
		_, err := ParseCheckpointTarget(s)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", s, err, want)
		}
	}
	if _, err := New(Config{Checkpoints: []Target{checkpoint(t, "https://w.example")}}); err == nil {
		t.Error("a witness without a key")
	}
}

func TestSeverity(t *testing.T) {
	for event, want := range map[string]severity{
		audit.AuditGap: severe, audit.AuditUnshipped: severe, audit.PolicyReject: severe, audit.TrustReject: severe, audit.CAReject: severe,
		audit.ConnBlock: warning, audit.TLSFail: warning, audit.WSViolation: warning,
		audit.PolicyLoad: notice, audit.TrustLoad: notice, audit.CALoad: notice, audit.GatewayStop: notice, audit.GatewayOverload: notice, audit.AuditExpire: notice, audit.AdminErase: notice,
		audit.CAIssue: plain, audit.ConnOpen: plain, audit.WSMessage: plain,
	} {
		if got := severityOf(&audit.Record{Event: event}); got != want {
			t.Errorf("%s: %v, want %v", event, got, want)
		}
	}
	if got := severityOf(&audit.Record{Event: audit.WSMessage, Action: "redact"}); got != warning {
		t.Errorf("redact: %v", got)
	}
}
