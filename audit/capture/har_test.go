package capture

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// all returns the messages of an archive.
func all(r io.ReadSeeker) ([]*Message, error) {
	var out []*Message
	err := ReadHAR(r, func(m *Message) error {
		out = append(out, m)
		return nil
	})
	return out, err
}

func text(messages []*Message) string {
	var b strings.Builder
	for _, m := range messages {
		a, _ := arrow(m.ToServer)
		fmt.Fprintf(&b, "%s %s %s %s\n", m.Conn.Host, a, m.Opcode, m.Data)
	}
	return b.String()
}

func TestHAR(t *testing.T) {
	f, err := os.Open("testdata/vite-hmr.har")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := all(f)
	if err != nil {
		t.Fatal(err)
	}
	recording, err := os.Open("../../examples/traffic/vite-hmr.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer recording.Close()
	i := 0
	if err := ReadRecording(recording, func(want *Message) error {
		m := got[i]
		if m.ToServer != want.ToServer || m.Opcode != want.Opcode || string(m.Data) != string(want.Data) {
			t.Errorf("message %d: %+v, want %+v", i+1, m, want)
		}
		if d := m.Time.Sub(got[0].Time) - want.Time.Sub(time.Unix(0, 0)); d.Abs() > 2*time.Microsecond {
			t.Errorf("message %d: %v off", i+1, d)
		}
		i++
		return nil
	}); err != nil || i != len(got) {
		t.Fatal(i, len(got), err)
	}
	if want := time.UnixMilli(1763200000250).UTC(); got[0].Time != want {
		t.Errorf("time %v, want %v", got[0].Time, want)
	}
	c := *got[0].Conn
	if c.Server.String() != "[::1]:3000" || c.Client.IsValid() || c.Host != "localhost:3000" || c.Path != "/" ||
		c.Origin != "http://localhost:3000" || c.Subprotocol != "vite-hmr" ||
		!c.Start.Equal(time.Date(2025, 11, 15, 9, 46, 40, 123e6, time.UTC)) || got[4].Conn != got[0].Conn {
		t.Errorf("connection %+v", c)
	}
}

func archive(entries string) string { return `{"log":{"version":"1.2","entries":[` + entries + `]}}` }

func TestHARForms(t *testing.T) {
	const one = `{"type":"send","time":1.5,"opcode":1,"data":"hi"}`
	for name, test := range map[string]struct{ file, want string }{
		"no entries":          {`{"log":{}}`, ""},
		"no sockets":          {archive(`{"request":{"url":"http://a/"}},{}`), ""},
		"no messages":         {archive(`{"_webSocketMessages":[]},{"_webSocketMessages":null}`), ""},
		"byte order mark":     {"\ufeff" + archive(`{"_webSocketMessages":[`+one+`]}`), " > text hi\n"},
		"request after":       {archive(`{"_webSocketMessages":[` + one + `],"request":{"url":"wss://a.example/x"}}`), "a.example > text hi\n"},
		"request before":      {archive(`{"request":{"url":"wss://a.example/x"},"_webSocketMessages":[` + one + `]}`), "a.example > text hi\n"},
		"header, not url":     {archive(`{"request":{"headers":[{"name":"hOST","value":"b"}],"url":"wss://a/x"},"_webSocketMessages":[` + one + `]}`), "b > text hi\n"},
		"HTTP/2":              {archive(`{"request":{"headers":[{"name":":authority","value":"b"}],"url":"x\u007f:"},"_webSocketMessages":[` + one + `]}`), "b > text hi\n"},
		"binary":              {archive(`{"_webSocketMessages":[{"type":"receive","opcode":2,"data":"aGk="}]}`), " < binary hi\n"},
		"ping, pong, close":   {archive(`{"_webSocketMessages":[{"type":"send","opcode":9,"data":""},{"type":"receive","opcode":10,"data":"aGk="},{"type":"send","opcode":8,"data":"A+g="}]}`), " > ping \n < pong hi\n > close \x03\xe8\n"},
		"error of browser":    {archive(`{"_webSocketMessages":[{"type":"error","time":1,"opcode":-1,"data":"x"},` + one + `]}`), " > text hi\n"},
		"two connections":     {archive(`{"_webSocketMessages":[` + one + `],"request":{"url":"ws://a/"}},{},{"_webSocketMessages":[` + one + "," + one + `],"request":{"url":"ws://b/"}}`), "a > text hi\nb > text hi\nb > text hi\n"},
		"other keys, nested":  {`{"x":[[{}]],"log":{"pages":[{"a":[1,true,null]}],"entries":[{"a":{"_webSocketMessages":[1]},"_webSocketMessages":[` + one + `]}]}}`, " > text hi\n"},
		"escapes and unicode": {archive(`{"_webSocketMessages":[{"type":"send","opcode":1,"data":"\"\u0034\ud83d\ude00"}]}`), " > text \"4😀\n"},
	} {
		got, err := all(strings.NewReader(test.file))
		if err != nil || text(got) != test.want {
			t.Errorf("%s: %v, %q, want %q", name, err, text(got), test.want)
		}
		zipped, err := all(strings.NewReader(string(gzipped(t, []byte(test.file)))))
		if err != nil || text(zipped) != test.want {
			t.Errorf("%s, gzip: %v, %q", name, err, text(zipped))
		}
	}
}

func TestHARTime(t *testing.T) {
	for in, want := range map[float64]time.Time{
		1763200000.123456: time.Date(2025, 11, 15, 9, 46, 40, 123456e3, time.UTC),
		1763200000123.5:   time.Date(2025, 11, 15, 9, 46, 40, 123500e3, time.UTC),
		0:                 {},
		-1:                {},
		1e300:             {},
	} {
		if got := harTime(in); got.Sub(want).Abs() > time.Microsecond || got.IsZero() != want.IsZero() {
			t.Errorf("%v: %v, want %v", in, got, want)
		}
	}
}

func TestHARServer(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"wss://a/", "192.0.2.1"}:       "192.0.2.1:443",
		{"https://a/", "[2001:db8::1]"}: "[2001:db8::1]:443",
		{"ws://a/", "2001:db8::1"}:      "[2001:db8::1]:80",
		{"ws://a:8080/", "192.0.2.1"}:   "192.0.2.1:8080",
		{"ws://a:99999/", "192.0.2.1"}:  "invalid AddrPort",
		{"ws://a/", "a.example"}:        "invalid AddrPort",
		{"ws://a/", ""}:                 "invalid AddrPort",
	} {
		if got := (&handshake{url: in[0], address: in[1]}).conn().Server.String(); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{"ws://a": "/", "ws://a/b%2fc?d=e": "/b%2fc", "ws://a?x": "/", "ws://a/ä": "/%C3%A4", "%": ""} {
		if got := (&handshake{url: in}).conn().Path; got != want {
			t.Errorf("%s: path %q, want %q", in, got, want)
		}
	}
}

