package capture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// archived makes an archive with the steps of a test.
func archived(t testing.TB, steps func(h *HARWriter)) []byte {
	t.Helper()
	var b bytes.Buffer
	h, err := NewHARWriter(&b, "framegate", "v1")
	must(t, err)
	steps(h)
	if h.Held() != 0 {
		t.Errorf("%d bytes are kept", h.Held())
	}
	must(t, h.Close())
	checkHAR(t, b.Bytes())
	return b.Bytes()
}

func TestHARWriter(t *testing.T) {
	file := archived(t, func(h *HARWriter) {
		one := h.Socket(HAREntry{
			Conn: "c-1", Seq: 1, Start: epoch, Method: "GET", URL: "wss://chat.example/ws", Host: "chat.example", Subprotocol: "p", Status: 101,
			Client: alice, Server: netip.MustParseAddrPort("[2001:db8::1]:443"), Comment: "a <b> & c",
		})
		two := h.Socket(HAREntry{Conn: "c-2", Start: epoch, URL: "ws://b/", Status: 101, Server: bob})
		must(t,
			one.Message(HARMessage{Seq: 3, Time: epoch.Add(time.Second), ToServer: true, Opcode: "text", Data: []byte("h\u00e4llo \u202e\x1b\u2028\U000e0001")}),
			two.Message(HARMessage{Seq: 4, Time: epoch, Opcode: "ping", Data: []byte{}}),
			one.Message(HARMessage{Seq: 5, Time: epoch.Add(1500 * time.Millisecond), Opcode: "binary", Data: []byte{0, 0xff}, Action: "log", Rules: []string{"r"}}),
			one.Message(HARMessage{Seq: 6, Time: epoch, Opcode: "text", Missing: "no payload is recorded"}),
			one.Message(HARMessage{Seq: 7, Time: epoch, ToServer: true, Opcode: "text", Data: []byte("\xff"), Redacted: true}),
			h.Request(HAREntry{Conn: "c-3", Seq: 2, Start: epoch, Method: "POST", URL: "https://a.example/x", Status: 204, Server: bob}),
			two.Close(), one.Close())
	})
	got, err := all(bytes.NewReader(file))
	want := "b < ping \nchat.example > text h\u00e4llo \u202e\x1b\u2028\U000e0001\nchat.example < binary \x00\xff\nchat.example > binary \xff\n"
	if err != nil || text(got) != want {
		t.Fatalf("%v, %q, want %q", err, text(got), want)
	}
	c := got[1].Conn
	if c.Server.String() != "[2001:db8::1]:443" || c.Path != "/ws" || c.Subprotocol != "p" || !c.Start.Equal(epoch) || !got[2].Time.Equal(epoch.Add(1500*time.Millisecond)) {
		t.Errorf("%+v, %+v", c, got[2])
	}
	for _, r := range string(file) {
		if r != '\n' && (r < ' ' || r == 0x202e || r == 0x2028 || r == 0xe0001) {
			t.Errorf("%U stands in the archive", r)
		}
	}
	for _, want := range []string{
		`"_framegate":{"seq":5,"action":"log","rules":["r"]}`, `"_connectionId":"c-1"`, `"comment":"a <b> & c"`,
		`{"type":"error","time":1772366400.000000000,"opcode":-1,"data":"a message that is not here (receive, text, seq 6): no payload is recorded","_framegate":{"seq":6,"missing":"no payload is recorded","opcode":"text"}}`,
		`"_framegate":{"seq":7,"redacted":true,"opcode":"text"}`,
	} {
		if !strings.Contains(string(file), want) {
			t.Errorf("not in the archive: %s", want)
		}
	}
}

func TestHARWriterEmpty(t *testing.T) {
	if got, err := all(bytes.NewReader(archived(t, func(*HARWriter) {}))); err != nil || len(got) > 0 {
		t.Error(got, err)
	}
}

