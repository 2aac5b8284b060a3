package ship

import (
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"framegate/audit"
)

// A collector keeps what it takes. answer may refuse; nil: it takes all.
type collector struct {
	t      *testing.T
	answer func(w http.ResponseWriter, records []*logs.LogRecord) (taken bool)

	mu       sync.Mutex
	records  []*logs.LogRecord
	resource []*common.KeyValue
	requests int
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("Content-Encoding") != "gzip" {
		c.t.Errorf("%s %v", r.URL, r.Header)
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		c.t.Error(err)
		return
	}
	body, err := io.ReadAll(z)
	var data logs.LogsData
	if err != nil || proto.Unmarshal(body, &data) != nil {
		c.t.Error("not a request")
		return
	}
	records := data.ResourceLogs[0].ScopeLogs[0].LogRecords
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	if c.answer == nil || c.answer(w, records) {
		c.records = append(c.records, records...)
		c.resource = data.ResourceLogs[0].Resource.Attributes
	}
}

func (c *collector) bodies() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.records {
		all = append(all, r.Body.GetStringValue())
	}
	return all
}

func attribute(list []*common.KeyValue, key string) string {
	for _, a := range list {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// A collector gets all that the log has, in order, over TLS.
func TestCollector(t *testing.T) {
	c := &collector{t: t}
	server := httptest.NewTLSServer(c)
	defer server.Close()
	pool := newAuthority(t).pool()
	pool.AddCert(server.Certificate())
	f := start(t, Config{Records: []Target{record(t, "otlp+"+server.URL)}, Roots: pool})
	f.record(events(5000)...)
	f.record(audit.Event{Event: audit.ConnBlock, Conn: "c-x", Rules: []string{"a", "b"}, Action: "block", SNI: "s.example", Reason: "r"})
	f.wait("all of them", func() bool { return f.shipper.Status()[0].Sent == 5001 })
	f.stop(5 * time.Second)
	var want []string
	for _, line := range f.lines() {
		want = append(want, string(withoutPayload([]byte(line))))
	}
	if got := c.bodies(); !slices.Equal(got, want) {
		t.Fatalf("%d records arrived, of %d, or others", len(got), len(want))
	}
	first, last := c.records[0], c.records[len(c.records)-1]
	for key, want := range map[string]string{
		"log.record.uid": f.log.Origin() + "/1", "framegate.conn": "c-0", "client.address": "10.0.0.7", "client.port": "40000",
		"server.address": "chat.example", "network.peer.address": "2001:db8::1", "url.path": "ümläut", "framegate.direction": "to-server",
	} {
		if got := attribute(first.Attributes, key); !strings.Contains(got, want) {
			t.Errorf("%s is %q", key, got)
		}
	}
	if first.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_INFO || last.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_WARN ||
		last.EventName != "framegate.conn.block" || time.Since(time.Unix(0, int64(last.TimeUnixNano))) > time.Hour || last.ObservedTimeUnixNano < last.TimeUnixNano {
		t.Errorf("%v", last)
	}
	if got := attribute(last.Attributes, "framegate.rules"); !strings.Contains(got, `"a"`) || !strings.Contains(got, `"b"`) {
		t.Errorf("rules are %s", got)
	}
	if !strings.Contains(attribute(c.resource, "service.instance.id"), f.log.Origin()) {
		t.Errorf("resource %v", c.resource)
	}
}

// What the collector answers decides: again, after the time that it asks for,
// or lost and recorded.
func TestCollectorAnswers(t *testing.T) {
	partial := func(rejected uint64) []byte {
		p := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), rejected)
		p = protowire.AppendString(protowire.AppendTag(p, 2, protowire.BytesType), "no \x1b room")
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), p)
	}
	for name, tt := range map[string]struct {
		first func(w http.ResponseWriter) bool // of the first requests, two of them
		lost  int64
		told  string
	}{
		"429":        {func(w http.ResponseWriter) bool { w.WriteHeader(429); return false }, 0, "429 Too Many Requests"},
		"502":        {func(w http.ResponseWriter) bool { w.WriteHeader(502); return false }, 0, "502 Bad Gateway"},
		"504":        {func(w http.ResponseWriter) bool { w.WriteHeader(504); return false }, 0, "504 Gateway Timeout"},
		"reset":      {func(http.ResponseWriter) bool { panic(http.ErrAbortHandler) }, 0, "EOF"},
		"400":        {func(w http.ResponseWriter) bool { w.WriteHeader(400); return false }, 2, "400 Bad Request"},
		"redirected": {func(w http.ResponseWriter) bool { w.Header().Set("Location", "/x"); w.WriteHeader(308); return false }, 2, "308 Permanent Redirect"},
		"partial":    {func(w http.ResponseWriter) bool { w.Write(partial(1)); return true }, 1, `rejected 1 of 2: \"no \\x1b room\"`},
		"a warning":  {func(w http.ResponseWriter) bool { w.Write(partial(0)); return true }, 0, ""},
		"204":        {func(w http.ResponseWriter) bool { w.WriteHeader(204); return true }, 0, ""},
		"nonsense":   {func(w http.ResponseWriter) bool { w.Write([]byte("\x0a\xff\xff")); return true }, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &collector{t: t}
			c.answer = func(w http.ResponseWriter, r []*logs.LogRecord) bool {
				return c.requests > 1 || tt.first(w)
			}
			server := httptest.NewServer(c)
			defer server.Close()
			f := start(t, Config{Records: []Target{record(t, "otlp+"+server.URL)}})
			f.record(events(2)...)
			f.wait("two records", func() bool { st := f.shipper.Status()[0]; return st.Sent+st.Lost == 2 })
			f.record(events(1)...)
			f.wait("the next", func() bool { return f.shipper.Status()[0].Sent >= 3-tt.lost })
			if tt.lost > 0 {
				f.wait("a record of the loss", func() bool {
					return strings.Contains(strings.Join(f.lines(), ""), `"event":"audit.unshipped"`)
				})
			}
			f.stop(5 * time.Second)
			if st := f.shipper.Status()[0]; st.Lost != tt.lost || st.Failing != "" {
				t.Errorf("status %+v", st)
			}
			if !strings.Contains(f.console.String(), tt.told) || tt.told == "" && f.console.String() != "" {
				t.Errorf("not told:\n%s", f.console)
			}
			f.verify(audit.VerifyOptions{})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "x": 0,
		"Sun, 01 Mar 2026 12:00:30 GMT": 30 * time.Second, "Sun, 01 Mar 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q is %v, want %v", s, got, want)
		}
	}
	h := health{log: slog.New(slog.DiscardHandler), pause: time.Millisecond}
	if d := h.failed(&busyError{io.EOF, 90 * time.Second}); d != 90*time.Second {
		t.Errorf("a pause of %v", d)
	}
	for range 100 {
		if d := h.failed(io.EOF); d > longestPause {
			t.Errorf("a pause of %v", d)
		}
	}
	if d := h.failed(&busyError{io.EOF, 90 * time.Hour}); d != time.Hour {
		t.Errorf("a pause of %v", d)
	}
}
