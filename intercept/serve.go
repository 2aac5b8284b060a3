package intercept

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// A Handler serves one connection. It owns c and closes it before it returns.
// dst is where the client believes it is connected to. ctx is that of [Serve];
// when it is done no more connections are accepted, and how to end the one at
// hand is the Handler's business.
type Handler func(ctx context.Context, c net.Conn, dst netip.AddrPort)

// Serve accepts connections from ln until ctx is done, asks dst for the
// destination of each and runs h in a goroutine of its own. A connection
// without a destination is reset, with a log line. Serve closes ln. It returns
// once all handlers have, nil if ctx ended it and else the error of ln.
//
// A shortage of descriptors or memory ends nothing: Serve waits and goes on. A
// panic in h ends that connection only.
func Serve(ctx context.Context, ln net.Listener, dst func(net.Conn) (netip.AddrPort, error), h Handler) error {
	s := &server{dst: dst, handle: h}
	defer s.log.flush()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	err := s.accept(ctx, ln)
	if err != nil {
		// The handlers may run for long; this must not wait for them.
		slog.Error("listener failed, no new connections", "listen", ln.Addr().String(), "err", err)
		ln.Close()
	}
	s.conns.Wait()
	return err
}

type server struct {
	dst    func(net.Conn) (netip.AddrPort, error)
	handle Handler
	conns  sync.WaitGroup
	log    throttle
}

// The pauses after failures of accept in a row double from the first to the
// second of these.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

func (s *server) accept(ctx context.Context, ln net.Listener) error {
	var pause time.Duration
	for {
		c, err := ln.Accept()
		if err == nil {
			pause = 0
			s.conns.Add(1)
			go s.serveConn(ctx, c)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if !passing(err) {
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		pause = min(max(2*pause, minPause), maxPause)
		s.log.warn("accept failed, trying again", "listen", ln.Addr().String(), "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// passing reports whether an error of accept may pass. Linux also hands out
// the network errors of the connection being accepted here (accept(2)), so
// every errno may, save those that say that the socket itself is no good.
func passing(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK:
		return false
	}
	return true
}

func (s *server) serveConn(ctx context.Context, c net.Conn) {
	defer s.conns.Done()
	dst, err := s.dst(c)
	if err != nil {
		s.refuse(c, err)
		return
	}
	defer contain(c)
	s.handle(ctx, c, dst)
}

func (s *server) refuse(c net.Conn, err error) {
	s.log.warn("connection refused", "client", c.RemoteAddr().String(), "local", c.LocalAddr().String(), "err", err)
	reset(c)
}

// contain, deferred, keeps a panic in the handler of c from ending all the
// other connections.
func contain(c net.Conn) {
	if v := recover(); v != nil {
		logPanic(c.RemoteAddr().String(), v)
		c.Close()
	}
}

func logPanic(client string, v any) {
	slog.Error("panic in a connection's handler, connection closed",
		"client", client, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}

// reset closes c with a RST, so that the client sees a refusal and not an end.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(sec int) error }); ok {
		t.SetLinger(0)
	}
	c.Close()
}
