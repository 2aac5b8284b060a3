package mitm

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want speech
	}{
		{"", speechUnknown},
		{"\x16", speechUnknown},
		{"\x16\x03", speechTLS},
		{"\x16\x03\x01garbage", speechTLS},
		{"\x16\x05\x01", speechTLS}, // a version that is ignored
		{"\x16\x10\x01", speechOther},
		{"\x15\x03\x01\x00\x02\x01\x5a", speechTLS}, // a warning, which a hello may follow
		{"\x14\x03\x03\x00\x01\x01", speechTLS},
		{"\x17", speechUnknown},
		{"\x18\x03\x03", speechOther},
		{"\x80\x2e\x01\x00\x02", speechTLS}, // SSL 2.0
		{"\x81\x03\x01\x03\x03", speechTLS}, // a hello for TLS in its form
		{"\x80\x2e\x01\x00", speechUnknown},
		{"\x80\x2e\x01", speechUnknown},
		{"\x80", speechUnknown},
		{"\xff\xfb\x01\xff\xfb", speechOther}, // telnet
		{"\x80\x2e\x02", speechOther},
		{"\x80\x2e\x01\x00\x03", speechOther},
		{"GET / HTTP/1.1\r\n", speechHTTP},
		{"GET /", speechHTTP},
		{"get \t /", speechHTTP},
		{"GET\v/\fHTTP/1.1\r\n", speechHTTP},
		{" GET / HTTP/1.1\r\n", speechHTTP},
		{"GET\x1c/\x1fHTTP/1.1\r\n", speechHTTP}, // Python's http.server takes these
		{"\xa0GET\x85/\xa0HTTP/1.1\r\n", speechHTTP},
		{"\x1eX\xa0y\x85HTTP/1.1\r\n", speechHTTP},
		{"\xa0", speechUnknown},
		{"\xa0\x2e\x01\x03", speechTLS},
		{"\x1f\x8b\x08", speechOther}, // gzip
		{"\r\n\r\nGET / HTTP/1.1\r\n", speechHTTP},
		{"\nGET / HTTP/1.1\n", speechHTTP},
		{"GET http://a/ HTTP/1.1\r\n", speechHTTP},
		{"GET HTTPS:", speechHTTP},
		{"OPTIONS * HTTP/1.1\r\n", speechHTTP},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", speechHTTP},
		{"CONNECT a:443 HTTP/1.1\r\n", speechHTTP},
		{"M-SEARCH * HTTP/1.1\r\n", speechHTTP},
		{"X y HTTP/1.1 \t\r\n", speechHTTP},
		{"GET \x01 http/1.1\n", speechHTTP},
		{"GET y HTTP/1.1", speechUnknown},
		{"GE", speechUnknown},
		{"GET" + strings.Repeat(" ", maxUndecided), speechHTTP},
		{strings.Repeat("\r\n", maxUndecided), speechHTTP},
		{"SSH-2.0-OpenSSH_9.6\r\n", speechOther},
		{"EHLO client.example\r\n", speechOther},
		{"USER anonymous\r\n", speechOther},
		{"HTTP/1.1 200 OK\r\n", speechOther},
		{"<?xml version='1.0'?>", speechOther},
		{`{"jsonrpc":"2.0"`, speechOther},
		{"AMQP\x00\x00\x09\x01", speechOther},
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", speechOther}, // PostgreSQL SSLRequest
		{strings.Repeat("QUJD", 20), speechOther},
	} {
		if got := classify([]byte(tt.in)); got != tt.want {
			t.Errorf("%.60q: %v, want %v", tt.in, got, tt.want)
		}
	}
}

// laxRequest is a first line that some server takes for a request: words apart
// by any white space, the last one the version.
var laxRequest = regexp.MustCompile(`^[ \t\v\f\r\n]*[!#$%&'*+\-.^_|~0-9A-Za-z]{1,32}[ \t\v\f\r]+([^ \t\v\f\r\n]+[ \t\v\f\r]+)+(?i:HTTP/)[0-9.]+[ \t\v\f\r]*\n`)

