package mitm

import (
	"container/list"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"framegate/audit"
	"framegate/policy"
)

// A flow is one intercepted connection with all that is known of it.
type flow struct {
	proxy    *Proxy
	settings *Settings // as of the accept
	ctx      context.Context
	cancel   context.CancelCauseFunc
	place    *list.Element // among the half-open
	id       string
	client   netip.AddrPort
	server   netip.AddrPort // the original destination
	sni      string
	target   string            // what the client asked an explicit proxy for, if that was a name
	ech      bool              // the ClientHello may hide another name than sni
	host     string            // SNI, else the Host of the last request; normalised
	origin   *x509.Certificate // what the server was verified by; nil on a plain connection
	local    bool              // the host is the gateway itself
	learn    bool              // sni may come to be bypassed for the client
	offer    offer             // what a server may be offered on a connection with TLS

	down  leg   // the client's side
	up    *leg  // the server's side; nil until it is needed
	idle  bool  // up is unused, or between two exchanges
	spare *wire // dialled, nothing sent yet

	shard   *statsShard // nil: nobody counts
	state   string
	rules   []string
	reason  string
	totals  *audit.Totals
	reset   bool // end both sides with a reset, as one of them did
	stopped func() bool
}

var (
	connPrefix = func() string {
		var b [5]byte
		rand.Read(b[:])
		return hex.EncodeToString(b[:])
	}()
	connCount atomic.Uint64
)

// newID names a connection: unique over restarts, and countable within a run.
func newID() string { return connPrefix + "-" + strconv.FormatUint(connCount.Add(1), 10) }

// accept opens the ledger entry of a connection. It fails, and closes c, if
// the entry cannot be recorded.
func (p *Proxy) accept(ctx context.Context, c net.Conn, dst netip.AddrPort) (*flow, error) {
	p.init.Do(p.setUp)
	f := &flow{proxy: p, settings: p.settings(), ctx: ctx, id: newID(), server: netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port()), state: audit.StateFailed}
	f.client = addrPort(c.RemoteAddr())
	f.target = targetOf(ctx)
	w, err := wireOf(c)
	if err != nil {
		c.Close()
		p.log().Error("connection refused", "client", f.client, "server", f.server, "err", err)
		return nil, err
	}
	f.down.wire = w
	if err := f.record(f.event(audit.ConnOpen)); err != nil {
		f.down.close(true)
		p.log().Error("connection refused", "client", f.client, "server", f.server, "err", err)
		return nil, err
	}
	f.shard = p.Stats.open()
	f.phase()
	f.ctx, f.cancel = ownContext(ctx)
	f.stopped = context.AfterFunc(f.ctx, f.cut)
	f.place = p.halfOpen.enter(f.cancel, f.settings.MaxHalfOpen)
	return f, nil
}

// cut ends every phase before the upgrade at once.
func (f *flow) cut() { f.down.wire.SetDeadline(time.Unix(1, 0)) }

// phaseUp does for the server's side what phase does for the client's.
func (f *flow) phaseUp() {
	f.phase()
	f.up.wire.SetDeadline(time.Now().Add(f.settings.handshakeTimeout()))
	if f.ctx.Err() != nil {
		f.up.wire.SetDeadline(time.Unix(1, 0))
	}
}

// phase gives the client's side a fresh deadline for the phase that begins.
// A deadline is only ever replaced, until the relay takes it off.
func (f *flow) phase() {
	f.down.wire.SetDeadline(time.Now().Add(f.settings.handshakeTimeout()))
	if f.ctx.Err() != nil {
		f.cut()
	}
}

// readBy gives reading from the client another deadline within a phase.
func (f *flow) readBy(t time.Time) {
	f.down.wire.SetReadDeadline(t)
	if f.ctx.Err() != nil {
		f.cut()
	}
}

// writeBy gives writing to the client another deadline.
func (f *flow) writeBy(t time.Time) {
	f.down.wire.SetWriteDeadline(t)
	if f.ctx.Err() != nil {
		f.cut()
	}
}

// errEnd ends a connection in good order; the stage that returns it has set
// the state.
var errEnd = errors.New("end of the connection")

// end closes both sides and the ledger entry. A nil err, as errEnd, means that
// the state was set by the stage which ended the connection.
func (f *flow) end(err error) {
	f.stopped()
	if err != nil && err != errEnd && !(err == io.EOF && f.state == audit.StateInspected) {
		f.state = audit.StateFailed
		if f.reason == "" {
			f.reason = f.plainError(err)
		}
	}
	if f.reset || wasReset(err) {
		f.down.close(true)
	} else {
		f.down.end()
	}
	if f.up != nil {
		if f.reset {
			f.up.close(true)
		} else {
			f.up.end()
		}
	}
	f.closeEntry()
	f.established()
	f.cancel(nil)
}

