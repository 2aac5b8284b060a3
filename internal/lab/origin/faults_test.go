package origin_test

import (
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"

	"framegate/frames"
	"framegate/internal/lab/origin"
)

func TestFaultsInTheReply(t *testing.T) {
	s := start(t)
	for _, test := range []struct{ fault, status, has, lacks string }{
		{"accept", "101", "sec-websocket-ACCEPT: ", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{"no-accept", "101", "Upgrade: websocket", "ccept:"},
		{"protocol", "101", "Upgrade: h2c", "websocket\r\n"},
		{"extension", "101", "Sec-WebSocket-Extensions: x-lab-unknown; level=3", "-"},
		{"subprotocol", "101", "Sec-WebSocket-Protocol: lab.not.offered", "lab.v1"},
		{"refuse", "403", "Content-Length: 4", "Upgrade"},
		{"drip", "101", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "-"},
		{"unasked", "101", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "-"},
	} {
		_, reply := s.upgraded(t, "/fault/"+test.fault, "Sec-WebSocket-Protocol: lab.v1, lab.v2")
		if !strings.HasPrefix(reply, "HTTP/1.1 "+test.status+" ") || !strings.Contains(reply, test.has) ||
			test.lacks != "-" && strings.Contains(reply, test.lacks) {
			t.Errorf("%s: %q", test.fault, reply)
		}
	}
	c := s.dial(t, nil)
	if _, err := c.Upgrade("GET /fault/unasked HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Error(err)
	}
	if _, reply := s.upgraded(t, "/nowhere"); !strings.HasPrefix(reply, "HTTP/1.1 404 ") {
		t.Errorf("unknown path: %q", reply)
	}
}

func TestFaultsInTheStream(t *testing.T) {
	s := start(t)
	type outcome struct {
		header  frames.Header
		payload string
	}
	for _, test := range []struct {
		target string
		want   outcome
	}{
		{"early", outcome{frames.Header{Fin: true, Opcode: frames.Text, Length: 5}, "early"}},
		{"early?hex=" + hex.EncodeToString([]byte("\x89\x01x")), outcome{frames.Header{Fin: true, Opcode: frames.Ping, Length: 1}, "x"}},
		{"bytes?hex=" + hex.EncodeToString([]byte("\xf3\x01y")), outcome{frames.Header{Fin: true, RSV: 7, Opcode: 3, Length: 1}, "y"}},
		{"masked", outcome{frames.Header{Fin: true, Opcode: frames.Text, Masked: true, Mask: [4]byte{1, 2, 3, 4}, Length: 6}, "masked"}},
		{"close?code=1005&reason=r", outcome{frames.Header{Fin: true, Opcode: frames.Close, Length: 3}, "\x03\xedr"}},
	} {
		c, _ := s.upgraded(t, "/fault/"+test.target)
		if err := c.Send(true, frames.Text, []byte("go")); err != nil {
			t.Fatal(err)
		}
		h, payload, err := c.Frame()
		if got := (outcome{h, string(payload)}); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v (%v)", test.target, got, err)
		}
	}

	c, _ := s.upgraded(t, "/fault/eof")
	c.Send(true, frames.Text, []byte("go"))
	if rest, err := c.Rest(); len(rest) > 0 || err != nil {
		t.Errorf("eof: %q, %v", rest, err)
	}
	c, _ = s.upgraded(t, "/fault/reset")
	c.Send(true, frames.Text, []byte("go"))
	if rest, err := c.Rest(); len(rest) > 0 || err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("reset: %q, %v", rest, err)
	}
	c, _ = s.upgraded(t, "/fault/half-close")
	c.CloseWrite()
	wantFrame(t, c, true, frames.Text, "late")
	if rest, err := c.Rest(); len(rest) > 0 || err != nil {
		t.Errorf("half-close: %q, %v", rest, err)
	}
	// A reset by the client shows as one in the record.
	c, _ = s.upgraded(t, "/echo?reset")
	c.Reset()
	o, err := s.Find(t.Context(), "/echo?reset")
	if err != nil {
		t.Fatal(err)
	}
	if <-o.Done(); !strings.Contains(o.Ended().Error(), "reset") {
		t.Errorf("ended with %v", o.Ended())
	}
}

func TestEveryFaultIsTested(t *testing.T) {
	tested := []string{
		"accept", "bytes", "close", "drip", "early", "eof", "extension", "half-close", "masked",
		"no-accept", "protocol", "refuse", "reset", "subprotocol", "unasked",
	}
	if got := origin.Faults(); !slices.Equal(got, tested) {
		t.Errorf("faults are %q", got)
	}
}
