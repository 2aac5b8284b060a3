package mitm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"framegate/audit"
	"framegate/ca"
	"framegate/mitm/chain"
	"framegate/policy"
)

// authority is the CA of all gateways of the tests: to make one takes seconds.
var authority *ca.Authority

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "")
	if err == nil {
		authority, err = ca.Create(dir+"/ca", ca.Options{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	before := descriptors()
	code := m.Run()
	os.RemoveAll(dir)
	if !settles(func() bool { return descriptors() <= before }) {
		fmt.Fprintf(os.Stderr, "%d descriptors were open before the tests, and %d are after them\n", before, descriptors())
		code = max(code, 1)
	}
	os.Exit(code)
}

// descriptors counts the sockets of this process.
func descriptors() (n int) {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// settles reports whether what goroutines that are on their way out still hold
// open comes to be true.
func settles(done func() bool) bool {
	for range 500 {
		if done() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return done()
}

// patience is after how long a test is taken to hang. Nothing depends on it
// unless the test fails.
const patience = 20 * time.Second

// A gateway is a Proxy behind a listener on loopback.
type gateway struct {
	*Proxy
	t       testing.TB
	ledger  *ledger
	certs   *countedCerts
	addr    string
	stop    context.CancelFunc // of all connections
	policy  atomic.Pointer[policy.Policy]
	inForce atomic.Pointer[Settings]

	mu     sync.Mutex
	dialed []string // the addresses that the gateway connected to
}

// newGateway starts a gateway whose connections were all on their way to dst,
// under the policy that rules says. It ends with the test, which fails if a
// goroutine or a connection is left, or if the ledger does not add up.
func newGateway(t testing.TB, dst netip.AddrPort, rules string, adjust ...func(*Proxy)) *gateway {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g := &gateway{
		t: t, stop: cancel,
		ledger: &ledger{changed: make(chan struct{})},
		certs:  &countedCerts{CertSource: authority},
	}
	g.Proxy = &Proxy{
		Certs: g.certs, Policy: g.policy.Load, Audit: g.ledger, Settings: g.inForce.Load,
		Trust: func() *chain.Trust { return originPKI().trust }, Log: slog.New(slog.DiscardHandler),
		Stats: NewStats(),
	}
	g.inForce.Store(&Settings{
		Level: audit.Frames,
		Dialer: &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.dialed = append(g.dialed, address)
			return nil
		}},
	})
	g.reload(rules)
	for _, f := range adjust {
		f(g.Proxy)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = ln.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				// What a connection starts inherits the label.
				pprof.Do(ctx, pprof.Labels("gateway", g.addr), func(ctx context.Context) { g.ServeConn(ctx, c, dst) })
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		cancel()
		serving.Wait()
		g.ledger.check(t)
		if h := g.held.snapshot(0); h.Bytes != 0 || h.Waiting != 0 || len(g.held.claims)+len(g.held.clients) != 0 {
			t.Errorf("memory is still held: %+v", h)
		}
		if g.Proxy.Audit == audit.Sink(g.ledger) && !g.ledger.lost.Load() {
			g.reconcile(t)
		}
		if !settles(func() bool { return goroutinesOf(g.addr) == "" }) {
			t.Errorf("goroutines are left:\n%s", goroutinesOf(g.addr))
		}
	})
	return g
}

// goroutinesOf returns the stacks of the goroutines of one gateway.
func goroutinesOf(addr string) string {
	var all bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&all, 1)
	var left []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", "gateway", addr)) {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// reload puts another policy in force.
func (g *gateway) reload(rules string) {
	g.t.Helper()
	p, err := policy.Parse("test.toml", []byte(rules))
	if err != nil {
		g.t.Fatal(err)
	}
	g.policy.Store(p)
}

// dial connects as a client that was redirected.
func (g *gateway) dial() *net.TCPConn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// trust is the configuration of a client that trusts our CA.
func (g *gateway) trust(name string) *tls.Config {
	g.t.Helper()
	root, err := x509.ParseCertificate(authority.RootDER())
	if err != nil {
		g.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"http/1.1"}}
}

// dialTLS connects with TLS and fails the test if the handshake does.
func (g *gateway) dialTLS(c *tls.Config) *tls.Conn {
	g.t.Helper()
	conn := tls.Client(g.dial(), c)
	if err := conn.Handshake(); err != nil {
		g.t.Fatalf("client: %v", err)
	}
	return conn
}