// Whatever is HTTP to anybody goes to the strict parser, in whatever pieces it
// comes; and no answer is taken back when more bytes come.
func FuzzClassify(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\nM-SEARCH * http/1.0\n", "G\v\x01\fHTTP/1.1 \n", "SSH-2.0-x\r\n",
		"\x16\x03\x01\x02\x00\x01", "AMQP\x00\x00\x09\x01", "PRI * HTTP/2.0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 2*maxUndecided {
			return
		}
		whole := classify(b)
		told := speechUnknown
		step := 1 + len(b)/512
		for n := 0; n <= len(b); n += step {
			s := classify(b[:n])
			if told != speechUnknown && s != told {
				t.Fatalf("%q is %v and with more bytes %v", b[:n], told, s)
			}
			told = s
		}
		if told != speechUnknown && whole != told {
			t.Fatalf("%q is %v, a part of it %v", b, whole, told)
		}
		_, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if (err == nil || laxRequest.Match(b)) && whole != speechHTTP {
			t.Fatalf("%q is %v", b, whole)
		}
	})
}

// greeter is a server that speaks first, and then echoes.
func greeter(c *tap) {
	io.WriteString(c, "220 ready\r\n")
	io.Copy(c, c)
	c.CloseWrite()
}

func TestOpaque(t *testing.T) {
	o := newOrigin(t, func(c *tap) {
		io.Copy(c, c)
		c.CloseWrite()
	})
	g := newGateway(t, o.addr, "")
	for i, s := range []string{"SSH-2.0-x\r\nmore", "\x00\x01\x02\x03", "AMQP\x00\x00\x09\x01", "HE"} {
		c := g.dial()
		for j := range len(s) {
			send(t, c, s[j:j+1])
		}
		c.CloseWrite()
		if got := readAll(t, c); got != s {
			t.Errorf("%q came back as %q", s, got)
		}
		e := g.ended(i + 1)
		if e.State != audit.StateOpaque || e.Rules != nil || e.Reason == "" ||
			e.Totals.ToServer.Bytes != int64(len(s)) || e.Totals.ToClient.Bytes != int64(len(s)) {
			t.Errorf("%q: %+v %+v", s, e, e.Totals)
		}
	}
	if n := len(g.ledger.of(audit.ConnBypass)); n != 4 {
		t.Errorf("%d records of conn.bypass, want 4", n)
	}
}

// What neither is TLS nor HTTP cannot be inspected, so a rule which demands it
// is not met by letting it pass.
func TestOpaqueAgainstRules(t *testing.T) {
	o := newOrigin(t, greeter)
	for _, tt := range []struct {
		decision, state string
	}{
		{"inspect", audit.StateBlocked},
		{"block", audit.StateBlocked},
		{"bypass", audit.StateBypassed},
	} {
		t.Run(tt.decision, func(t *testing.T) {
			g := newGateway(t, o.addr, connectionRule(tt.decision, `client = ["127.0.0.0/8"]`))
			c := g.dial()
			send(t, c, "SSH-2.0-x\r\n")
			if tt.state == audit.StateBlocked {
				if _, err := io.ReadAll(c); !isReset(err) {
					t.Errorf("client reads %v, want a reset", err)
				}
				if len(g.ledger.wait(t, audit.ConnBlock, 1)) != 1 || len(g.destinations()) > 0 {
					t.Errorf("dialled %v\n%s", g.destinations(), g.ledger)
				}
			} else {
				expect(t, c, "220 ready\r\nSSH-2.0-x\r\n")
				c.Close()
			}
			if e := g.ended(1); e.State != tt.state || len(e.Rules) != 1 || e.Rules[0] != "test" {
				t.Errorf("%+v", e)
			}
		})
	}
}

func connectionRule(decision, scope string) string {
	return "[[connection]]\nid = \"test\"\ndecision = \"" + decision + "\"\n" + scope + "\n"
}

// briefly makes the phases of a connection short.
func briefly(p *Proxy) { p.Settings().HandshakeTimeout = time.Second }

