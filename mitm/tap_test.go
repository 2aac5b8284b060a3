package mitm

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// A seen is what a tap has seen of one WebSocket.
type seen struct {
	mu                        sync.Mutex
	conn, request, response   string
	client, server            netip.AddrPort
	bytes                     [2]strings.Builder
	last                      [2]time.Time
	closed, afterClose, older int
}

func (s *seen) Open(conn string, client, server netip.AddrPort, request, response []byte) TapStream {
	s.conn, s.client, s.server, s.request, s.response = conn, client, server, string(request), string(response)
	return s
}

func (s *seen) Bytes(dir frames.Direction, at time.Time, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.afterClose += s.closed
	if at.Before(s.last[dir]) {
		s.older++
	}
	s.last[dir] = at
	s.bytes[dir].Write(b)
}

func (s *seen) Close() { s.closed++ }

// A tap sees every byte as it was received, whatever the rules make of it.
func TestTap(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		var tap seen
		s := openSocket(t, scheme, redactRules, func(p *Proxy) { p.Tap, p.Settings().Hold, p.Settings().Stream = &tap, 64<<10, true })
		var sent [2]string
		for dir := range frames.Direction(2) {
			from, to := s.sides(dir)
			all := from.frame(frames.Text, "key-17 of Kim") + from.frame(frames.Text, "the secret") +
				from.part(frames.Text, "in ") + from.frame(frames.Ping, "between") + from.frame(frames.Continuation, "parts") +
				from.frame(frames.Binary, strings.Repeat("long ", 50_000)) + from.frame(frames.Text, "end")
			go from.send(all)
			for {
				if _, payload, _ := to.read(); payload == "end" {
					break
				}
			}
			sent[dir] = all + from.closing(frames.NormalClosure, "")
		}
		s.finish()
		for dir := range frames.Direction(2) {
			if got := tap.bytes[dir].String(); got != sent[dir] {
				t.Errorf("%v: %d bytes seen of %d", dir, len(got), len(sent[dir]))
			}
		}
		request := with(upgradeRequest, "+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-odd")
		if tap.request != request || tap.response != upgradeAnswer || tap.closed != 1 || tap.afterClose+tap.older > 0 {
			t.Errorf("%q %q, closed %d, %d after that, %d out of order", tap.request, tap.response, tap.closed, tap.afterClose, tap.older)
		}
		if e := s.only(audit.WSOpen); tap.conn != e.Conn || tap.client != e.Client || tap.server != e.Server {
			t.Errorf("%s %v %v", tap.conn, tap.client, tap.server)
		}
	})
}

// notWanted is a tap that wants nothing.
type notWanted struct{}

func (notWanted) Open(string, netip.AddrPort, netip.AddrPort, []byte, []byte) TapStream { return nil }

func TestTapDeclines(t *testing.T) {
	s := openSocket(t, "ws", "", func(p *Proxy) { p.Tap = notWanted{} })
	frame := s.client.frame(frames.Text, "hello")
	s.client.send(frame)
	s.server.expect(frame)
	s.finish()
}
