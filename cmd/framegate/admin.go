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
	"time"

	"framegate/intercept"
)

// An admin is the port for those who operate the gateway: /healthz says that
// the process serves, /readyz whether it would take a new connection.
type admin struct {
	ln     net.Listener
	server *http.Server
}

// newAdmin listens on addr, host:port or unix:PATH; an empty one is none.
func newAdmin(ctx context.Context, addr string, ready func() error) (*admin, error) {
	if addr == "" {
		return nil, nil
	}
	ln, err := listenAdmin(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return &admin{ln, &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}}, nil
}

func listenAdmin(ctx context.Context, addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok {
		return intercept.Listen(ctx, addr)
	}
	// A socket that nobody listens on is left from a gateway that was killed.
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s is in use by another process", path)
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
		go func() {
			if err := a.server.Serve(a.ln); !errors.Is(err, http.ErrServerClosed) {
				slog.Error("the admin port failed", "err", err)
			}
		}()
	}
}

func (a *admin) close() {
	if a != nil {
		a.server.Close()
		a.ln.Close()
	}
}
