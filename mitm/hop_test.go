package mitm

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/policy"
)

// A hop is a relay alone, without what comes before it.
type hop struct {
	*flow
	client, server *peer
	taken          [2]chan int // how much was read of either peer, when the relay waits for more
}

// newHop connects two peers by TCP, and by TLS if secure, with a relay that does
// not run yet. It records nothing unless told otherwise.
func newHop(t testing.TB, secure bool, adjust ...func(*Proxy)) *hop {
	t.Helper()
	var own Settings
	p := &Proxy{Policy: noPolicy(t), Audit: discardSink{}, Settings: func() *Settings { return &own }}
	for _, f := range adjust {
		f(p)
	}
	p.init.Do(p.setUp)
	h := &hop{flow: &flow{proxy: p, settings: p.settings(), stopped: func() bool { return true }}}
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	h.shard = p.Stats.open()
	h.place = p.halfOpen.enter(h.cancel, 0)
	h.client, h.down.wire, h.taken[0] = newEnd(t, frames.ToServer)
	h.up = &leg{}
	h.server, h.up.wire, h.taken[1] = newEnd(t, frames.ToClient)
	if secure {
		client, server := serverSecrets()
		h.withTLS(t, client, server, [2]*tls.Config{client, server})
	}
	return h
}

// withTLS puts TLS on both connections; peers are the configurations of the
// peers, the other two those of the gateway.
func (h *hop) withTLS(t testing.TB, client, server *tls.Config, peers [2]*tls.Config) {
	t.Helper()
	h.down.tls, h.client.Conn = tls.Server(h.down.wire, server), tls.Client(h.client.Conn, peers[0])
	h.up.tls, h.server.Conn = tls.Client(h.up.wire, client), tls.Server(h.server.Conn, peers[1])
	for _, pair := range [][2]net.Conn{{h.down.tls, h.client.Conn}, {h.server.Conn, h.up.tls}} {
		done := make(chan error, 1)
		go func() { done <- pair[0].(*tls.Conn).Handshake() }()
		if err := pair[1].(*tls.Conn).Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

var serverSecrets = sync.OnceValues(func() (client, server *tls.Config) {
	return &tls.Config{RootCAs: originPKI().roots, ServerName: originName}, secure("valid")
})

// start runs the relay.
func (h *hop) start() (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.relay(&upgrade{})()
		h.end(nil)
	}()
	return done
}

// newEnd connects a peer with a wire. Whenever the wire has nothing to read,
// waits has how much was read of it so far.
func newEnd(t testing.TB, dir frames.Direction) (p *peer, w *wire, waits chan int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close(); near.Close() })
	far.SetDeadline(time.Now().Add(patience))
	p = &peer{Conn: &counter{TCPConn: far.(*net.TCPConn)}, tcp: far.(*net.TCPConn), dir: dir, t: t}
	if w, err = newWire(near.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	sum := 0
	waits = make(chan int, 1)
	w.ready = func(fd uintptr) bool {
		if w.fillOnce(fd) {
			sum += max(w.n, 0)
			return true
		}
		select {
		case <-waits:
		default:
		}
		waits <- sum
		return false
	}
	return p, w, waits
}

// pipe returns two peers and the wires that they are connected to.
func pipe(t testing.TB) (client, server *peer, gw [2]*wire) {
	t.Helper()
	client, gw[0], _ = newEnd(t, frames.ToServer)
	server, gw[1], _ = newEnd(t, frames.ToClient)
	return client, server, gw
}

// A counter counts what is sent.
type counter struct {
	*net.TCPConn
	sent int
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.sent += n
	return n, err
}

// settled waits until the relay has read all that p has sent, and waits for more.
func (h *hop) settled(p *peer) {
	p.t.Helper()
	c, ok := p.Conn.(*counter)
	if !ok {
		c = p.Conn.(*tls.Conn).NetConn().(*counter)
	}
	late := time.After(patience)
	for {
		select {
		case n := <-h.taken[p.dir]:
			if n == c.sent {
				return
			}
		case <-late:
			p.t.Fatalf("the relay does not read all that is sent %v", p.dir)
		}
	}
}

// noPolicy lets everything pass.
func noPolicy(t testing.TB) func() *policy.Policy {
	t.Helper()
	p, err := policy.Parse("none.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() *policy.Policy { return p }
}

// discardSink records nothing.
type discardSink struct{}

func (discardSink) Record(...audit.Event) error { return nil }
func (discardSink) Close() error                { return nil }
