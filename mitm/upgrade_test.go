package mitm

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// oddRequest is legal, but worded as few clients do: mixed casing, duplicate
// fields, an order of its own, two kinds of spacing.
const oddRequest = "GET /head?q=1&b=%2F HTTP/1.1\r\n" +
	"host: " + originName + "\r\n" +
	"upgrade: WebSocket\r\n" +
	"CONNECTION: keep-alive, Upgrade\r\n" +
	"sec-websocket-KEY: " + sampleKey + "\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"X-Dup: one\r\n" +
	"Sec-WebSocket-Protocol: chat.v2, superchat\r\n" +
	"X-Dup: two\r\n" +
	"sec-websocket-protocol: Legacy\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-odd; a=\"b\"\r\n" +
	"Cookie: a=1; b=2\r\n" +
	"Origin: https://Example.test\r\n" +
	"x-lower_under: v\r\n" +
	"X-Empty:\r\n" +
	"X-Spaces:   two  spaces  \r\n" +
	"Content-Length: 0\r\n" +
	"\r\n"

const oddAnswer = "HTTP/1.1 101 as you like\r\n" +
	"sec-websocket-ACCEPT:" + sampleAccept + " \r\n" +
	"server:  odd/1\r\n" +
	"Set-Cookie: a=1\r\n" +
	"UPGRADE: WebSocket\r\n" +
	"Set-Cookie: b=2\r\n" +
	"connection: keep-alive, upgrade\r\n" +
	"Sec-WebSocket-Protocol: Legacy\r\n" +
	"Date:\r\n" +
	"\r\n"

// A stage is a gateway before an origin that the test plays itself.
type stage struct {
	*gateway
	scheme  string
	servers chan *peer // connections that the origin has accepted
}

func newStage(t *testing.T, scheme string, adjust ...func(*Proxy)) *stage {
	t.Helper()
	s := &stage{scheme: scheme, servers: make(chan *peer)}
	done := make(chan struct{})
	config := secure("valid")
	o := newOrigin(t, func(c *tap) {
		p := &peer{Conn: c, tcp: c.TCPConn, dir: frames.ToClient, t: t}
		if scheme == "wss" {
			p.Conn = tls.Server(c, config)
			if p.Conn.(*tls.Conn).Handshake() != nil {
				return
			}
		}
		select {
		case s.servers <- p:
			<-done
		case <-done:
		}
	})
	s.gateway = newGateway(t, o.addr, "", adjust...)
	t.Cleanup(func() { close(done) })
	return s
}

// connect connects a client.
func (s *stage) connect() *peer {
	s.t.Helper()
	tcp := s.dial()
	p := &peer{Conn: tcp, tcp: tcp, dir: frames.ToServer, t: s.t}
	if s.scheme == "wss" {
		p.Conn = tls.Client(tcp, s.trust(originName))
	}
	return p
}

// ask connects a client that sends request, and returns the server that got it.
func (s *stage) ask(request string) (client, server *peer) {
	s.t.Helper()
	client = s.connect()
	client.send(request)
	server = <-s.servers
	server.expectHead(request)
	return client, server
}

// expectHead reads a head, which is to be want.
func (p *peer) expectHead(want string) {
	p.t.Helper()
	if head, err := readRawHead(p); err != nil || head != want {
		p.t.Fatalf("the head is\n%q (%v), want\n%q", head, err, want)
	}
}

// expectAnswer reads a refusal of the gateway to its end.
func (p *peer) expectAnswer(status int) {
	p.t.Helper()
	got, err := io.ReadAll(p)
	if err != nil || !strings.HasPrefix(string(got), fmt.Sprintf("HTTP/1.1 %d ", status)) || !strings.Contains(string(got), "framegate: ") {
		p.t.Errorf("answered by %q (%v), want a %d", got, err, status)
	}
}