// closeEntry closes the ledger entry.
func (f *flow) closeEntry() {
	if f.spare != nil {
		f.spare.Close()
	}
	e := f.event(audit.ConnClose)
	e.State, e.Rules, e.Reason, e.Totals = f.state, f.rules, f.reason, f.totals
	f.record(e)
	f.proxy.Stats.close(f.state, f.totals)
}

// plainError is plainError for an error that cut may have caused.
func (f *flow) plainError(err error) string {
	if f.ctx.Err() != nil {
		err = context.Cause(f.ctx)
	}
	return plainError(err)
}

// plainError shortens an error for a record.
func plainError(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return "the gateway stops"
	case errors.Is(err, io.EOF):
		return "end of stream"
	case errors.As(err, &op) && op.Timeout() && !errors.Is(err, syscall.ETIMEDOUT): // that is a peer which is gone
		return "timeout"
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// event begins a record with what every record of this connection bears.
func (f *flow) event(name string) audit.Event {
	return audit.Event{
		Time: time.Now(), Event: name, Conn: f.id, Client: f.client, Server: f.server,
		SNI: f.sni, Host: f.host, Policy: f.proxy.Policy().Version(),
	}
}

// record hands events to the log. An error means that they were not recorded
// and the policy of the log is not to go on without.
func (f *flow) record(events ...audit.Event) error {
	err := f.proxy.Audit.Record(events...)
	if err != nil {
		err = fmt.Errorf("audit log: %w", err)
	}
	return err
}

// decide asks the policy about the connection and records the answer.
func (f *flow) decide(first first) policy.Decision {
	f.host = policy.NormalHost(first.name())
	if first.speech == speechTLS {
		f.sni, f.ech = f.host, hasECH(first.hello)
	}
	if f.local = f.settings.Local.is(f.host); f.local { // before any rule, see Local
		return policy.Decision{}
	}
	d := f.proxy.Policy().Connection(policy.Flow{Client: f.client, Server: f.server, Host: f.host, ECH: f.ech})
	if first.speech == speechOther && d.Action == policy.Inspect && d.Rule != "" {
		// A rule demands what cannot be done.
		d.Action = policy.Block
		f.reason = "a rule says inspect, and this is neither TLS nor HTTP"
	}
	if d.Rule != "" {
		f.rules = []string{d.Rule}
		f.proxy.Stats.hitConnection(d.Rule)
	}
	// A rule that says inspect means it, and what may be the name of a front is
	// nothing to learn from.
	f.learn = d == policy.Decision{} && f.sni != "" && !f.ech
	if until := f.pinned(); !until.IsZero() {
		d = policy.Decision{Action: policy.Bypass, Rule: tlsPinned}
		f.reason = tlsPinned + ": the client rejects our certificate, bypassed until " + until.UTC().Format(time.RFC3339)
	}
	if d.Action == policy.Bypass {
		f.markECH()
	}
	return d
}

// block refuses a connection in the words of its own protocol.
func (f *flow) block(first first, d policy.Decision) {
	f.state = audit.StateBlocked
	e := f.event(audit.ConnBlock)
	e.Action, e.Rules, e.Reason = d.Action.String(), f.rules, f.reason
	f.record(e)
	switch first.speech {
	case speechTLS:
		f.alert(alertAccessDenied)
	case speechHTTP:
		f.refuse(first.head, 403, "blocked by policy")
	default:
		f.reset = true
	}
}

// dial opens a marked connection to the original destination, and to nothing else.
func (f *flow) dial(ctx context.Context) (*wire, error) {
	if c := f.spare; c != nil {
		f.spare = nil
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.settings.handshakeTimeout())
	defer cancel()
	dial := f.proxy.dial
	if dial == nil {
		d := f.proxy.settings().Dialer
		if d == nil {
			d = &net.Dialer{}
		}
		dial = d.DialContext
	}
	c, err := dial(ctx, "tcp", f.server.String())
	if err != nil {
		return nil, fmt.Errorf("the server cannot be reached: %w", err)
	}
	return newWire(c.(tcpConn))
}

// wireOf makes a wire of an accepted connection. A connection that had bytes
// read ahead of it, as behind a CONNECT, offers them by Buffered.
func wireOf(c net.Conn) (*wire, error) {
	var early []byte
	if b, ok := c.(interface{ Buffered() []byte }); ok {
		early = b.Buffered()
	}
	for {
		n, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = n.NetConn()
	}
	tcp, ok := c.(tcpConn)
	if !ok {
		return nil, fmt.Errorf("a %T is not a TCP connection", c)
	}
	w, err := newWire(tcp)
	if err == nil {
		w.unread(early)
	}
	return w, err
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
