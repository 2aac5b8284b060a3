package intercept

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
)

// ExplicitConfig says what an [Explicit] does with the requests of its clients.
type ExplicitConfig struct {
	// Connect serves the connection of one CONNECT (RFC 9110, Section 9.3.6),
	// which has been answered with 200. It owns c and closes it. host is as the
	// client wrote it, a name or an address; dst are its addresses, in the
	// order to try them. ctx is as for a [Handler]. Required.
	Connect func(ctx context.Context, c net.Conn, host string, dst []netip.AddrPort)
	// Plain serves a request in absolute-form (RFC 9112, Section 3.2.2), whose
	// scheme is http. It must dial nothing but dst, or it undoes the guard
	// against [Explicit] being used to reach what only the gateway can reach.
	// The context of r ends with the client, not when no more is accepted.
	// Nil means that such requests get 501.
	Plain func(w http.ResponseWriter, r *http.Request, dst []netip.AddrPort)
	// Ports returns the destination ports that clients may name. It is called for
	// each request. Nil, as a function or a result, means 80 and 443.
	Ports func() []uint16
	// Resolver looks names up. Nil means net.DefaultResolver.
	Resolver Resolver
	// Timeout bounds the reading of a request head, the look-up of its host and
	// the writing of the answer to CONNECT, each. 0 means 10 s.
	Timeout time.Duration
}

// A Resolver looks up the addresses of a host, as *net.Resolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Explicit is an HTTP proxy for clients that are configured to use one. It
// only finds the destination of a request; connecting to it, and verifying who
// is there, is left to the functions of its [ExplicitConfig].
//
// A transparent gateway goes where the client could have gone by itself. A
// proxy goes where it is told, with the gateway's address and behind its
// firewall. So destinations are limited to Ports, and to addresses that are not
// the gateway's own, loopback, link-local, multicast, broadcast or unspecified,
// whether they were named or looked up.
type Explicit struct {
	config   ExplicitConfig
	routable func(netip.Addr) error
	tunnels  sync.WaitGroup
	log      throttle
}

// NewExplicit returns a proxy that does as c says.
func NewExplicit(c ExplicitConfig) *Explicit {
	if c.Ports == nil {
		c.Ports = func() []uint16 { return nil }
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	return &Explicit{config: c, routable: routable}
}

// A head larger than maxHead gets 431; idle keep-alive connections, which carry
// nothing, are closed after idlePlain.
const (
	maxHead   = 64 << 10
	idlePlain = 2 * time.Minute
)

// Serve serves the connections of ln, such as [Listen] returns, until ctx is
// done. It closes ln. It returns once all requests and tunnels have ended, nil
// if ctx ended it and else the error of ln.
func (e *Explicit) Serve(ctx context.Context, ln net.Listener) error {
	defer e.log.flush()
	var open Answering
	srv := &http.Server{
		Handler:           e,
		ConnState:         open.ConnState,
		ReadHeaderTimeout: e.config.Timeout,
		IdleTimeout:       idlePlain,
		MaxHeaderBytes:    maxHead,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), servingKey{}, ctx)
		},
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go serveHTTP(srv, ln, served)
	var err error
	select {
	case err = <-served:
		slog.Error("listener failed, no new connections", "listen", ln.Addr().String(), "err", err)
		ln.Close()
	case <-ctx.Done():
		ln.Close()
		<-served
	}
	open.Finish(context.WithoutCancel(ctx), srv)
	// Which has waited for every request, but not for those hijacked.
	e.tunnels.Wait()
	return err
}

// servingKey is where a request has the context of Serve. Its own goes on when
// that is done, so that an exchange may come to its end.
type servingKey struct{}

func serveHTTP(srv *http.Server, ln net.Listener, served chan<- error) {
	served <- srv.Serve(ln)
}

// ServeHTTP implements [http.Handler].
func (e *Explicit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		e.tunnels.Add(1) // here, where Finish still waits for us
		defer e.tunnels.Done()
	}
	t, err := e.target(r)
	if err != nil {
		e.log.warn("explicit proxy: request refused", "client", r.RemoteAddr, "method", r.Method, "host", r.URL.Host, "err", err)
		// Errors of the resolver tell of our network, which is for the log.
		status, reason := http.StatusBadGateway, "cannot look up the host"
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			status, reason = refused.status, refused.reason
		}
		// What follows a CONNECT is not HTTP, answered or not. net/http would
		// still wait for the content of the request, for as long as it takes.
		http.NewResponseController(w).SetReadDeadline(time.Now())
		w.Header().Set("Connection", "close")
		http.Error(w, reason, status)
		return
	}
	if r.Method == http.MethodConnect {
		e.connect(w, r, t)
		return
	}
	e.plain(w, r, t)
}

func (e *Explicit) plain(w http.ResponseWriter, r *http.Request, t target) {
	defer func() {
		// What Plain has not read of the request is read now, to skip it.
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(e.config.Timeout))
		// net/http would log a panic among things that outsiders can cause.
		v := recover()
		if v == nil {
			return
		}
		if v != http.ErrAbortHandler {
			logPanic(r.RemoteAddr, v)
		}
		panic(http.ErrAbortHandler)
	}()
	e.config.Plain(w, r, t.dst)
}

// connect lets goproxy take the connection over. The server for this is made
// by hand and lasts for one request: it has no transport, certificate authority
// or proxy from the environment that could be used by mistake.
func (e *Explicit) connect(w http.ResponseWriter, r *http.Request, t target) {
	action := &goproxy.ConnectAction{
		Action: goproxy.ConnectHijack,
		Hijack: func(r *http.Request, c net.Conn, _ *goproxy.ProxyCtx) {
			e.tunnel(r.Context().Value(servingKey{}).(context.Context), c, t)
		},
	}
	proxy := &goproxy.ProxyHttpServer{Logger: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)}
	proxy.OnRequest().HandleConnectFunc(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		return action, host
	})
	proxy.ServeHTTP(hijacker{w}, r)
}

func (e *Explicit) tunnel(ctx context.Context, c net.Conn, t target) {
	defer contain(c)
	c.SetWriteDeadline(time.Now().Add(e.config.Timeout))
	_, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	if err != nil {
		c.Close()
		return
	}
	c.SetWriteDeadline(time.Time{})
	e.config.Connect(ctx, c, t.host, t.dst)
}

// A hijacker keeps what the client has sent after the head of its CONNECT,
// most often a ClientHello. goproxy drops the buffer that holds it.
type hijacker struct{ http.ResponseWriter }

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		c = &replayConn{Conn: c, early: bytes.Clone(early)}
	}
	return c, rw, nil
}

// A replayConn reads early and then from its Conn. It has the methods of a
// *net.TCPConn that do not read past early.
type replayConn struct {
	net.Conn
	early []byte
}

func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}

// Buffered returns what was read ahead and not yet handed out, for a reader
// that goes on with NetConn.
func (c *replayConn) Buffered() []byte { return c.early }

// NetConn returns the connection without what was read ahead of it.
func (c *replayConn) NetConn() net.Conn { return c.Conn }

func (c *replayConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *replayConn) SetLinger(sec int) error {
	if sl, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		return sl.SetLinger(sec)
	}
	return errors.ErrUnsupported
}