// Both heads cross byte for byte, and so does what is sent behind them.
func TestUpgradeByteForByte(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := newStage(t, scheme)
		client := s.connect()
		early := client.frame(frames.Text, "early") + client.frame(frames.Ping, "")
		client.send(oddRequest + early)
		server := <-s.servers
		server.expectHead(oddRequest)
		// An interim answer there and back shows that what came with the
		// request is not on its way.
		server.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		client.expect("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		client.send(client.frame(frames.Text, "later"))
		server.tcp.SetReadDeadline(time.Now())
		if n, err := server.tcp.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
			t.Fatalf("%d bytes before the 101 (%v)", n, err)
		}
		server.tcp.SetReadDeadline(time.Now().Add(patience))
		server.send(oddAnswer + server.frame(frames.Text, "at once"))
		client.expect(oddAnswer + server.frame(frames.Text, "at once"))
		server.expect(early + client.frame(frames.Text, "later"))
		client.closeWrite()
		server.closeWrite()
		checkEnd(t, s.ended(1), audit.StateInspected, tallyOf("early", "later"), tallyOf("at once"))
		if e := s.only(audit.WSOpen); e.Path != "/head" || e.Subprotocol != "Legacy" || e.Code != 101 || e.Host != originName {
			t.Errorf("ws.open is %+v", e)
		}
	})
}

// Where the bytes of the heads are parted on their way makes no difference.
func TestUpgradeEveryCut(t *testing.T) {
	s := newStage(t, "ws")
	n := 0
	for cut := 1; cut < len(oddRequest)+4; cut++ {
		client := s.connect()
		request := oddRequest + client.frame(frames.Text, "early")
		client.send(request[:cut])
		client.send(request[cut:])
		server := <-s.servers
		server.expectHead(oddRequest)
		answer := oddAnswer + server.frame(frames.Text, "soon")
		at := min(cut, len(answer))
		server.send(answer[:at])
		server.send(answer[at:])
		client.expect(answer)
		server.expect(request[len(oddRequest):])
		client.closeWrite()
		server.closeWrite()
		n++
		checkEnd(t, s.ended(n), audit.StateInspected, tallyOf("early"), tallyOf("soon"))
		client.Close()
		server.Close()
	}
}

// with changes a head: field by field, "Name: value" puts another value in the
// place of the first field with this name, "-Name" leaves all of them out, and
// "+Name: value" adds one.
func with(head string, changes ...string) string {
	for _, c := range changes {
		name, _, _ := strings.Cut(strings.TrimLeft(c, "+-"), ":")
		var lines []string
		for line := range strings.SplitSeq(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n") {
			if strings.HasPrefix(line, name+":") && c[0] != '+' {
				if c[0] != '-' {
					lines = append(lines, c)
				}
				continue
			}
			lines = append(lines, line)
		}
		if c[0] == '+' {
			lines = append(lines, c[1:])
		}
		head = strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	return head
}

// A request that is not exactly what RFC 6455 asks for never reaches the
// server, and neither does what is smuggled behind it.
func TestUpgradeRefused(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := newStage(t, scheme)
		n := 0
		for _, c := range []struct {
			request string
			status  int
		}{
			{strings.Replace(upgradeRequest, "GET", "POST", 1), 400},
			{strings.Replace(upgradeRequest, "GET", "HEAD", 1), 400},
			{strings.Replace(upgradeRequest, "HTTP/1.1", "HTTP/1.0", 1), 400},
			{with(upgradeRequest, "+Content-Length: 4") + "body", 400},
			{with(upgradeRequest, "+Transfer-Encoding: chunked") + "0\r\n\r\n", 400},
			{with(upgradeRequest, "+Content-Length: 5", "+Transfer-Encoding: chunked") + "0\r\n\r\n", 400},
			{with(upgradeRequest, "+Content-Length: 0", "+Content-Length: 0"), 400},
			{with(upgradeRequest, "+X: a\r\n folded"), 400},
			{strings.Replace(upgradeRequest, "Host", "X: a\nHost", 1), 400},
			{strings.Replace(upgradeRequest, "Host", "X: \x00\r\nHost", 1), 400},
			{with(upgradeRequest, "Upgrade: websocket, h2c"), 400},
			{with(upgradeRequest, "+Upgrade: h2c"), 400},
			{with(upgradeRequest, "-Connection"), 400},
			{with(upgradeRequest, "Connection: close"), 400},
			{with(upgradeRequest, "-Sec-WebSocket-Key"), 400},
			{with(upgradeRequest, "+Sec-WebSocket-Key: "+sampleKey), 400},
			{with(upgradeRequest, "Sec-WebSocket-Key: short"), 400},
			{with(upgradeRequest, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), 400}, // 17 bytes
			{with(upgradeRequest, "-Sec-WebSocket-Version"), 400},
			{with(upgradeRequest, "+Sec-WebSocket-Version: 8"), 400},
			{with(upgradeRequest, "Sec-WebSocket-Version: 8"), 426},
			{with(upgradeRequest, "Sec-WebSocket-Version: 1777"), 426}, // websocket-smuggle, challenge 1
		} {
			client := s.connect()
			client.send(c.request + "GET /smuggled HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")
			client.expectAnswer(c.status)
			client.Close()
			if scheme == "wss" {
				// The server's handshake comes before the request is known.
				server := <-s.servers
				if got, err := io.ReadAll(server); len(got) > 0 || err != nil {
					t.Errorf("%q: the server got %q (%v)", c.request, got, err)
				}
				server.Close()
			}
			n++
			if e := s.ended(n); e.State != audit.StateFailed || e.Reason == "" {
				t.Errorf("%q: ended as %s: %s", c.request, e.State, e.Reason)
			}
			list := s.ledger.of(audit.HTTPRequest)
			if len(list) != n {
				t.Fatalf("%q: %d requests recorded, want %d", c.request, len(list), n)
			}
			if e := list[n-1]; e.Code != c.status || e.Action != "block" || e.Reason == "" {
				t.Errorf("%q: recorded as %+v", c.request, e)
			}
		}
		if to := s.destinations(); scheme == "ws" && len(to) > 0 {
			t.Errorf("connected to %v", to)
		}
	})
}