func TestServerSpeaksFirst(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, greeter)
	g := newGateway(t, o.addr, "", briefly)
	c := g.dial()
	expect(t, c, "220 ready\r\n")
	send(t, c, "GET / HTTP/1.1\r\n\r\n") // is theirs to understand now
	expect(t, c, "GET / HTTP/1.1\r\n\r\n")
	c.CloseWrite()
	readAll(t, c)
	if e := g.ended(1); e.State != audit.StateOpaque {
		t.Errorf("%+v", e)
	}
	if n := len(o.conns()); n != 1 {
		t.Errorf("%d connections to the server, want 1", n)
	}
}

// A client that is silent until the server has been dialled gains nothing.
func TestSilentThenTLS(t *testing.T) {
	t.Parallel()
	accepted := make(chan struct{}, 1)
	config := secure("valid")
	o := newOrigin(t, func(c *tap) {
		accepted <- struct{}{}
		s := tls.Server(c, config)
		r, err := http.ReadRequest(bufio.NewReader(s))
		if err != nil {
			return
		}
		(&http.Response{StatusCode: 204, ProtoMajor: 1, ProtoMinor: 1, Request: r}).Write(s)
		io.Copy(io.Discard, s)
	})
	g := newGateway(t, o.addr, "", func(p *Proxy) { p.Settings().HandshakeTimeout = 4 * time.Second })
	conn := g.dial()
	<-accepted
	c := tls.Client(conn, g.trust(originName))
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	send(t, c, "GET / HTTP/1.1\r\nHost: "+originName+"\r\n\r\n")
	expect(t, c, "HTTP/1.1 204 No Content\r\n\r\n")
	c.Close()
	if e := g.ended(1); e.State != audit.StateInspected {
		t.Errorf("%+v", e)
	}
	if n := len(o.conns()); n != 1 {
		t.Errorf("%d connections to the server, want 1", n)
	}
}

// Neither a client that says nothing, nor one that says it slowly, becomes
// opaque: there is an end to the time of the first bytes.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(c *tap) { io.Copy(io.Discard, c) })
	for _, s := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00", "GE", "GET x", "GET / HTTP/1.1\r\nHo"} {
		t.Run(s, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, o.addr, "", briefly)
			c := g.dial()
			send(t, c, s)
			if got, err := io.ReadAll(c); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("client reads %q, %v", got, err)
			}
			if e := g.ended(1); e.State != audit.StateFailed || e.Reason == "" {
				t.Errorf("%+v", e)
			}
			if len(g.ledger.of(audit.ConnBypass)) > 0 || o.received() != "" {
				t.Errorf("the server got %q\n%s", o.received(), g.ledger)
			}
		})
	}
}

func TestGatewayStopsBeforeFirstByte(t *testing.T) {
	g := newGateway(t, unreachable(t), "")
	c := g.dial()
	g.ledger.wait(t, audit.ConnOpen, 1)
	g.stop()
	if _, err := io.ReadAll(c); isTimeout(err) {
		t.Error("the client is kept")
	}
	if e := g.ended(1); e.State != audit.StateFailed || e.Reason != "the gateway stops" {
		t.Errorf("%+v", e)
	}
}

// A ClientHello may come in any number of segments and records.
func TestSplitClientHello(t *testing.T) {
	o := newHTTPOrigin(t, secure("valid"), http.NotFoundHandler())
	g := newGateway(t, o.addr, "")
	for name, cut := range map[string]func([]byte) [][]byte{
		"bytes": func(b []byte) (parts [][]byte) {
			for i := range b {
				parts = append(parts, b[i:i+1])
			}
			return parts
		},
		"records": func(b []byte) (parts [][]byte) {
			for i := 5; i < len(b); i += 60 {
				body := b[i:min(i+60, len(b))]
				parts = append(parts, append([]byte{22, 3, 1, 0, byte(len(body))}, body...))
			}
			return parts
		},
		// crypto/tls takes these, and so do servers made with it.
		"version": func(b []byte) [][]byte { return [][]byte{{22, 5}, b[2:]} },
		"warning": func(b []byte) [][]byte { return [][]byte{{21, 3, 1, 0, 2, 1, 90}, b} },
	} {
		t.Run(name, func(t *testing.T) {
			c := tls.Client(&firstWrite{Conn: g.dial(), cut: cut}, g.trust(originName))
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			c.Close()
		})
	}
	g.ended(4)
	for _, e := range g.ledger.of(audit.ConnClose) {
		if e.State != audit.StateInspected || e.SNI != originName {
			t.Errorf("%+v", e)
		}
	}
}

