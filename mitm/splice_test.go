package mitm

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"framegate/audit"
)

// Nobody but the two ends takes part in a connection that is bypassed.
func TestBypassTLS(t *testing.T) {
	config := secure("valid")
	o := newOrigin(t, func(c *tap) {
		s := tls.Server(c, config)
		io.Copy(s, s)
		s.CloseWrite()
		io.Copy(io.Discard, c)
	})
	g := newGateway(t, o.addr, connectionRule("bypass", `host = ["`+originName+`"]`))
	for i, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		raw := &tap{TCPConn: g.dial()}
		// The client trusts the origin's root, and not ours.
		c := tls.Client(raw, &tls.Config{RootCAs: originPKI().roots, ServerName: originName, MaxVersion: version})
		send(t, c, "hello")
		c.CloseWrite()
		if got := readAll(t, c); got != "hello" {
			t.Errorf("%q", got)
		}
		c.Close()
		e := g.ended(i + 1)
		far := o.conns()[i]
		if raw.sent() != far.received() {
			t.Errorf("the client sent %x\nthe server got %x", raw.sent(), far.received())
		}
		if raw.received() != far.sent() {
			t.Errorf("the server sent %x\nthe client got %x", far.sent(), raw.received())
		}
		if e.State != audit.StateBypassed || len(e.Rules) != 1 || e.Rules[0] != "test" || e.SNI != originName ||
			e.Totals.ToServer.Bytes != int64(len(raw.sent())) || e.Totals.ToClient.Bytes != int64(len(raw.received())) {
			t.Errorf("%+v %+v", e, e.Totals)
		}
	}
	if n := g.certs.asked.Load(); n > 0 {
		t.Errorf("%d leaves were made", n)
	}
	if list := g.ledger.of(audit.ConnBypass); len(list) != 2 || list[0].Rules[0] != "test" || list[0].Action != "bypass" {
		t.Errorf("%s", g.ledger)
	}
}

// The head by which the host was known goes to the server, too.
func TestBypassHTTP(t *testing.T) {
	const answer = "HTTP/1.1 200 whatever\r\n\r\n\x00\xff"
	o := newOrigin(t, func(c *tap) {
		io.Copy(io.Discard, c)
		io.WriteString(c, answer)
	})
	g := newGateway(t, o.addr, connectionRule("bypass", `host = ["plain.example"]`))
	for i, request := range []string{
		"GET /  HTTP/1.1\r\n", // no head, so no host
		"POST /a HTTP/1.1\r\nhOST:   Plain.EXAMPLE:80 \r\nContent-Length: 3\r\n\r\nabcGET second\r\nwhatever\x00",
		"GET / HTTP/1.0\r\nHost: plain.example\r\n\r\n" + strings.Repeat("behind ", 30000),
	} {
		c := &tap{TCPConn: g.dial()}
		if i == 0 {
			send(t, c, request+"\r\n")
			if got := readAll(t, c); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
				t.Errorf("%q", got)
			}
			g.ended(1)
			continue
		}
		send(t, c, request)
		c.CloseWrite()
		if got := readAll(t, c); got != answer {
			t.Errorf("%q", got)
		}
		if e := g.ended(i + 1); e.State != audit.StateBypassed || e.Host != "plain.example" || e.Totals.ToServer.Bytes != int64(len(request)) {
			t.Errorf("%+v", e)
		}
		if got := o.conns()[i-1].received(); got != request {
			t.Errorf("the server got %.200q, want %.200q", got, request)
		}
	}
}

const anything = `client = ["127.0.0.0/8"]`

func TestHalfClose(t *testing.T) {
	t.Run("client first", func(t *testing.T) {
		o := newOrigin(t, func(c *tap) {
			if b, err := io.ReadAll(c); err == nil {
				io.WriteString(c, "after "+string(b))
			}
		})
		g := newGateway(t, o.addr, connectionRule("bypass", anything))
		c := g.dial()
		send(t, c, "\x00the end")
		c.CloseWrite()
		if got := readAll(t, c); got != "after \x00the end" {
			t.Errorf("%q", got)
		}
		g.ended(1)
	})
	t.Run("server first", func(t *testing.T) {
		got := make(chan string, 1)
		o := newOrigin(t, func(c *tap) {
			io.WriteString(c, "that was all")
			c.CloseWrite()
			b, _ := io.ReadAll(c)
			got <- string(b)
		})
		g := newGateway(t, o.addr, connectionRule("bypass", anything))
		c := g.dial()
		send(t, c, "\x00")
		if s := readAll(t, c); s != "that was all" {
			t.Errorf("%q", s)
		}
		send(t, c, "not for me")
		c.CloseWrite()
		if s := <-got; s != "\x00not for me" {
			t.Errorf("%q", s)
		}
		g.ended(1)
	})
}

