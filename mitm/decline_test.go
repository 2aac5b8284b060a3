package mitm

import (
	"io"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

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
		s := newStage(t, scheme, func(p *Proxy) { p.Settings().HandshakeTimeout = timeout })
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
