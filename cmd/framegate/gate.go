package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"framegate/audit"
	"framegate/intercept"
	"framegate/policy"
)

// A gate admits new connections, or resets them when there is no room: a TCP
// reset right after accept, before anything was read. It never touches those
// that live. What room there is watch finds out.
type gate struct {
	limits  atomic.Pointer[gateLimits]
	room    atomic.Pointer[room]
	clients clientTable

	now       atomic.Int64 // live connections
	admitted  atomic.Int64 // ever
	refused   [len(refusals)]refused
	sheddings atomic.Int64
	rungs     [len(causes)]atomic.Int32
	ending    atomic.Bool // new connections are no longer accepted

	// Before start: shed empties caches, and changed hears of each change of a
	// rung. It must not wait.
	shed    func()
	changed func(reason string)
}

// gateLimits are what [limits] says of new connections.
type gateLimits struct {
	connections int // at most; 0: as many as there are descriptors for
	memory      int // percent of what this process may use
	client      clientLimits
}

func (c *config) gateLimits() gateLimits {
	l := &c.Limits
	return gateLimits{l.MaxConnections, l.Memory, clientLimits{l.ClientConnections, l.ClientRate, l.ClientHandshakes}}
}

// A refusal is a reason to refuse a connection, and the name that it has in
// metrics and logs.
type refusal int

const (
	refuseConnections refusal = iota
	refuseDescriptors
	refuseMemory
	refuseClientConnections
	refuseClientRate
	refuseClientHandshakes
	refuseNot // none of them
)

var refusals = [...]struct {
	name string
	err  error // what is full; nil: it is only for one client
}{
	refuseConnections:       {"max_connections", errors.New("limits.max_connections reached")},
	refuseDescriptors:       {"descriptors", errors.New("the limit of open files is reached (LimitNOFILE)")},
	refuseMemory:            {"memory", errors.New("limits.memory reached")},
	refuseClientConnections: {"client_connections", nil},
	refuseClientRate:        {"client_rate", nil},
	refuseClientHandshakes:  {"client_handshakes", nil},
}

// refused counts the refusals for one reason. The lock is for refusals only.
type refused struct {
	n      atomic.Int64
	mu     sync.Mutex
	client netip.Addr // the last
}

func newGate(l gateLimits) *gate {
	g := &gate{shed: func() {}, changed: func(string) {}}
	g.clients.init()
	g.set(l)
	return g
}

// set puts other limits in force. A lower one ends nothing that lives; it takes
// hold of what comes.
func (g *gate) set(l gateLimits) {
	g.limits.Store(&l)
	g.room.Store(newWatcher(g).look())
}

// max is how many connections there may be.
func (g *gate) max() int64 {
	fit := g.room.Load().connections()
	if n := g.limits.Load().connections; n > 0 {
		return min(int64(n), fit)
	}
	return fit
}

// halfOpen is how many connections may be waiting for their first request. The
// rest is for those that got through, whoever knocks.
func (g *gate) halfOpen() int { return int(max(1, g.max()/4)) }

// check says why the gate would refuse the n-th connection, whoever's it is.
func (g *gate) check(n int64) refusal {
	l, r := g.limits.Load(), g.room.Load()
	admitted := g.admitted.Load()
	switch {
	case r.crowded || r.used+uint64(admitted-r.before)*connectionCost > r.limit:
		return refuseMemory
	case l.connections > 0 && n > int64(l.connections):
		return refuseConnections
	// Each is to have two, also those that have not called their server yet.
	case n > r.connections(), r.open+2*(admitted-r.admitted+1)+spareFiles/2 > r.files:
		return refuseDescriptors
	}
	return refuseNot
}

var errEnding = errors.New("draining, no new connections are accepted")

// full says why a new connection would be refused, nil if it would not.
func (g *gate) full() error {
	if g.ending.Load() {
		return errEnding
	}
	if why := g.check(g.now.Load() + 1); why != refuseNot {
		return refusals[why].err
	}
	return nil
}

