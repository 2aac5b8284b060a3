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
			with(upgradeAnswer, "+Sec-WebSocket-Extensions: x-other"),
			with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16"),
			with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate", "+Sec-WebSocket-Extensions: permessage-deflate"),
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

// A server that does not answer has as long as any phase.
func TestUpgradeTimeout(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := newStage(t, scheme, func(p *Proxy) { p.Settings().HandshakeTimeout = 200 * time.Millisecond })
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