// An answer that is not exactly what RFC 6455 asks for opens no tunnel, and
// nothing of it or behind it is passed on. The second of the published
// smuggling attacks is among them: a server that answers 101 to anything.
func TestUpgradeBadAnswers(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := newStage(t, scheme)
		n := 0
		request := with(upgradeRequest, "+Sec-WebSocket-Protocol: chat, Super", "+Sec-WebSocket-Extensions: permessage-deflate")
		for _, answer := range []string{
			"HTTP/1.1 101 Switching Protocols\r\n\r\n",
			with(upgradeAnswer, "-Sec-WebSocket-Accept"),
			with(upgradeAnswer, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOp="),
			with(upgradeAnswer, "Sec-WebSocket-Accept: "+strings.ToLower(sampleAccept)),
			with(upgradeAnswer, "+Sec-WebSocket-Accept: "+sampleAccept),
			with(upgradeAnswer, "-Upgrade"),
			with(upgradeAnswer, "Upgrade: h2c"),
			with(upgradeAnswer, "Upgrade: websocket, h2c"),
			with(upgradeAnswer, "-Connection"),
			with(upgradeAnswer, "Connection: close"),
			with(upgradeAnswer, "+Sec-WebSocket-Protocol: other"),
			with(upgradeAnswer, "+Sec-WebSocket-Protocol: super"),
			with(upgradeAnswer, "+Sec-WebSocket-Protocol: chat, Super"),
			with(upgradeAnswer, "+Sec-WebSocket-Protocol:"),
			with(upgradeAnswer, "+Sec-WebSocket-Protocol: chat", "+Sec-WebSocket-Protocol: chat"),
			with(upgradeAnswer, "+Content-Length: 0"),
			with(upgradeAnswer, "+Transfer-Encoding: chunked"),
			strings.Replace(upgradeAnswer, "HTTP/1.1", "HTTP/1.0", 1),
			with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate"),
			with(upgradeAnswer, "+Sec-WebSocket-Extensions:"),
			strings.ReplaceAll(upgradeAnswer, "\r\n", "\n"),
			with(upgradeAnswer, "+X: a\r\n b"),
			"HTTP/2 101 Switching Protocols\r\n\r\n",
			"HTTP/1.1 99 Too Low\r\n\r\n",
			strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", maxInterim) + upgradeAnswer,
			"\x81\x05hello" + strings.Repeat("x", maxHead),
			"HTTP/1.1 2",
			"",
		} {
			client, server := s.ask(request)
			server.send(answer)
			if len(answer) < 20 {
				server.closeWrite()
			} else {
				server.send(server.frame(frames.Text, "behind"))
			}
			hints, isInterim := strings.CutSuffix(answer, upgradeAnswer)
			if isInterim {
				client.expect(hints)
			}
			client.send("GET /smuggled HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")
			client.expectAnswer(502)
			client.Close()
			if got, err := io.ReadAll(server); len(got) > 0 || err != nil && !isReset(err) {
				t.Errorf("%q: the server got %q (%v)", answer, got, err)
			}
			server.Close()
			n++
			if e := s.ended(n); e.State != audit.StateFailed || e.Reason == "" {
				t.Errorf("%q: ended as %s: %s", answer, e.State, e.Reason)
			}
			list := s.ledger.of(audit.HTTPRequest)
			if len(list) != n {
				t.Fatalf("%q: %d requests recorded, want %d", answer, len(list), n)
			}
			if e := list[n-1]; e.Code != 502 || e.Path != "/chat" || e.Reason == "" {
				t.Errorf("%q: recorded as %+v", answer, e)
			}
		}
		if list := s.ledger.of(audit.WSOpen); len(list) > 0 {
			t.Errorf("recorded: %+v", list)
		}
	})
}