// firstWrite cuts what is written first.
type firstWrite struct {
	net.Conn
	cut func([]byte) [][]byte
}

func (c *firstWrite) Write(p []byte) (int, error) {
	if c.cut != nil {
		for _, part := range c.cut(p) {
			if _, err := c.Conn.Write(part); err != nil {
				return 0, err
			}
		}
		c.cut = nil
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// earlyConn is a connection of which some bytes were read ahead.
type earlyConn struct {
	net.Conn
	early string
}

func (c earlyConn) Buffered() []byte  { return []byte(c.early) }
func (c earlyConn) NetConn() net.Conn { return c.Conn }

func TestBufferedBytes(t *testing.T) {
	o := newOrigin(t, func(c *tap) { io.Copy(c, c) })
	g := newGateway(t, o.addr, connectionRule("bypass", anything))
	client, _, gw := pipe(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.ServeConn(t.Context(), earlyConn{gw[0].tcpConn, "\x00early "}, o.addr)
	}()
	send(t, client, "and late")
	client.tcp.CloseWrite()
	if got := readAll(t, client); got != "\x00early and late" {
		t.Errorf("%q", got)
	}
	<-done
	if e := g.ended(1); !e.Client.IsValid() {
		t.Errorf("%+v", e)
	}
}

// What is no TCP connection is closed.
func TestNotTCP(t *testing.T) {
	dst := unreachable(t)
	g := newGateway(t, dst, "")
	near, far := net.Pipe()
	g.ServeConn(t.Context(), far, dst)
	if _, err := near.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v", err)
	}
	if list := g.ledger.of(""); len(list) > 0 {
		t.Errorf("%s", g.ledger)
	}
}

func TestBadClientHello(t *testing.T) {
	o := newOrigin(t, greeter)
	g := newGateway(t, o.addr, connectionRule("bypass", `host = ["**.example"]`))
	for i, s := range []string{
		"\x16\x03\x01\xff\xff" + strings.Repeat("x", 100),        // no record is so long
		"\x16\x03\x01\x00\x05hello",                              // no handshake message
		"\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\x00\x00",   // a ClientHello cut off
		"\x16\x03\x01\x00\x04\x02\x00\x00\x00",                   // a ServerHello
		"\x16\x03\x01\x00\x00" + "\x17\x03\x01\x00\x01\x00\x00x", // an empty record, and data
		"\x14\x03\x03\x00\x01\x01",                               // change_cipher_spec before it
		"\x80\x2e\x01\x00\x02" + strings.Repeat("x", 43),         // SSL 2.0
		"\x81\x03\x01\x03\x03" + strings.Repeat("x", 256),        // TLS 1.2, in the form of SSL 2.0
	} {
		c := g.dial()
		send(t, c, s)
		answer, _ := io.ReadAll(c)
		if len(answer) != 7 || answer[0] != 21 || answer[5] != 2 {
			t.Errorf("%q is answered with %x, want a fatal alert", s, answer)
		}
		e := g.ended(i + 1)
		if e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsClientHello+": ") {
			t.Errorf("%q: %+v", s, e)
		}
	}
	if len(g.ledger.of(audit.TLSFail)) != 8 || len(g.ledger.of(audit.ConnBypass)) != 0 || len(g.destinations()) != 0 {
		t.Errorf("dialled %v\n%s", g.destinations(), g.ledger)
	}
}
