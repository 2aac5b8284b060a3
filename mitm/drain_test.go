package mitm

import (
	"crypto/tls"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// When the gateway stops, all WebSockets are closed on both sides, with their
// records.
func TestDrain(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		h := newHub(t, scheme, "")
		sockets := make([]*socket, 30)
		for i := range sockets {
			s := h.open()
			s.client.send(s.client.frame(frames.Text, "m") + s.client.part(frames.Text, "unfinished"))
			s.server.expect(s.client.frame(frames.Text, "m"))
			sockets[i] = s
		}
		h.stop()
		var peers sync.WaitGroup
		for _, s := range sockets {
			for _, p := range []*peer{s.client, s.server} {
				peers.Go(func() {
					h, payload, _, err := readFrame(p)
					if err != nil || h.Opcode != frames.Close || payload != "\x03\xe9" {
						t.Errorf("%v frame %q (%v), want Close with 1001", h.Opcode, payload, err)
					}
					if p.dir == frames.ToServer {
						io.WriteString(p, p.frame(frames.Continuation, "")) // its end, too late
					}
					io.WriteString(p, p.closing(frames.GoingAway, ""))
					if n, err := io.Copy(io.Discard, p); n != 0 || err != nil {
						t.Errorf("%d bytes after the Close (%v)", n, err)
					}
					p.Close()
				})
			}
		}
		peers.Wait()
		h.ended(len(sockets))
		for _, e := range h.ledger.of(audit.ConnClose) {
			checkEnd(t, e, audit.StateInspected, tallyOf("m"), tallyOf())
		}
		for _, e := range h.ledger.of(audit.WSClose) {
			if e.Code != 1001 || e.Action != "drain" || e.Reason != "the gateway stops" || e.Msg != nil {
				t.Errorf("ws.close is %+v", e)
			}
		}
		if n := len(h.ledger.of(audit.WSClose)); n != len(sockets) {
			t.Errorf("%d records of ws.close, want %d", n, len(sockets))
		}
	})
}

// A connection that is accepted after the gateway was told to stop, or that is
// not upgraded yet, is cut off in whatever phase it is.
func TestDrainBeforeUpgrade(t *testing.T) {
	long := func(p *Proxy) { p.Settings().HandshakeTimeout = time.Hour }
	for _, c := range []struct {
		name   string
		scheme string
		client func(t *testing.T, g *gateway)
		server func(c io.ReadWriter) // after it, the server is in the phase
	}{
		{"nothing sent", "ws", func(t *testing.T, g *gateway) { g.dial() }, nil},
		{"half a ClientHello", "wss", func(t *testing.T, g *gateway) { send(t, g.dial(), "\x16\x03\x01\x02\x00\x01\x00") }, nil},
		{"half a request", "ws", func(t *testing.T, g *gateway) { send(t, g.dial(), upgradeRequest[:40]) }, nil},
		{"server without a ServerHello", "wss", func(t *testing.T, g *gateway) {
			c := g.dial()
			go tls.Client(c, g.trust(originName)).Handshake()
		}, func(c io.ReadWriter) { c.Read(make([]byte, 1)) }},
		{"no answer", "ws", func(t *testing.T, g *gateway) { send(t, g.dial(), upgradeRequest) }, func(c io.ReadWriter) { readRawHead(c) }},
		{"half an answer", "ws", func(t *testing.T, g *gateway) {
			c := g.dial()
			send(t, c, upgradeRequest)
			expect(t, c, "HTTP/1.1 103 Early Hints\r\n\r\n")
		}, func(c io.ReadWriter) {
			readRawHead(c)
			io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"+upgradeAnswer[:30])
		}},
		{"half a body", "ws", func(t *testing.T, g *gateway) {
			c := g.dial()
			send(t, c, upgradeRequest)
			expect(t, c, "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nhalf")
		}, func(c io.ReadWriter) {
			readRawHead(c)
			io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nhalf")
		}},
		{"after a declined upgrade", "ws", func(t *testing.T, g *gateway) {
			c := g.dial()
			send(t, c, upgradeRequest)
			expect(t, c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}, func(c io.ReadWriter) {
			readRawHead(c)
			io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ready, done := make(chan struct{}, 1), make(chan struct{})
			o := newOrigin(t, func(tap *tap) {
				if c.server != nil {
					c.server(tap)
				}
				ready <- struct{}{}
				<-done
			})
			g := newGateway(t, o.addr, "", long)
			t.Cleanup(func() { close(done) })
			c.client(t, g)
			if c.server != nil {
				<-ready
			} else {
				g.ledger.wait(t, audit.ConnOpen, 1)
			}
			g.stop()
			if e := g.ended(1); e.State != audit.StateFailed && !strings.HasPrefix(c.name, "after") {
				t.Errorf("ended as %s: %s", e.State, e.Reason)
			}
			g.dial()
			g.ended(2)
		})
	}
}

// Our Close comes between two frames of what is being forwarded, and nothing
// comes behind it.
func TestDrainInFlight(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		h := newHub(t, scheme, "")
		var moving sync.WaitGroup
		var messages atomic.Int64
		for _, s := range []*socket{h.open(), h.open()} {
			for _, p := range []*peer{s.client, s.server} {
				var closed atomic.Bool
				batch := strings.Repeat(p.frame(frames.Binary, strings.Repeat("x", 1000)), 16)
				moving.Go(func() {
					for !closed.Load() {
						if _, err := io.WriteString(p, batch); err != nil {
							t.Errorf("%v: %v", p.dir, err)
							return
						}
					}
					io.WriteString(p, p.closing(frames.GoingAway, ""))
				})
				moving.Go(func() {
					defer closed.Store(true)
					for {
						head, payload, _, err := readFrame(p)
						if err != nil {
							t.Errorf("%v: %v", p.dir, err)
							return
						}
						if head.Opcode == frames.Close {
							if payload != "\x03\xe9" {
								t.Errorf("closed with %q", payload)
							}
							break
						}
						if messages.Add(1) == 1000 {
							h.stop()
						}
					}
					closed.Store(true)
					if b, err := io.ReadAll(p); len(b) > 0 || err != nil {
						t.Errorf("%d bytes behind the Close (%v)", len(b), err)
					}
				})
			}
		}
		h.ended(2)
		moving.Wait()
	})
}

// Peers that do not answer the Close of a drain are not waited for for long.
func TestDrainUnanswered(t *testing.T) {
	h := newHub(t, "wss", "", quickly)
	for range 10 {
		h.open()
	}
	h.stop()
	h.ended(10)
}