// A reset by the server is not one for the client, which gets an answer.
func TestUpgradeServerResets(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := newStage(t, scheme)
		client, server := s.ask(upgradeRequest)
		server.reset()
		client.expectAnswer(502)
		client.Close()
		if e := s.ended(1); e.State != audit.StateFailed || !strings.Contains(e.Reason, "reset") {
			t.Errorf("ended as %s: %s", e.State, e.Reason)
		}
	})
}

// So it is where there is no server at all.
func TestUpgradeNoServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	g := newGateway(t, addrPort(ln.Addr()), "")
	c := g.dial()
	send(t, c, upgradeRequest)
	(&peer{Conn: c, t: t}).expectAnswer(502)
	c.Close()
	if e := g.ended(1); e.State != audit.StateFailed || !strings.Contains(e.Reason, "refused") {
		t.Errorf("ended as %s: %s", e.State, e.Reason)
	}
}

// An answer that declines passes byte for byte and opens no tunnel, whatever
// it says: what follows is HTTP, or nothing. It is the first of the published
// smuggling attacks, with a server that declines in place of us.
func TestUpgradeDeclined(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := newStage(t, scheme)
		n, requests := 0, 0
		for _, answer := range []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\nx:  b \r\n\r\nhello",
			"HTTP/1.1 200 fine\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\n",
			"HTTP/1.1 200\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("x", 40000),
			"HTTP/1.1 204 No Content\r\n\r\n",
			"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
			"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 404 Not Found\r\ncontent-length:3\r\n\r\nno\n",
			"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n",
			strings.Replace(with(upgradeAnswer, "+Content-Length: 0"), "101", "200", 1), // all of a 101 but the status
			"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\n!",
		} {
			client, server := s.ask(upgradeRequest)
			server.send(answer)
			client.expect(answer)
			// As HTTP it is another request, with its own record, byte for byte.
			second := strings.Replace(oddRequest, "/head", "/second", 1)
			client.send(second)
			server.expectHead(second)
			server.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			client.expect("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			// As frames it is a bad head.
			client.send(client.frame(frames.Text, "no tunnel\r\n\r\n") + "\r\n\r\n")
			client.expectAnswer(400)
			client.Close()
			server.expectEnd()
			server.Close()
			n++
			if e := s.ended(n); e.State != audit.StateFailed {
				t.Errorf("%.40q: ended as %s: %s", answer, e.State, e.Reason)
			}
			list := s.ledger.of(audit.HTTPRequest)[requests:]
			requests += len(list)
			if len(list) != 3 || list[0].Path != "/chat" || list[1].Path != "/second" || list[1].Code != 403 || list[2].Code != 400 {
				t.Errorf("%.40q: recorded as %+v", answer, list)
			}
		}
		if list := s.ledger.of(audit.WSOpen); len(list) > 0 {
			t.Errorf("recorded: %+v", list)
		}
	})
}

// An answer that declines and ends the connection ends it.
func TestUpgradeDeclinedAndClosed(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := newStage(t, scheme)
		for i, answer := range []string{
			"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
			"HTTP/1.0 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
			"HTTP/1.1 200 OK\r\n\r\nuntil the end",
		} {
			client, server := s.ask(upgradeRequest)
			server.send(answer)
			server.closeWrite()
			if got := readAll(t, client); got != answer {
				t.Errorf("read %q, want %q", got, answer)
			}
			client.Close()
			server.Close()
			if e := s.ended(i + 1); e.State != audit.StateInspected {
				t.Errorf("%q: ended as %s: %s", answer, e.State, e.Reason)
			}
		}
	})
}