// harSchema has the fields that HAR 1.2 demands, with their types, and those of
// Chrome that we write. A list stands for all of its elements.
const harSchema = `{"log": {"version": "string", "creator": {"name": "string", "version": "string"}, "pages": [], "entries": [{
	"startedDateTime": "time", "time": "number",
	"request": {"method": "string", "url": "string", "httpVersion": "string", "cookies": [], "headers": [{"name": "string", "value": "string"}],
		"queryString": [], "headersSize": "number", "bodySize": "number"},
	"response": {"status": "number", "statusText": "string", "httpVersion": "string", "cookies": [], "headers": [{"name": "string", "value": "string"}],
		"content": {"size": "number", "mimeType": "string"}, "redirectURL": "string", "headersSize": "number", "bodySize": "number"},
	"cache": {}, "timings": {"send": "number", "wait": "number", "receive": "number"},
	"_connectionId": "string", "_resourceType": "string",
	"_webSocketMessages?": [{"type": "string", "time": "number", "opcode": "number", "data": "string"}]}]}}`

func checkHAR(t testing.TB, file []byte) {
	t.Helper()
	var schema, value any
	must(t, json.Unmarshal([]byte(harSchema), &schema))
	if !utf8.Valid(file) {
		t.Fatal("the archive is not UTF-8")
	}
	if err := json.Unmarshal(file, &value); err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	for _, wrong := range conform(schema, value, "") {
		t.Error(wrong)
	}
}

var isoTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$`)

func conform(schema, v any, at string) (wrong []string) {
	ok := false
	switch schema := schema.(type) {
	case map[string]any:
		object, is := v.(map[string]any)
		ok = is
		for key, s := range schema {
			name, optional := strings.CutSuffix(key, "?")
			if field, there := object[name]; there {
				wrong = append(wrong, conform(s, field, at+"."+name)...)
			} else if !optional {
				wrong = append(wrong, at+"."+name+" is missing")
			}
		}
	case []any:
		list, is := v.([]any)
		ok = is
		for i := range list {
			if len(schema) > 0 {
				wrong = append(wrong, conform(schema[0], list[i], fmt.Sprintf("%s[%d]", at, i))...)
			}
		}
	case string:
		switch x := v.(type) {
		case string:
			ok = schema == "string" || schema == "time" && isoTime.MatchString(x)
		case float64:
			ok = schema == "number"
		}
	}
	if !ok {
		wrong = append(wrong, fmt.Sprintf("%s is %v, expected %v", at, v, schema))
	}
	return wrong
}

// FuzzHARWriter holds the writer against the reader and the schema.
func FuzzHARWriter(f *testing.F) {
	f.Add("c-1", "wss://a/b", "text", []byte("hi"), "", true, int64(1772366400123456789))
	f.Add("\xff", "\n", "binary", []byte("\xff\x00"), "why\x1b", false, int64(-1))
	f.Fuzz(func(t *testing.T, conn, url, opcode string, data []byte, missing string, toServer bool, at int64) {
		file := archived(t, func(h *HARWriter) {
			s := h.Socket(HAREntry{Conn: conn, Start: time.Unix(0, at), URL: url, Method: conn, Host: url, Subprotocol: opcode, Comment: missing, Status: 101, Client: alice, Server: bob})
			must(t, s.Message(HARMessage{Seq: 1, Time: time.Unix(0, at), ToServer: toServer, Opcode: opcode, Data: data, Missing: missing, Rules: []string{conn}}))
			must(t, s.Close())
		})
		got, err := all(bytes.NewReader(file))
		if err != nil {
			t.Fatalf("%v\n%s", err, file)
		}
		switch {
		case missing != "":
			if len(got) != 0 {
				t.Fatalf("%+v", got[0])
			}
		case len(got) != 1 || !bytes.Equal(got[0].Data, data) || got[0].ToServer != toServer:
			t.Fatalf("%+v, want %q", got, data)
		}
	})
}
