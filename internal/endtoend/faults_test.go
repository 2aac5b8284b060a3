package endtoend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// A fault is what the origin does wrong and what has to come of it.
type fault struct {
	target string // below /fault/
	test   func(t *testing.T, g *gateway, c *clients.Raw, target string)
}

var faultTests = []fault{
	{"accept", refused(502, "101 with a wrong Sec-WebSocket-Accept")},
	{"no-accept", refused(502, "101 with a wrong Sec-WebSocket-Accept")},
	{"protocol", refused(502, "101 that does not name websocket")},
	{"extension", refused(502, "the WebSocket cannot be inspected")},
	{"subprotocol", refused(502, "101 with a subprotocol that was not offered")},
	{"unasked", faultUnasked},
	{"refuse", faultRefuse},
	{"drip", faultNone(false)},
	{"early", faultNone(true)},
	{"masked", offends(1002, "818601020304", "5.1")},
	{"bytes?hex=8300", offends(1002, "8300", "5.2")},                   // a reserved opcode
	{"bytes?hex=c10161", offends(1002, "c101", "5.2")},                 // RSV1 without an extension
	{"bytes?hex=8000", offends(1002, "8000", "5.4")},                   // a continuation of nothing
	{"bytes?hex=0900", offends(1002, "0900", "5.")},                    // a fragmented ping
	{"bytes?hex=817e000161", offends(1002, "817e0001", "5.2")},         // a length that is not minimal
	{"bytes?hex=827f0000000000200000", offends(1009, "827f", "")},      // 2 MiB, over limits.hold
	{"bytes?hex=8102c328", offends(1007, "8102", "")},                  // not UTF-8
	{"bytes?hex=010161010162", offends(1002, "0101", "5.4")},           // text inside a text
	{"close?code=1005", offends(1002, "8802", "7.4")},                  // a code that is never sent
	{"close?code=1003&reason=%C3%BCber", closes("\x03\xebüber", 1003)}, // carried over as it is
	{"close?code=4999&reason=own+business", closes("\x13\x87own business", 4999)},
	{"reset", faultReset},
	{"eof", faultEOF},
	{"half-close", faultHalfClose},
}

// testFaults: each misbehaviour of an origin has the outcome and the record
// that it must have, with TLS and without.
func testFaults(t *testing.T, g *gateway) {
	for _, name := range origin.Faults() {
		if !slices.ContainsFunc(faultTests, func(f fault) bool {
			tested, _, _ := strings.Cut(f.target, "?")
			return tested == name
		}) {
			t.Errorf("fault %s of the origin is not tested", name)
		}
	}
	for i, f := range faultTests {
		for _, secure := range []bool{true, false} {
			kind := map[bool]string{true: "wss", false: "ws"}[secure]
			t.Run(f.target+" "+kind, func(t *testing.T) {
				network := families[(i+len(kind))%2]
				target := "/fault/" + f.target
				if strings.Contains(target, "?") {
					target += "&over=" + kind
				} else {
					target += "?over=" + kind
				}
				f.test(t, g, g.either(t, secure, network, chatHost), target)
			})
		}
	}
}

// refused: the upgrade ends in a status of the gateway, and no tunnel opens.
func refused(status int, reason string) func(*testing.T, *gateway, *clients.Raw, string) {
	return func(t *testing.T, g *gateway, c *clients.Raw, target string) {
		io.WriteString(c, clients.OddHead(chatHost, target))
		checkRefused(t, g, c, status, reason)
	}
}

func checkRefused(t *testing.T, g *gateway, c *clients.Raw, status int, reason string) ledger {
	t.Helper()
	answer, err := c.Rest()
	if err != nil || !bytes.HasPrefix(answer, fmt.Appendf(nil, "HTTP/1.1 %d ", status)) {
		t.Errorf("%q (%v)", answer, err)
	}
	c.Close() // the gateway gives a client time to read a refusal
	l := g.log.of(t, c.LocalAddr())
	if r := l.one(t, audit.HTTPRequest); r.Code != status || !strings.Contains(r.Reason, reason) || r.Method != "GET" {
		t.Errorf("http.request: %s", r)
	}
	if len(l.all(audit.WSOpen)) > 0 {
		t.Errorf("a WebSocket was opened:\n%s", lines(l))
	}
	return l
}

// faultUnasked: a 101 to an ordinary request.
func faultUnasked(t *testing.T, g *gateway, c *clients.Raw, target string) {
	io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: "+chatHost+"\r\nConnection: close\r\n\r\n")
	checkRefused(t, g, c, 502, "101 without being asked")
}

// faultRefuse: a server that declines is heard as it spoke.
func faultRefuse(t *testing.T, g *gateway, c *clients.Raw, target string) {
	io.WriteString(c, clients.OddHead(chatHost, target))
	if answer, err := c.Rest(); err != nil || !bytes.HasSuffix(answer, []byte("\r\n\r\nno.\n")) {
		t.Errorf("%q (%v)", answer, err)
	}
	server := g.serverSide(t, target)
	finished(t, server)
	same(t, "to the server", c.Sent(), server.Received())
	same(t, "to the client", server.Sent(), c.Received())
	l := g.log.of(t, c.LocalAddr())
	if r := l.one(t, audit.HTTPRequest); r.Code != 403 || r.Path != "/fault/refuse" {
		t.Errorf("http.request: %s", r)
	}
	l.ended(t, audit.StateInspected)
}