// destinations returns the addresses that the gateway connected to, each once.
func (g *gateway) destinations() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := slices.Clone(g.dialed)
	slices.Sort(list)
	return slices.Compact(list)
}

// ended waits until n connections have ended and returns the record of the last.
func (g *gateway) ended(n int) audit.Event {
	g.t.Helper()
	return g.ledger.wait(g.t, audit.ConnClose, n)[n-1]
}

// countedCerts counts the leaves that are asked for.
type countedCerts struct {
	CertSource
	asked atomic.Int32
}

func (c *countedCerts) Leaf(ctx context.Context, name string, origin *x509.Certificate, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.asked.Add(1)
	return c.CertSource.Leaf(ctx, name, origin, hello)
}

// A ledger is an audit log in memory.
type ledger struct {
	fail atomic.Pointer[error] // what Record returns
	lost atomic.Bool           // it has returned that

	mu      sync.Mutex
	events  []audit.Event
	changed chan struct{}
}

// Record implements audit.Sink. It retains copies.
func (l *ledger) Record(events ...audit.Event) error {
	if err := l.fail.Load(); err != nil {
		l.lost.Store(true)
		return *err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		if e.Msg != nil {
			m := *e.Msg
			m.Payload = slices.Clone(m.Payload)
			e.Msg = &m
		}
		if e.Totals != nil {
			t := *e.Totals
			e.Totals = &t
		}
		e.Rules, e.Shadow, e.Evidence = slices.Clone(e.Rules), slices.Clone(e.Shadow), slices.Clone(e.Evidence)
		l.events = append(l.events, e)
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

func (l *ledger) Close() error { return nil }

// of returns the records with this name so far, all if name is "".
func (l *ledger) of(name string) []audit.Event {
	list, _ := l.named(name)
	return list
}

func (l *ledger) named(name string) (list []audit.Event, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if name == "" || e.Event == name {
			list = append(list, e)
		}
	}
	return list, l.changed
}

// wait returns the records with this name once there are n of them.
func (l *ledger) wait(t testing.TB, name string, n int) []audit.Event {
	t.Helper()
	late := time.After(patience)
	for {
		list, changed := l.named(name)
		if len(list) >= n {
			return list
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%d records of %s, want %d; there are:\n%s", len(list), name, n, l)
		}
	}
}

// String lists the names of the records, for a test that fails.
func (l *ledger) String() string {
	var b strings.Builder
	for _, e := range l.of("") {
		fmt.Fprintf(&b, "%s %s %s rules=%v code=%d %q\n", e.Conn, e.Event, e.State, e.Rules, e.Code, e.Reason)
	}
	return b.String()
}

// check fails the test unless each connection was opened and closed once, in
// one of the five states, with all its other records between.
func (l *ledger) check(t testing.TB) {
	t.Helper()
	open := map[string]bool{}
	for _, e := range l.of("") {
		if e.Conn == "" {
			continue
		}
		was, known := open[e.Conn]
		switch e.Event {
		case audit.ConnOpen:
			if known {
				t.Errorf("%s was opened twice", e.Conn)
			}
			open[e.Conn] = true
			continue
		case audit.ConnClose:
			open[e.Conn] = false
			if !slices.Contains([]string{audit.StateInspected, audit.StateBypassed, audit.StateBlocked, audit.StateOpaque, audit.StateFailed}, e.State) {
				t.Errorf("%s ended in state %q", e.Conn, e.State)
			}
			if e.Policy == "" {
				t.Errorf("%s ended without the version of the policy", e.Conn)
			}
		}
		if !was {
			t.Errorf("%s of %s, which is not open", e.Event, e.Conn)
		}
	}
	for conn, is := range open {
		if is && l.fail.Load() == nil {
			t.Errorf("%s was never closed", conn)
		}
	}
}

// readAll reads c to its end, and fails the test if that is not in good order.
func readAll(t testing.TB, c io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("after %q: %v", b, err)
	}
	return string(b)
}

func send(t testing.TB, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// expect reads as many bytes as want has, and compares.
func expect(t testing.TB, c io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	if err != nil || string(got) != want {
		t.Fatalf("read %q (%v), want %q", got[:n], err, want)
	}
}

// isReset reports whether a connection was broken off.
func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