// admit counts c in, or resets it and returns nil.
func (g *gate) admit(c *net.TCPConn) *admittedConn {
	why := g.check(g.now.Add(1))
	var client *client
	from := addrOf(c)
	if l := g.limits.Load().client; why == refuseNot && l != (clientLimits{}) {
		client, why = g.clients.enter(from, l)
	}
	if why != refuseNot {
		g.now.Add(-1)
		g.refuse(why, from)
		c.SetLinger(0)
		c.Close()
		return nil
	}
	g.admitted.Add(1)
	return &admittedConn{TCPConn: c, gate: g, client: client}
}

func addrOf(c net.Conn) netip.Addr {
	a, _ := c.RemoteAddr().(*net.TCPAddr)
	return a.AddrPort().Addr().Unmap()
}

func (g *gate) refuse(why refusal, client netip.Addr) {
	r := &g.refused[why]
	r.n.Add(1)
	r.mu.Lock()
	r.client = client
	r.mu.Unlock()
}

// mayHandshake says whether a client may have one more TLS handshake done for it.
func (g *gate) mayHandshake(a netip.Addr) bool {
	l := g.limits.Load().client.handshakes
	if l == 0 || g.clients.handshake(a, l) {
		return true
	}
	g.refuse(refuseClientHandshakes, a)
	return false
}

// An admittedConn counts as live until it is closed or its handler has returned,
// which keeps to what is below it: see [gate.serve].
type admittedConn struct {
	*net.TCPConn
	gate   *gate
	client *client // nil: not counted
	left   atomic.Bool
}

// NetConn returns the connection itself.
func (c *admittedConn) NetConn() net.Conn { return c.TCPConn }

func (c *admittedConn) Close() error {
	c.leave()
	return c.TCPConn.Close()
}

func (c *admittedConn) leave() {
	if c.left.Swap(true) {
		return
	}
	c.gate.now.Add(-1)
	if c.client != nil {
		c.gate.clients.leave(c.client)
	}
}

// listener admits what ln accepts.
func (g *gate) listener(ln net.Listener) net.Listener { return &gateListener{ln, g} }

type gateListener struct {
	net.Listener
	gate *gate
}

func (l *gateListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			c.Close()
			return nil, fmt.Errorf("a %T is not a TCP connection", c)
		}
		if a := l.gate.admit(tcp); a != nil {
			return a, nil
		}
	}
}

// serve lets h serve what a listener of the gate has accepted. h gets living as
// its context, which outlasts the end of accepting.
func (g *gate) serve(living context.Context, h intercept.Handler) intercept.Handler {
	return func(_ context.Context, c net.Conn, dst netip.AddrPort) {
		defer leave(c)
		h(living, c, dst)
	}
}

// leave counts a connection out, whatever has been wrapped around it.
func leave(c net.Conn) {
	for c != nil {
		if a, ok := c.(*admittedConn); ok {
			a.leave()
			return
		}
		n, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		c = n.NetConn()
	}
}

// refusals are the refused, by reason.
func (g *gate) refusals() map[string]int64 {
	m := make(map[string]int64, len(refusals))
	for why, r := range refusals {
		m[r.name] = g.refused[why].n.Load()
	}
	return m
}

// rungsByCause are those of the overload ladder.
func (g *gate) rungsByCause() map[string]int {
	m := make(map[string]int, len(causes))
	for i, c := range causes {
		m[c.name] = int(g.rungs[i].Load())
	}
	return m
}

func (g *gate) live() int64  { return g.now.Load() }
func (g *gate) total() int64 { return g.admitted.Load() }

// A loadedPolicy is the policy in force.
type loadedPolicy struct{ atomic.Pointer[policy.Policy] }

// event begins a record about the policy in force.
func (p *loadedPolicy) event(name, reason string) audit.Event {
	return audit.Event{Event: name, Policy: p.Load().Version(), Reason: reason}
}
