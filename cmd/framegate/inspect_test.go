package main

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/audit/capture"
	"framegate/frames"
	"framegate/policy"
)

const inspectRules = `
[[rule]]
id = "word"
action = "close"
match.contains = ["needle"]
[[rule]]
id = "often"
action = "log"
match.contains = ["tick"]
rate = { messages = 2, window = "10s" }
`

// The key and its answer of RFC 6455, Section 1.3.
const (
	inspectRequest = "GET /ws?x=1 HTTP/1.1\r\nHost: chat.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
	inspectAnswer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)

// deflated is a message as permessage-deflate has it.
func deflated(text string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	w.Write([]byte(text))
	w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

func wsFrame(dir frames.Direction, rsv byte, text string) string {
	h := frames.Header{Fin: true, RSV: rsv, Opcode: frames.Text, Masked: dir == frames.ToServer, Mask: [4]byte{1, 2, 3, 4}}
	return string(frames.AppendFrame(nil, h, []byte(text)))
}

// inspectStream judges one connection whose bytes come in pieces of size, and
// returns the lines.
func inspectStream(t *testing.T, c *config, size int, toServer, toClient string) (lines []finding, in *inspection) {
	t.Helper()
	p, err := policy.Parse("rules.toml", []byte(inspectRules))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	in = newInspection(c, p, &out, true)
	conn := &capture.Conn{Client: netip.MustParseAddrPort("10.0.0.1:40000"), Server: netip.MustParseAddrPort("192.0.2.1:80")}
	s := &tcpStream{in: in, conn: conn}
	at := time.Unix(1000, 0)
	for len(toServer)+len(toClient) > 0 {
		n := min(size, len(toServer))
		if n > 0 {
			s.Data(true, at, []byte(toServer[:n]))
			toServer = toServer[n:]
		}
		if n = min(size, len(toClient)); n > 0 {
			s.Data(false, at, []byte(toClient[:n]))
			toClient = toClient[n:]
		}
	}
	s.Close()
	for d := json.NewDecoder(&out); ; {
		var f finding
		if d.Decode(&f) != nil {
			return lines, in
		}
		lines = append(lines, f)
	}
}

func TestInspectPackets(t *testing.T) {
	before := "GET / HTTP/1.1\r\nHost: chat.example\r\n\r\nPOST /x HTTP/1.1\r\nHost: chat.example\r\nContent-Length: 3\r\n\r\nabc"
	answers := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	sent := before + inspectRequest + wsFrame(frames.ToServer, 0, "tick") + wsFrame(frames.ToServer, 4, deflated("tick, and tick")) +
		wsFrame(frames.ToServer, 0, "tick") + wsFrame(frames.ToServer, 4, deflated("a needle"))
	got := answers + inspectAnswer + wsFrame(frames.ToClient, 0, "hello") + wsFrame(frames.ToClient, 0, "a needle, too")
	for _, size := range []int{1, 7, 1000, 1 << 20} {
		lines, in := inspectStream(t, defaultConfig(), size, sent, got)
		var what []string
		for _, f := range lines {
			what = append(what, fmt.Sprint(f.Dir, " ", f.Size, " ", f.Action, " ", f.Rules, " ", f.Host, f.Path))
		}
		slices.Sort(what)
		want := []string{
			"to-client 13 close [word] chat.example/ws",
			"to-server 4 log [often] chat.example/ws",
			"to-server 8 close [word] chat.example/ws",
		}
		if !slices.Equal(what, want) || in.Messages != 6 || in.Connections != 1 || in.Unread != 0 {
			t.Errorf("pieces of %d: %q, %d messages", size, what, in.Messages)
		}
	}
}

// The limits of the gateway are those of the inspection.
func TestInspectLimits(t *testing.T) {
	c := defaultConfig()
	c.Limits.Hold = 100
	long := strings.Repeat("x", 200) + "needle" + strings.Repeat("x", 200)
	for _, stream := range []bool{false, true} {
		c.Limits.Oversize = map[bool]string{false: "block", true: "stream"}[stream]
		for _, m := range []string{wsFrame(frames.ToServer, 0, long), wsFrame(frames.ToServer, 4, deflated(long))} {
			for _, size := range []int{1, 1 << 20} {
				lines, in := inspectStream(t, c, size, inspectRequest+m, inspectAnswer)
				if len(lines) != 1 {
					t.Fatalf("stream %v: %+v", stream, lines)
				}
				f := lines[0]
				if !stream && (f.Code != 1009 || in.Unread != 1) || stream && (f.Size != 406 || fmt.Sprint(f.Rules) != "[word]" || f.Code != 1008) {
					t.Errorf("stream %v: %+v", stream, f)
				}
			}
		}
	}
}

func TestInspectRefused(t *testing.T) {
	for name, c := range map[string]struct{ request, answer, want string }{
		"wrong accept":      {inspectRequest, strings.Replace(inspectAnswer, "s3p", "S3p", 1), "Sec-WebSocket-Accept does not answer Sec-WebSocket-Key"},
		"unknown extension": {strings.Replace(inspectRequest, "permessage-deflate", "x-odd", 1), strings.Replace(inspectAnswer, "permessage-deflate", "x-odd", 1), "x-odd"},
		"not offered":       {strings.Replace(inspectRequest, "permessage-deflate", "x-odd", 1), inspectAnswer, "permessage-deflate"},
	} {
		lines, _ := inspectStream(t, defaultConfig(), 1000, c.request+wsFrame(frames.ToServer, 0, "needle"), c.answer)
		if len(lines) != 1 || lines[0].Action != "refused" || !strings.Contains(lines[0].Reason, c.want) {
			t.Errorf("%s: %+v", name, lines)
		}
	}
	// No WebSocket at all: nothing to say.
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00", strings.Repeat("x", maxHandshake+1)} {
		if lines, in := inspectStream(t, defaultConfig(), 1000, text, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); len(lines) > 0 || in.Connections > 0 {
			t.Errorf("%.10q: %+v", text, lines)
		}
	}
}