func TestBadHAR(t *testing.T) {
	const one = `{"type":"send","time":1.5,"opcode":1,"data":"hi"}`
	for name, test := range map[string]struct {
		file, want string
		messages   int
	}{
		"empty":       {"", "the file is empty", 0},
		"recording":   {`{"dir":"c2s"}`, "not an HTTP Archive (recording)", 0},
		"pcap":        {"\xd4\xc3\xb2\xa1", "not an HTTP Archive (pcap)", 0},
		"log":         {`{"log":7}`, "archive at byte 8: a number instead of an object", 0},
		"entries":     {`{"log":{"entries":{}}}`, "archive at byte 19: { instead of an array", 0},
		"entry":       {archive(`{},"x"`), "entry 2 at byte 41: a string instead of an object", 0},
		"type":        {archive(`{"_webSocketMessages":[` + one + `,{"type":"sent\n"}]}`), `entry 1, message 2 at byte 125: type "sent\n" is neither send nor receive`, 1},
		"opcode":      {archive(`{"_webSocketMessages":[{"type":"send","opcode":3}]}`), "entry 1, message 1 at byte 84: unknown opcode 3", 0},
		"base64":      {archive(`{"_webSocketMessages":[{"type":"send","opcode":2,"data":"_"}]}`), "entry 1, message 1 at byte 95: illegal base64 data at input byte 0", 0},
		"request":     {archive(`{"_webSocketMessages":[` + one + `],"request":{"url":7}}`), "entry 1 at byte 127: json: cannot unmarshal number into Go value of type string", 1},
		"after":       {archive(`{"_webSocketMessages":[` + one + `],"a":}`), "entry 1 at byte 113: invalid character '}' looking for beginning of value", 1},
		"truncated":   {archive(`{"_webSocketMessages":[` + one + `,` + one + `]}`)[:120], "entry 1, message 2 at byte 108: the file ends inside of it", 1},
		"syntax":      {`{"log":{"entries":[{"_webSocketMessages":[` + one + `]},}]}}`, "entry 2 at byte 94: invalid character '}' looking for beginning of value", 1},
		"bottomless":  {archive(`{"a":` + strings.Repeat("[", 1000) + `}`), "entry 1 at byte 297: nested deeper than 256 levels", 0},
		"own failure": {archive(`{"_webSocketMessages":[` + one + `]}`), "stop", 1},
	} {
		var got []*Message
		err := ReadHAR(strings.NewReader(test.file), func(m *Message) error {
			got = append(got, m)
			if name == "own failure" {
				return errors.New("stop")
			}
			return nil
		})
		if err == nil || err.Error() != test.want || len(got) != test.messages {
			t.Errorf("%s: %d messages, %v, want %s", name, len(got), err, test.want)
		}
	}
}
