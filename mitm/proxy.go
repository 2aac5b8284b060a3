// Package mitm carries one intercepted connection from its first byte to its
// last: it tells what the client speaks, asks the policy, opens and verifies
// the server's side, presents a leaf to the client, follows the HTTP exchanges
// up to the upgrade, and relays WebSocket messages, each judged and recorded
// before it is forwarded.
//
// It inspects a copy and forwards the original: unless a rule says otherwise,
// the bytes that leave are the bytes that came. [Proxy.ServeConn] is the whole
// way on one page.
//
// # Ownership
//
// ServeConn owns the connection that it is given and each one that it dials,
// and closes them all before it returns. One goroutine reads each side, and
// whoever writes to a side holds the lock of its leg. Buffers come from a pool
// when bytes arrive and go back before the next wait, so that an idle
// connection holds none.
package mitm

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"framegate/audit"
	"framegate/mitm/chain"
	"framegate/policy"
)

// A CertSource makes the certificates that clients are shown.
type CertSource interface {
	// Leaf returns a certificate with its chain for a server that was verified.
	// name is what the client asked for by SNI; if it is empty, the leaf bears
	// the names of origin, the server's own certificate. hello tells which keys
	// the client can use.
	Leaf(ctx context.Context, name string, origin *x509.Certificate, hello *tls.ClientHelloInfo) (*tls.Certificate, error)
}

// A Proxy serves intercepted connections. Its fields are set before the first
// ServeConn and not changed after it. There is no field that turns the
// verification of servers off.
type Proxy struct {
	// Certs makes the leaves. It must be set.
	Certs CertSource
	// Policy returns the policy in force. It is called for each connection, and
	// for each batch of messages, so that a reload reaches live connections at
	// a message boundary. It must be set and must not return nil.
	Policy func() *policy.Policy
	// Rates hold the counts of rules with a rate, so that they outlive a policy. If
	// nil, each policy counts by itself.
	Rates *policy.Rates
	// Audit takes the records. It must be set.
	Audit audit.Sink
	// Keys makes the keys of sealed payloads. It must be set if Settings
	// ever has Payload audit.PayloadFull.
	Keys KeySource
	// Trust returns what servers are verified by. It is called for each handshake,
	// so that a reload reaches new connections; as long as it returns the same,
	// sessions are resumed. It must be set and must not return nil.
	Trust func() *chain.Trust
	// Settings returns what else is in force. It is called for each connection, which
	// keeps what it got for its life, save where Settings says otherwise. If nil, or
	// if it returns nil, the zero Settings.
	Settings func() *Settings
	// Handshake says whether one more TLS handshake may be done for a client: two
	// in fact, and perhaps a leaf to mint. It is asked once the ClientHello has come,
	// and not for connections that are bypassed or blocked. If nil, any number.
	Handshake func(client netip.Addr) bool
	// Stats counts what happens. If nil, nobody does.
	Stats *Stats
	// Tap sees what the WebSockets carry. If nil, nobody does.
	Tap Tap
	// Log takes what an operator should see. If nil, slog.Default.
	Log *slog.Logger

	init    sync.Once
	engine  http.Handler          // serves what is not a WebSocket
	clock   func() time.Time      // by which servers are verified; tests set it
	inForce atomic.Pointer[epoch] // what may be resumed

	halfOpen waitingRoom
	held     budget
	pins     *pins // who accepts our certificates

	closeWait, halfWait time.Duration // of the relay; tests shorten them
	stall               time.Duration // of bodies; tests shorten it

	dial func(ctx context.Context, network, address string) (net.Conn, error) // in place of the Dialer; tests set it
}

func (p *Proxy) log() *slog.Logger {
	if p.Log != nil {
		return p.Log
	}
	return slog.Default()
}

func (p *Proxy) setUp() {
	p.engine = newEngine(p)
	p.pins = newPins()
	if p.clock == nil {
		p.clock = time.Now
	}
	p.closeWait = cmp.Or(p.closeWait, closeWait)
	p.halfWait = cmp.Or(p.halfWait, halfWait)
	p.stall = cmp.Or(p.stall, stall)
}

// ServeConn takes ownership of c, which was on its way to dst, and returns once
// both sides are closed. When ctx is done, a WebSocket is closed with 1001 on
// both sides; anything else is cut. With a [Drain] as the cause, that is when it
// is the turn of this connection.
func (p *Proxy) ServeConn(ctx context.Context, c net.Conn, dst netip.AddrPort) {
	var f *flow
	var carry func() error
	var err error
	defer func() {
		if f != nil {
			f.end(err)
		}
	}()
	apart(func() { // or an idle connection would keep the stack that its handshakes needed
		if f, err = p.accept(ctx, c, dst); err == nil {
			carry, err = f.open()
		}
	})
	if carry != nil {
		err = carry()
	}
}

// open goes all the way to where what the peers say is only carried, for as long as
// they like, and returns what sees to that; nil if the connection has ended before.
func (f *flow) open() (carry func() error, err error) {
	first, err := f.firstBytes()
	if err != nil {
		return nil, err
	}
	switch d := f.decide(first); {
	case d.Action == policy.Block:
		f.block(first, d)
		return nil, err
	case d.Action == policy.Bypass || first.speech == speechOther:
		head := first.head
		return func() error { return f.bypass(head, d) }, nil
	}
	head := first.head
	if first.speech == speechTLS {
		if err = f.affordTLS(); err != nil {
			return nil, err
		}
		var origin *x509.Certificate
		if !f.local { // or there is nobody to dial and to verify
			origin, err = f.upstreamTLS(first.hello)
		}
		if errors.Is(err, errClientCert) && !f.settings.BlockClientCert {
			return func() error { return f.bypass(nil, policy.Decision{Action: policy.Bypass, Rule: tlsClientCert}) }, nil
		} else if err != nil {
			return nil, err
		}
		var leaf *tls.Certificate
		if leaf, err = f.leaf(origin, first.hello); err != nil {
			return nil, err
		}
		if err = f.clientTLS(leaf); err != nil {
			return nil, err
		}
		if head, err = f.firstRequest(); err != nil {
			return nil, err
		}
	}
	f.established()
	for head != nil {
		if !head.upgrade() || f.local {
			head, err = f.exchanges(head)
			continue
		}
		var ws *upgrade
		if ws, err = f.upgrade(head); err != nil {
			return nil, err
		}
		if ws != nil && ws.opaque != "" {
			return func() error { return f.opaque(ws) }, nil
		}
		if ws != nil {
			return f.relay(ws), nil
		}
		head, err = f.requestHead()
	}
	return nil, err
}
