package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"framegate/intercept"
	"framegate/internal/onboarding"
)

// An admin is the port for those who operate the gateway: /healthz says that
// the process serves, /readyz whether it would take a new connection, /metrics has
// the numbers, /ca/ is the onboarding page.
type admin struct {
	ln      net.Listener
	server  *http.Server
	ready   func() error
	metrics http.Handler
	handler atomic.Pointer[http.Handler]

	open    intercept.Answering // the connections
	serving chan struct{}       // closed once no more are accepted; nil: it has not begun
}

// maxAdmin is how many connections to the admin port there may be. Each takes a
// descriptor that others could use, and lasts no longer than its timeouts.
const maxAdmin = 256

// newAdmin serves on ln, which it closes; nil: there is none. With profile it
// serves profiles of the process, too, though on a socket of the file system only.
func newAdmin(ln net.Listener, ready func() error, page *onboarding.Page, metrics http.Handler, profile bool) *admin {
	if ln == nil {
		return nil
	}
	a := &admin{ln: netutil.LimitListener(ln, maxAdmin), ready: ready, metrics: metrics}
	a.show(page, profile)
	a.server = &http.Server{
		Handler: a, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		ErrorLog:  slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		ConnState: a.open.ConnState,
	}
	return a
}

// ServeHTTP implements [http.Handler].
func (a *admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*a.handler.Load()).ServeHTTP(w, r)
}

// show has another page, and profiles or none, from the next request on.
func (a *admin) show(page *onboarding.Page, profile bool) {
	_, isUnix := a.ln.Addr().(*net.UnixAddr)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("/ca/", page.Under("/ca/"))
	mux.Handle("GET /metrics", a.metrics)
	var handler http.Handler = mux
	switch {
	case !isUnix:
		handler = &hostGuard{handler: mux, own: page.Host}
	case profile:
		profiles(mux)
	}
	a.handler.Store(&handler)
}

// listenAdmin listens on addr, host:port or unix:PATH.
func listenAdmin(ctx context.Context, addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok {
		return intercept.Listen(ctx, addr)
	}
	// A socket that nobody listens on is left from a gateway that was killed.
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, usage(fmt.Errorf("%s is in use by another process", path)).
			hint("`ss -lxp src %s` shows which; stop that one, or name another path in admin.listen", path)
	} else if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		os.Remove(path)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return ln, os.Chmod(path, 0o600)
}

func (a *admin) serve() {
	if a != nil {
		a.serving = make(chan struct{})
		go func() {
			defer close(a.serving)
			if err := a.server.Serve(a.ln); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				slog.Error("the admin port failed", "err", err)
			}
		}()
	}
}

// finish ends the port once the requests have been answered that it has.
func (a *admin) finish() {
	if a == nil {
		return
	}
	a.ln.Close()
	<-a.serving
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	a.open.Finish(ctx, a.server)
	a.close()
}

func (a *admin) close() {
	if a != nil {
		a.server.Close()
		a.ln.Close()
	}
}
