package mitm

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A pipeEnd is one end of a connection within a bubble of testing/synctest. The bytes
// are in a socket of the kernel, since a wire reads from a descriptor; but who has
// to wait waits on a sync.Cond and on timers of the bubble, so that time can pass.
type pipeEnd struct {
	*cable
	fd     int
	addrs  [2]net.Addr // own and the other's
	limits [2]limit    // of reading and of writing
	closed bool
	wakes  int // how often a wait was interrupted
}

// A cable is what the two ends have in common.
type cable struct {
	mu      sync.Mutex
	changed sync.Cond
}

// A limit is a deadline.
type limit struct {
	at    time.Time // zero: none
	timer *time.Timer
}

// newPipe makes a connection between two addresses.
func newPipe(t testing.TB, client, server string) (a, b *pipeEnd) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := new(cable)
	c.changed.L = &c.mu
	addr := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	near, far := addr(client), addr(server)
	return &pipeEnd{cable: c, fd: fds[0], addrs: [2]net.Addr{near, far}}, &pipeEnd{cable: c, fd: fds[1], addrs: [2]net.Addr{far, near}}
}

// wait calls try until it has had an outcome, within a limit.
func (l *pipeEnd) wait(which int, try func() bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		at := l.limits[which].at
		switch {
		case l.closed:
			return net.ErrClosed
		case !at.IsZero() && !time.Now().Before(at):
			return os.ErrDeadlineExceeded
		case try():
			l.changed.Broadcast()
			return nil
		}
		l.changed.Wait()
		l.wakes++
	}
}

// state returns how often a wait of l was interrupted, and whether it has a deadline.
func (l *pipeEnd) state() (wakes int, limited bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wakes, !l.limits[0].at.IsZero() || !l.limits[1].at.IsZero()
}

// SyscallConn implements syscall.Conn.
func (l *pipeEnd) SyscallConn() (syscall.RawConn, error) { return rawPipe{l}, nil }

// A rawPipe is a pipeEnd as syscall.RawConn.
type rawPipe struct{ l *pipeEnd }

func (r rawPipe) Control(f func(fd uintptr)) error { f(uintptr(r.l.fd)); return nil }

func (r rawPipe) Read(f func(fd uintptr) bool) error {
	return r.l.wait(0, func() bool { return f(uintptr(r.l.fd)) })
}

func (r rawPipe) Write(f func(fd uintptr) bool) error {
	return r.l.wait(1, func() bool { return f(uintptr(r.l.fd)) })
}

// Read implements net.Conn.
func (l *pipeEnd) Read(p []byte) (n int, err error) {
	werr := l.wait(0, func() bool {
		n, err = syscall.Read(l.fd, p)
		return err != syscall.EAGAIN
	})
	switch {
	case werr != nil:
		return 0, werr
	case n == 0 && err == nil && len(p) > 0:
		return 0, io.EOF
	}
	return max(n, 0), err
}

// Write implements net.Conn.
func (l *pipeEnd) Write(p []byte) (sum int, err error) {
	for sum < len(p) && err == nil {
		var n int
		werr := l.wait(1, func() bool {
			n, err = syscall.SendmsgN(l.fd, p[sum:], nil, nil, syscall.MSG_NOSIGNAL)
			return err != syscall.EAGAIN
		})
		if werr != nil {
			return sum, werr
		}
		sum += max(n, 0)
	}
	return sum, err
}

// CloseWrite ends what l sends.
func (l *pipeEnd) CloseWrite() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	defer l.changed.Broadcast()
	return syscall.Shutdown(l.fd, syscall.SHUT_WR)
}

// Close implements net.Conn.
func (l *pipeEnd) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	for i := range l.limits {
		l.limit(i, time.Time{})
	}
	l.changed.Broadcast()
	return syscall.Close(l.fd)
}

// limit sets a deadline.
func (l *pipeEnd) limit(which int, at time.Time) {
	if t := l.limits[which].timer; t != nil {
		t.Stop()
	}
	l.limits[which] = limit{at: at}
	if !at.IsZero() {
		l.limits[which].timer = time.AfterFunc(time.Until(at), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.changed.Broadcast()
		})
	}
}

func (l *pipeEnd) setLimits(at time.Time, which ...int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range which {
		l.limit(i, at)
	}
	l.changed.Broadcast()
	return nil
}

func (l *pipeEnd) SetDeadline(t time.Time) error      { return l.setLimits(t, 0, 1) }
func (l *pipeEnd) SetReadDeadline(t time.Time) error  { return l.setLimits(t, 0) }
func (l *pipeEnd) SetWriteDeadline(t time.Time) error { return l.setLimits(t, 1) }
func (l *pipeEnd) SetLinger(int) error                { return nil }
func (l *pipeEnd) LocalAddr() net.Addr                { return l.addrs[0] }
func (l *pipeEnd) RemoteAddr() net.Addr               { return l.addrs[1] }
