package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var testTime = time.Date(2026, 3, 9, 1, 2, 3, 4005, time.FixedZone("", 3600))

func TestAppendJSON(t *testing.T) {
	sum := [32]byte{0: 0xab, 31: 0x01}
	const hexSum = "ab00000000000000000000000000000000000000000000000000000000000001"
	tests := []struct {
		name string
		e    Event
		want string
	}{
		{"least", Event{Time: testTime, Event: GatewayStart},
			`{"seq":7,"time":"2026-03-09T00:02:03.000004005Z","event":"gateway.start"}`},
		{"message", Event{
			Time: testTime, Event: WSMessage, Conn: "c1",
			Msg: &Message{Dir: "to-server", Opcode: "text", Size: 5, WireSize: 11, Frames: 1, Compressed: true,
				SHA256: sum, Payload: []byte("a\"b")},
			Rules: []string{"r1", "r2"}, Action: "log", Policy: "p",
			Client: netip.MustParseAddrPort("[::ffff:10.0.0.1]:4711"), Server: netip.MustParseAddrPort("[2001:db8::1]:443"),
			SNI: "s", Host: "h", Path: "/p", Subprotocol: "sp", Code: 1008, Reason: "why",
			Method: "GET", Shadow: []string{"s1"},
		}, `{"seq":7,"time":"2026-03-09T00:02:03.000004005Z","event":"ws.message","conn":"c1","dir":"to-server",` +
			`"opcode":"text","size":5,"wire_size":11,"frames":1,"compressed":true,"sha256":"` + hexSum + `",` +
			`"rules":["r1","r2"],"action":"log","policy":"p","client":"10.0.0.1:4711","server":"[2001:db8::1]:443",` +
			`"sni":"s","host":"h","path":"/p","subprotocol":"sp","code":1008,"reason":"why","payload":"a\"b",` +
			`"method":"GET","shadow":["s1"]}`},
		{"empty message", Event{Time: testTime, Event: WSMessage, Msg: &Message{Dir: "to-client", Opcode: "text", WireSize: 2, Frames: 1, Payload: []byte{}}},
			`{"seq":7,"time":"2026-03-09T00:02:03.000004005Z","event":"ws.message","dir":"to-client","opcode":"text",` +
				`"size":0,"wire_size":2,"frames":1,"compressed":false,"payload":""}`},
		{"payload that is not UTF-8", Event{Time: testTime, Event: WSMessage, Msg: &Message{Payload: []byte{0xff, 0}}},
			`{"seq":7,"time":"2026-03-09T00:02:03.000004005Z","event":"ws.message","payload_b64":"/wA="}`},
		{"violation", Event{Time: testTime, Event: WSViolation, Msg: &Message{Dir: "to-server"}, Evidence: []byte{0xc1, 0x80}},
			`{"seq":7,"time":"2026-03-09T00:02:03.000004005Z","event":"ws.violation","dir":"to-server","evidence":"c180"}`},
		{"close", Event{Time: testTime, Event: ConnClose, State: StateInspected,
			Totals: &Totals{ToServer: Tally{Messages: 2, Bytes: 10, SHA256: sum}, ToClient: Tally{}}},
			`{"seq":7,"time":"2026-03-09T00:02:03.000004005Z","event":"conn.close","state":"inspected",` +
				`"totals":{"to_server":{"messages":2,"bytes":10,"sha256":"` + hexSum + `"},"to_client":{"messages":0,"bytes":0}}}`},
		{"gap", Event{Time: testTime, Event: AuditGap, Gap: &Gap{Count: 3, Bytes: 4, Since: testTime}},
			`{"seq":7,"time":"2026-03-09T00:02:03.000004005Z","event":"audit.gap",` +
				`"gap":{"count":3,"bytes":4,"since":"2026-03-09T00:02:03.000004005Z"}}`},
		{"gap of unknown size", Event{Time: testTime, Event: AuditGap, Gap: &Gap{}},
			`{"seq":7,"time":"2026-03-09T00:02:03.000004005Z","event":"audit.gap","gap":{}}`},
		{"years out of range", Event{Time: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC), Event: "e"},
			`{"seq":7,"time":"9999-01-01T00:00:00.000000000Z","event":"e"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := string(tt.e.AppendJSON(nil, 7))
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			if !json.Valid([]byte(got)) {
				t.Error("not valid JSON")
			}
		})
	}
}

func TestStringIsPrintable(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain ünïcode 日本 🙂", `plain ünïcode 日本 🙂`},
		{"a\nb\r\tc", `a\nb\r\tc`},
		{"\x1b[2J\x00\x7f", `\u001b[2J\u0000\u007f`},
		{"\u0085\u009b31m", `\u0085\u009b31m`},
		{"\u2028\u2029", `\u2028\u2029`},
		{"\u202eevil\u2066\u200f\u061c", `\u202eevil\u2066\u200f\u061c`},
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
		{"tag\U000e0041", `tag\udb40\udc41`},
		{"bad\xff\xc3", `bad\ufffd\ufffd`},
		{"replacement\ufffd", "replacement\ufffd"},
		{`q"\/`, `q\"\\/`},
	}
	for _, tt := range tests {
		if got := string(appendString(nil, tt.in)); got != `"`+tt.want+`"` {
			t.Errorf("%q: got %s, want %s", tt.in, got, tt.want)
		}
		if got := string(appendString(nil, []byte(tt.in))); got != `"`+tt.want+`"` {
			t.Errorf("%q as bytes: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestAppendJSONDoesNotAllocate(t *testing.T) {
	e := benchEvent(0)
	e.Host = "bad\xff\u202e"
	e.Msg.Payload = []byte("some \x00 payload")
	b := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { b = e.AppendJSON(b[:0], 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// decoded is what any JSON decoder sees of a record.
type decoded struct {
	Seq        uint64
	Time       time.Time
	Event      string
	Conn       string
	Dir        string
	Opcode     string
	Size       int64
	WireSize   int64 `json:"wire_size"`
	Frames     int
	Compressed bool
	SHA256     string
	Rules      []string
	Shadow     []string
	Action     string
	Client     string
	Host       string
	Path       string
	Code       int
	Reason     string
	Payload    *string
	PayloadB64 *string `json:"payload_b64"`
	Evidence   string
}

func FuzzAppendJSON(f *testing.F) {
	f.Add(uint64(1), int64(1773014523000004005), "ws.message", "host.example", "/p?q=\"x\"", "bye\n", []byte("hi"), int64(2), 1000)
	f.Add(uint64(1<<63), int64(-1), "\u202e", "\xff\xfe", "\u2028", "\x1b]0;x\x07", []byte{0xff, 0xd8}, int64(-5), -1)
	f.Add(uint64(0), int64(0), "", "", "", "", []byte{}, int64(0), 0)
	f.Fuzz(func(t *testing.T, seq uint64, ns int64, event, host, path, reason string, payload []byte, size int64, code int) {
		e := Event{
			Time: time.Unix(0, ns), Event: event, Conn: reason, Host: host, Path: path, Reason: reason, Code: code,
			Msg:   &Message{Dir: host, Opcode: path, Size: size, WireSize: 1, Frames: code, Compressed: size > 0, Payload: payload},
			Rules: []string{event, host}, Shadow: []string{path}, Action: path, Evidence: payload,
			Client: netip.AddrPortFrom(netip.IPv6LinkLocalAllNodes().WithZone(host), 1),
		}
		line := e.AppendJSON(nil, seq)
		for rest := line; len(rest) > 0; {
			r, n := utf8.DecodeRune(rest)
			if r == utf8.RuneError && n == 1 || !strconv.IsPrint(r) {
				t.Fatalf("not printable: %q", line)
			}
			rest = rest[n:]
		}
		var got decoded
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		text := func(s string) string { return string([]rune(s)) } // each bad byte is U+FFFD
		want := decoded{
			Seq: seq, Time: e.Time.UTC(), Event: text(event), Conn: text(reason), Dir: text(host), Opcode: text(path),
			Size: size, WireSize: 1, Frames: code, Compressed: size > 0,
			Rules: []string{text(event), text(host)}, Shadow: []string{text(path)}, Action: text(path),
			Client: text(e.Client.String()), Host: text(host), Path: text(path), Code: code, Reason: text(reason),
			Evidence: got.Evidence, Payload: got.Payload, PayloadB64: got.PayloadB64,
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		switch {
		case got.Payload != nil && got.PayloadB64 == nil:
			if *got.Payload != string(payload) {
				t.Errorf("payload %q, want %q", *got.Payload, payload)
			}
		case got.PayloadB64 != nil && got.Payload == nil:
			if b, err := base64.StdEncoding.DecodeString(*got.PayloadB64); err != nil || !bytes.Equal(b, payload) {
				t.Errorf("payload %q, want %q", b, payload)
			}
		case payload != nil:
			t.Errorf("payload lost: %s", line)
		}
		if strings.Contains(string(line), "\n") {
			t.Error("more than one line")
		}
	})
}
