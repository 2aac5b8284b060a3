package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
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
	x := &exchange{f, f.transport()}
	defer x.transport.CloseIdleConnections()
	s := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { defer c.finished(); x.serve(w, r, c.current()) }),
		ReadHeaderTimeout: f.proxy.handshakeTimeout(),
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHead + 4096,
		ErrorLog:          log.New(io.Discard, "", 0),
		BaseContext:       func(net.Listener) context.Context { return f.ctx },
	}
	ln := &oneConn{conn: c, closed: make(chan struct{})}
	c.onClose = sync.OnceFunc(func() { close(ln.closed) })
	s.Serve(ln)
	f.phase()
	var refused *badHead
	if errors.As(c.err, &refused) || errors.Is(c.err, errHeadTooLarge) {
		f.refuseHead(c.err)
	}
	return c.upgrade, c.err
}

// exchangeLeg gives the transport the server's side: the one that stands
// ready, else a new one to the same destination, verified the same way.
func (f *flow) exchangeLeg(ctx context.Context) (net.Conn, error) {
	if f.up != nil && f.idle {
		up := f.up
		f.up, f.idle = nil, false
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
	w, err := f.dial()
	return &leg{wire: w}, err
}

// transport returns the way of a flow's exchanges to its server.
func (f *flow) transport() *http.Transport {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return f.exchangeLeg(ctx) }
	t := &http.Transport{
		DialContext:            dial,
		DialTLSContext:         dial,
		DisableCompression:     true,
		MaxConnsPerHost:        1,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxHead, // which may be as long in coming as the server needs
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// An exchange carries ordinary exchanges of one flow.
type exchange struct {
	flow      *flow
	transport *http.Transport
}

func (x *exchange) serve(w http.ResponseWriter, r *http.Request, head *requestHead) {
	f := x.flow
	if status, reason := f.admit(head); status != 0 {
		w.Header().Set("Connection", "close")
		http.Error(w, "framegate: "+reason, status)
		f.recordRequest(head, status, reason)
		return
	}
	trace := &exchangeTrace{w: w}
	ctx := context.WithValue(r.Context(), flowKey{}, x)
	ctx = context.WithValue(ctx, traceKey{}, trace)
	r = r.WithContext(httptrace.WithClientTrace(ctx, trace.hooks()))
	forward(r, head, f.origin != nil)
	sw := &statusWriter{ResponseWriter: w}
	f.proxy.engine.ServeHTTP(sw, r)
	reason := ""
	if trace.cut != nil {
		reason = plainError(trace.cut)
	}
	if err := f.recordRequest(head, sw.status, reason); err != nil || trace.broken {
		// An answer that broke off must not end in good order: a part would
		// pass for the whole.
		f.reset = true
		panic(http.ErrAbortHandler)
	}
}

// forward turns a parsed request into the one that goes out: the target as it
// was written, and nothing that was meant for us alone.
func forward(r *http.Request, head *requestHead, secure bool) {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	if r.Host == "" {
		r.Host = head.host()
	}
	r.URL = &url.URL{Scheme: scheme, Host: r.Host, Opaque: head.origin()}
	if r.URL.Host == "" {
		r.URL.Host = "unnamed" // HTTP/1.0; the transport needs one, the dial ignores it
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
}

// roundTrip is goproxy's way to the server.
func roundTrip(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
	x := r.Context().Value(flowKey{}).(*exchange)
	trace := r.Context().Value(traceKey{}).(*exchangeTrace)
	resp, err := x.transport.RoundTrip(r)
	switch {
	case err != nil:
		trace.cut = err
		var verify *tls.CertificateVerificationError
		if errors.As(err, &verify) {
			x.flow.tlsFail(tlsInvalid, err)
		}
		return errorResponse(r, http.StatusBadGateway, "the server did not answer"), nil
	case resp.StatusCode == http.StatusSwitchingProtocols:
		// Nobody asked for it: this never becomes a tunnel.
		resp.Body.Close()
		trace.cut = errors.New("101 without being asked")
		return errorResponse(r, http.StatusBadGateway, "the server switched protocols without being asked"), nil
	}
	resp.Body = &cutBody{resp.Body, trace}
	for _, name := range []string{"Date", "Content-Type"} { // net/http would make them up
		if _, ok := resp.Header[name]; !ok {
			resp.Header[name] = nil
		}
	}
	resp.Header.Del("Connection")
	resp.Header.Del("Keep-Alive")
	return resp, nil
}

func errorResponse(r *http.Request, status int, text string) *http.Response {
	return goproxy.NewResponse(r, goproxy.ContentTypeText, status, text+"\n")
}

// cutBody notices when the body of an answer breaks off, which goproxy does
// not pass on.
type cutBody struct {
	io.ReadCloser
	trace *exchangeTrace
}

func (b *cutBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.trace.cut, b.trace.broken = err, true
	}
	return n, err
}

type traceKey struct{}

// exchangeTrace is what the round trip of one exchange tells its handler.
type exchangeTrace struct {
	w      http.ResponseWriter
	cut    error // why there is no answer, or not all of it
	broken bool  // the body of the answer broke off
}

// hooks pass interim answers such as 103 on as they come. 100 is the server's
// own business with us: the client gets its own when its body is read.
func (t *exchangeTrace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			if code == http.StatusContinue || code == http.StatusSwitchingProtocols {
				return nil
			}
			h := t.w.Header()
			for k, v := range header {
				h[k] = v
			}
			t.w.WriteHeader(code)
			clear(h)
			return nil
		},
	}
}

// statusWriter remembers the status, and passes on at once what comes without
// a length: nobody knows what else its reader waits for.
type statusWriter struct {
	http.ResponseWriter
	status int
	stream bool
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.stream = w.Header().Get("Content-Length") == ""
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if w.stream && err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