// An answer that breaks off must not seem whole.
func TestUpgradeDeclinedAndBroken(t *testing.T) {
	s := newStage(t, "wss")
	for i, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4x\r\n",
	} {
		client, server := s.ask(upgradeRequest)
		server.send(answer)
		server.closeWrite()
		if got, err := io.ReadAll(client); !isReset(err) {
			t.Errorf("read %q (%v), want a reset", got, err)
		}
		if e := s.ended(i + 1); e.State != audit.StateFailed || e.Reason == "" {
			t.Errorf("%q: ended as %s: %s", answer, e.State, e.Reason)
		}
	}
	// Without a close_notify a body until the end may be a part of one.
	client, server := s.ask(upgradeRequest)
	client.expectNothingBut(server, "HTTP/1.1 200 OK\r\n\r\nuntil")
	if e := s.ended(4); e.State != audit.StateInspected {
		t.Errorf("ended as %s: %s", e.State, e.Reason)
	}
}

// expectNothingBut reads what server sends before a FIN without a close_notify,
// and that p gets none either.
func (p *peer) expectNothingBut(server *peer, answer string) {
	p.t.Helper()
	server.send(answer)
	p.expect(answer)
	server.tcp.CloseWrite()
	if b, err := io.ReadAll(p.tcp); len(b) > 0 || err != nil {
		p.t.Errorf("%d bytes before the FIN (%v)", len(b), err)
	}
}

// A declined upgrade leaves a connection on which anything may follow: slow
// exchanges, which its deadlines do not cut, and an upgrade.
func TestUpgradeAfterDecline(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		const timeout = 300 * time.Millisecond
		s := newStage(t, scheme, func(p *Proxy) { p.HandshakeTimeout = timeout })
		client, server := s.ask(upgradeRequest)
		server.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		client.expect("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

		client.send("GET /slow HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")
		if head, err := readRawHead(server); err != nil || !strings.HasPrefix(head, "GET /slow HTTP/1.1\r\n") {
			t.Fatalf("%q (%v)", head, err)
		}
		time.Sleep(timeout * 3 / 2) // a slow server
		server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
		if head, err := readRawHead(client); err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") {
			t.Fatalf("%q (%v)", head, err)
		}
		client.expect("slow")

		early := client.frame(frames.Text, "early")
		client.send(upgradeRequest + early)
		server = <-s.servers // the transport keeps the other one for itself
		server.expectHead(upgradeRequest)
		server.send(upgradeAnswer)
		client.expect(upgradeAnswer)
		server.expect(early)
		time.Sleep(timeout * 3 / 2) // and no deadline of a phase is left over
		server.send(server.frame(frames.Text, "late"))
		client.expect(server.frame(frames.Text, "late"))
		client.closeWrite()
		server.closeWrite()
		checkEnd(t, s.ended(1), audit.StateInspected, tallyOf("early"), tallyOf("late"))
		if list := s.ledger.of(audit.HTTPRequest); len(list) != 2 || list[0].Code != 404 || list[1].Path != "/slow" {
			t.Errorf("recorded: %+v", list)
		}
	})
}

// More than was asked for is not taken for the answer to the next request.
func TestUpgradeDeclinedTwice(t *testing.T) {
	s := newStage(t, "ws")
	client, server := s.ask(upgradeRequest)
	server.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" + upgradeAnswer)
	client.expect("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	client.send(upgradeRequest)
	server.expectEnd()
	server = <-s.servers
	server.expectHead(upgradeRequest)
	server.send("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	client.expect("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	client.expectEnd()
	client.Close()
	if e := s.ended(1); e.State != audit.StateInspected {
		t.Errorf("ended as %s: %s", e.State, e.Reason)
	}
}

// A server that does not answer has as long as any phase.
func TestUpgradeTimeout(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := newStage(t, scheme, func(p *Proxy) { p.HandshakeTimeout = 200 * time.Millisecond })
		client, _ := s.ask(upgradeRequest)
		client.expectAnswer(502)
		client.Close()
		if e := s.ended(1); e.State != audit.StateFailed || e.Reason != "timeout" {
			t.Errorf("ended as %s: %s", e.State, e.Reason)
		}
	})
}

// The upgrade is admitted only to a server that bears the name.
func TestUpgradeForAnotherHost(t *testing.T) {
	s := newStage(t, "wss")
	client := s.connect()
	client.send(with(upgradeRequest, "Host: another.test"))
	client.expectAnswer(421)
	client.Close()
	server := <-s.servers
	if got, err := io.ReadAll(server); len(got) > 0 || err != nil {
		t.Errorf("the server got %q (%v)", got, err)
	}
	if e := s.ended(1); e.State != audit.StateBlocked {
		t.Errorf("ended as %s: %s", e.State, e.Reason)
	}
}