func TestResetIsCarriedOver(t *testing.T) {
	breakOff := func(c *net.TCPConn) {
		c.SetLinger(0)
		c.Close()
	}
	t.Run("client", func(t *testing.T) {
		got := make(chan error, 1)
		o := newOrigin(t, func(c *tap) {
			io.WriteString(c, "x")
			_, err := io.ReadAll(c)
			got <- err
		})
		g := newGateway(t, o.addr, connectionRule("bypass", anything))
		c := g.dial()
		send(t, c, "\x00")
		expect(t, c, "x")
		breakOff(c)
		if err := <-got; !isReset(err) {
			t.Errorf("the server reads %v, want a reset", err)
		}
		if e := g.ended(1); e.State != audit.StateBypassed {
			t.Errorf("%+v", e)
		}
	})
	t.Run("server", func(t *testing.T) {
		o := newOrigin(t, func(c *tap) {
			c.Read(make([]byte, 1))
			breakOff(c.TCPConn)
		})
		g := newGateway(t, o.addr, connectionRule("bypass", anything))
		c := g.dial()
		send(t, c, "\x00")
		if _, err := io.ReadAll(c); !isReset(err) {
			t.Errorf("the client reads %v, want a reset", err)
		}
		g.ended(1)
	})
	t.Run("unreachable", func(t *testing.T) {
		g := newGateway(t, unreachable(t), connectionRule("bypass", anything))
		c := g.dial()
		send(t, c, "\x00")
		if _, err := io.ReadAll(c); !isReset(err) {
			t.Errorf("the client reads %v, want a reset", err)
		}
		if e := g.ended(1); e.State != audit.StateFailed || !strings.Contains(e.Reason, "refused") {
			t.Errorf("%+v", e)
		}
	})
	t.Run("gateway stops", func(t *testing.T) {
		o := newOrigin(t, func(c *tap) { io.Copy(c, c) })
		g := newGateway(t, o.addr, connectionRule("bypass", anything))
		c := g.dial()
		send(t, c, "\x00")
		expect(t, c, "\x00")
		g.stop()
		if _, err := io.ReadAll(c); !isReset(err) {
			t.Errorf("the client reads %v, want a reset", err)
		}
		if e := g.ended(1); e.State != audit.StateBypassed || e.Totals.ToClient.Bytes != 1 {
			t.Errorf("%+v", e)
		}
	})
}

func TestBlock(t *testing.T) {
	o := newHTTPOrigin(t, secure("valid"), http.NotFoundHandler())
	g := newGateway(t, o.addr, connectionRule("block", `host = ["`+originName+`"]`))

	err := tls.Client(g.dial(), g.trust(originName)).Handshake()
	if want := tls.AlertError(alertAccessDenied); err == nil || !strings.Contains(err.Error(), want.Error()) {
		t.Errorf("client: %v, want alert %v", err, want)
	}
	first := g.ended(1)

	c := g.dial()
	send(t, c, "POST /path?query HTTP/1.1\r\nHost: "+originName+":80\r\nContent-Length: 10\r\n\r\n")
	resp := readAll(t, c)
	if !strings.HasPrefix(resp, "HTTP/1.1 403 Forbidden\r\n") || !strings.Contains(resp, "\r\nConnection: close\r\n") {
		t.Errorf("%q", resp)
	}
	second := g.ended(2)

	for _, e := range []audit.Event{first, second} {
		if e.State != audit.StateBlocked || len(e.Rules) != 1 || e.Rules[0] != "test" || e.Host != originName {
			t.Errorf("%+v", e)
		}
	}
	if list := g.ledger.of(audit.ConnBlock); len(list) != 2 || list[0].Action != "block" || list[0].Rules[0] != "test" {
		t.Errorf("%s", g.ledger)
	}
	if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Method != "POST" || list[0].Path != "/path" ||
		list[0].Code != 403 || list[0].Action != "block" {
		t.Errorf("%+v", list)
	}
	if len(g.destinations()) > 0 || g.certs.asked.Load() > 0 {
		t.Errorf("dialled %v, made %d leaves", g.destinations(), g.certs.asked.Load())
	}
}

// Without its record no connection begins.
func TestUnrecordedConnection(t *testing.T) {
	o := newOrigin(t, greeter)
	g := newGateway(t, o.addr, "")
	full := errors.New("no space")
	g.ledger.fail.Store(&full)
	c, err := net.Dial("tcp", g.addr)
	if err == nil {
		_, err = io.ReadAll(c)
		c.Close()
	}
	if !isReset(err) {
		t.Errorf("client: %v, want a reset", err)
	}
	if len(g.ledger.of("")) > 0 || len(g.destinations()) > 0 {
		t.Errorf("dialled %v\n%s", g.destinations(), g.ledger)
	}
}
