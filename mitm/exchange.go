package mitm

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/elazarl/goproxy"

	"framegate/audit"
)

// Everything on an intercepted connection that is not a WebSocket goes through
// goproxy between net/http's server and transport.

// keepAlive is how long a client's connection may be idle between two ordinary
// exchanges; a server keeps one for 5 s to a few minutes.
const keepAlive = 5 * time.Minute

type flowKey struct{}

// newEngine returns the handler of all ordinary exchanges. Of goproxy it uses
// the request path alone: never its CA, its CONNECT handling or its transport,
// which does not verify servers.
func newEngine(p *Proxy) http.Handler {
	g := goproxy.NewProxyHttpServer()
	g.Tr = nil
	g.ConnectDial = nil
	g.KeepAcceptEncoding = true
	g.Logger = discard{}
	g.OnRequest().DoFunc(func(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		ctx.RoundTripper = goproxy.RoundTripperFunc(roundTrip)
		return r, nil
	})
	return g
}

type discard struct{}

func (discard) Printf(string, ...any) {}

// exchanges serves ordinary exchanges, of which head begins the first, until
// the client asks for an upgrade, whose head it returns, or the connection ends.
func (f *flow) exchanges(head *requestHead) (upgrade *requestHead, err error) {
	f.state = audit.StateInspected
	c := &exchangeConn{Conn: f.down.conn(), leg: &f.down, flow: f}
	c.quiet.L = &c.mu
	c.begin(head)
	f.down.wire.SetWriteDeadline(time.Time{}) // an answer may take as long as it likes
	x := newExchange(f, c)
	defer x.close()
	s := &http.Server{
		Handler:           http.HandlerFunc(x.next),
		ReadHeaderTimeout: f.settings.handshakeTimeout(),
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHead + 4096,
		ErrorLog:          log.New(io.Discard, "", 0),
		BaseContext:       func(net.Listener) context.Context { return f.ctx },
	}
	ln := &oneConn{conn: c, closed: make(chan struct{})}
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		// Not before: a write that fails closes the connection, and the handler goes on.
		if state == http.StateClosed {
			close(ln.closed)
		}
	}
	s.Serve(ln)
	f.phase()
	if !c.served {
		// net/http's server has answered by itself, so it did not like the head.
		f.recordRefusal(c.head, http.StatusBadRequest, "the HTTP engine refused the request")
	}
	f.refuseHead(c.err)
	if c.ended() && !f.reset {
		f.linger()
	}
	return c.upgrade, cmp.Or(c.err, c.fault())
}

// exchangeLeg gives the transport the server's side: the one that stands
// ready, else a new one to the same destination, verified the same way.
func (f *flow) exchangeLeg(ctx context.Context) (net.Conn, error) {
	if f.up != nil && f.idle {
		up := f.up
		f.up, f.idle = nil, false
		up.wire.SetDeadline(time.Time{})
		return up.conn(), nil
	}
	up, err := f.dialUp(ctx)
	if err != nil {
		return nil, err
	}
	return up.conn(), nil
}

// dialUp opens the server's side as the client's side is: with TLS or without.
func (f *flow) dialUp(ctx context.Context) (*leg, error) {
	if f.origin != nil {
		return f.dialTLS(ctx)
	}
	w, err := f.dial(ctx)
	return &leg{wire: w}, err
}

// An exchange carries ordinary exchanges of one flow.
type exchange struct {
	flow      *flow
	conn      *exchangeConn   // nil if it is none of ours
	transport *http.Transport // the way to the server

	// The transport dials on goroutines of its own, which may outlive the
	// request that they were for; none outlives close.
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex // of dialling, which uses the flow
}

func newExchange(f *flow, c *exchangeConn) *exchange {
	x := &exchange{flow: f, conn: c}
	x.ctx, x.cancel = context.WithCancel(f.ctx)
	x.transport = &http.Transport{
		DialContext:            x.dial,
		DialTLSContext:         x.dial,
		DisableCompression:     true,
		MaxConnsPerHost:        1,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxHead, // which may be as long in coming as the server needs
		Protocols:              new(http.Protocols),
	}
	x.transport.Protocols.SetHTTP1(true)
	return x
}