// faultNone: unusual, but right.
func faultNone(early bool) func(*testing.T, *gateway, *clients.Raw, string) {
	return func(t *testing.T, g *gateway, c *clients.Raw, target string) {
		if _, err := c.Upgrade(clients.OddHead(chatHost, target)); err != nil {
			t.Fatal(err)
		}
		var want []said
		if early {
			want = []said{{"text", "early", 1}}
			if _, payload, err := c.Frame(); err != nil || string(payload) != "early" {
				t.Errorf("%q (%v)", payload, err)
			}
		}
		if _, err := c.Bye(frames.NormalClosure, ""); err != nil {
			t.Fatal(err)
		}
		server := g.serverSide(t, target)
		finished(t, server)
		same(t, "to the server", c.Sent(), server.Received())
		same(t, "to the client", server.Sent(), c.Received())
		l := g.log.of(t, c.LocalAddr())
		compareMessages(t, l.messages("to-client"), want)
		l.ended(t, audit.StateInspected)
	}
}

// begin opens the WebSocket and sends the message after which the fault comes.
func begin(t *testing.T, c *clients.Raw, target string) {
	t.Helper()
	if _, err := c.Upgrade(clients.OddHead(chatHost, target)); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(true, frames.Text, []byte("go")); err != nil {
		t.Fatal(err)
	}
}

// offends: the server breaks the protocol. It gets code, the client 1001, and
// the evidence is recorded.
func offends(code int, evidence, section string) func(*testing.T, *gateway, *clients.Raw, string) {
	return func(t *testing.T, g *gateway, c *clients.Raw, target string) {
		begin(t, c, target)
		h, payload, err := c.Frame()
		if err != nil || h.Opcode != frames.Close || string(payload) != "\x03\xe9" {
			t.Errorf("the client gets %v %q (%v), expected Close 1001", h.Opcode, payload, err)
		}
		c.Send(true, frames.Close, payload)
		c.Rest()
		c.Close()
		server := g.serverSide(t, target)
		finished(t, server)
		got := framesOf(t, server.Received())
		if last := got[len(got)-1]; last.Opcode != frames.Close || len(last.payload) < 2 || int(last.payload[0])<<8+int(last.payload[1]) != code {
			t.Errorf("the server gets %v %q, expected Close %d", last.Opcode, last.payload, code)
		}
		l := g.log.of(t, c.LocalAddr())
		r := l.one(t, audit.WSViolation)
		if r.Code != code || r.Dir != "to-client" || r.Action != "close" || !strings.HasPrefix(r.Evidence, evidence) || !strings.Contains(r.Reason, "Section "+section) {
			t.Errorf("ws.violation: %s", r)
		}
		if r := l.one(t, audit.WSClose); r.Code != code || r.Dir != "to-client" {
			t.Errorf("ws.close: %s", r)
		}
		l.ended(t, audit.StateFailed)
	}
}

// closes: a Close of the server reaches the client as it is.
func closes(want string, code int) func(*testing.T, *gateway, *clients.Raw, string) {
	return func(t *testing.T, g *gateway, c *clients.Raw, target string) {
		begin(t, c, target)
		h, payload, err := c.Frame()
		if err != nil || h.Opcode != frames.Close || string(payload) != want {
			t.Errorf("%v %q (%v), expected Close %q", h.Opcode, payload, err, want)
		}
		c.Send(true, frames.Close, payload)
		c.Rest()
		c.Close()
		server := g.serverSide(t, target)
		finished(t, server)
		same(t, "to the server", c.Sent(), server.Received())
		same(t, "to the client", server.Sent(), c.Received())
		l := g.log.of(t, c.LocalAddr())
		if r := l.one(t, audit.WSClose); r.Code != code || r.Reason != want[2:] || r.Dir != "to-client" {
			t.Errorf("ws.close: %s", r)
		}
		l.ended(t, audit.StateInspected)
	}
}

// faultReset: a reset is carried over as a reset.
func faultReset(t *testing.T, g *gateway, c *clients.Raw, target string) {
	begin(t, c, target)
	if rest, err := c.Rest(); !errors.Is(err, syscall.ECONNRESET) || len(rest) > 0 {
		t.Errorf("%q (%v), expected a reset", rest, err)
	}
	l := g.log.of(t, c.LocalAddr())
	if r := l.one(t, audit.WSClose); r.Code != 1006 || r.Dir != "to-client" {
		t.Errorf("ws.close: %s", r)
	}
}

// faultEOF: the end of the stream without a Close is carried over as such.
func faultEOF(t *testing.T, g *gateway, c *clients.Raw, target string) {
	begin(t, c, target)
	if rest, err := c.Rest(); err != nil || len(rest) > 0 {
		t.Errorf("%q (%v)", rest, err)
	}
	c.Close()
	l := g.log.of(t, c.LocalAddr())
	if r := l.one(t, audit.WSClose); r.Code != 1006 || r.Dir != "to-client" || r.Reason != "end of stream without a Close frame" {
		t.Errorf("ws.close: %s", r)
	}
	l.ended(t, audit.StateInspected)
}

// faultHalfClose: after the end of the client's direction, the server's goes on.
func faultHalfClose(t *testing.T, g *gateway, c *clients.Raw, target string) {
	if _, err := c.Upgrade(clients.OddHead(chatHost, target)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, payload, err := c.Frame(); err != nil || string(payload) != "late" {
		t.Errorf("%q (%v)", payload, err)
	}
	if rest, err := c.Rest(); err != nil || len(rest) > 0 {
		t.Errorf("%q (%v)", rest, err)
	}
	l := g.log.of(t, c.LocalAddr())
	compareMessages(t, l.messages("to-client"), []said{{"text", "late", 1}})
	if r := l.one(t, audit.WSClose); r.Code != 1006 || r.Dir != "to-server" {
		t.Errorf("ws.close: %s", r)
	}
	l.ended(t, audit.StateInspected)
}