func (x *exchange) dial(context.Context, string, string) (net.Conn, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.ctx.Err(); err != nil {
		return nil, err
	}
	return x.flow.exchangeLeg(x.ctx)
}

// close closes all connections to the server.
func (x *exchange) close() {
	x.cancel()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.transport.CloseIdleConnections()
}

// next serves the exchange that net/http's server has come to.
func (x *exchange) next(w http.ResponseWriter, r *http.Request) {
	head := x.conn.current()
	if head == nil {
		panic(http.ErrAbortHandler)
	}
	body := &exchangeBody{ReadCloser: r.Body, conn: x.conn}
	body.whole.Store(r.ContentLength == 0)
	defer func() { x.conn.finished(body.whole.Load()) }()
	if r.ContentLength != 0 {
		// net/http's server goes on by its own request, and not by this copy.
		r = r.WithContext(r.Context())
		r.Body = body
	}
	x.serve(w, r, head)
}

func (x *exchange) serve(w http.ResponseWriter, r *http.Request, head *requestHead) {
	f := x.flow
	status, reason := f.admit(head)
	if status == 0 && f.local {
		x.serveLocal(w, r, head)
		return
	}
	if status == 0 && !forward(r, head, f) {
		status, reason = http.StatusBadRequest, "request target cannot be forwarded as it is written"
	}
	if status != 0 {
		w.Header().Set("Connection", "close")
		http.Error(w, "framegate: "+reason, status)
		f.recordRefusal(head, status, reason)
		return
	}
	// Or net/http's server would take what is left of the body away from the
	// transport when the answer begins before its end.
	http.NewResponseController(w).EnableFullDuplex()
	trace := &exchangeTrace{w: w, interim: r.ProtoAtLeast(1, 1)}
	ctx := context.WithValue(r.Context(), flowKey{}, x)
	ctx = context.WithValue(ctx, traceKey{}, trace)
	r = r.WithContext(httptrace.WithClientTrace(ctx, trace.hooks()))
	sw := &statusWriter{ResponseWriter: w}
	f.proxy.engine.ServeHTTP(sw, r)
	record := f.recordRequest
	switch {
	case errors.Is(sw.failed, os.ErrDeadlineExceeded):
		// Or what the socket holds would wait for the client for minutes more.
		reason, trace.broken = "the client does not read", true
	case trace.cut == nil:
	case x.conn.fault() != nil:
		record, reason = f.recordRefusal, trace.cut.Error()
	case r.Context().Err() != nil && f.ctx.Err() == nil:
		reason = "the client went away"
	default:
		reason = f.plainError(trace.cut)
	}
	if err := record(head, sw.status, reason); err != nil || trace.broken {
		// An answer that broke off must not end in good order: a part would
		// pass for the whole.
		f.reset = true
		panic(http.ErrAbortHandler)
	}
}

// forward turns a parsed request into the one that goes out: the target as it
// was written, and nothing that was meant for us alone. It reports whether
// that could be done.
func forward(r *http.Request, head *requestHead, f *flow) bool {
	if r.Host == "" {
		r.Host = head.host()
	}
	// The host of the URL is where the transport thinks it dials, and the Host
	// of a request of HTTP/1.0 that has none.
	r.URL = &url.URL{Scheme: "http", Host: f.server.String(), Opaque: head.origin()}
	if f.origin != nil {
		r.URL.Scheme = "https"
	}
	if strings.HasPrefix(r.URL.Opaque, "//") { // which is taken for a host there
		path, query, asks := strings.Cut(r.URL.Opaque, "?")
		r.URL.Opaque, r.URL.RawPath, r.URL.RawQuery, r.URL.ForceQuery = "", path, query, asks
		r.URL.Path, _ = url.PathUnescape(path)
		if r.URL.RequestURI() != head.origin() {
			return false
		}
	}
	// RFC 9110, Section 7.6.1: "Intermediaries MUST parse a received Connection
	// header field before a message is forwarded and, for each
	// connection-option in this field, remove any header or trailer field(s)".
	for _, name := range head.tokens("Connection") {
		r.Header.Del(name)
	}
	// Only a WebSocket is ever upgraded to.
	for _, name := range []string{"Upgrade", "HTTP2-Settings", "Keep-Alive", "Te"} {
		r.Header.Del(name)
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = nil // do not introduce ourselves
	}
	return true
}
