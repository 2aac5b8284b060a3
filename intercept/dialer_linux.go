package intercept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keepAlive and userTimeout say the same twice, once for an idle connection
// and once for one with bytes on the way: a peer that has acknowledged nothing
// for five minutes is gone. An idle connection is probed after 60 s and then
// every 30 s, which also keeps the state of middleboxes; the ninth silence
// ends it, 60 + 8*30 = 300 s. Linux lets TCP_USER_TIMEOUT override the number
// of probes (tcp(7)), so the two must agree.
//
// The same timeout would end a peer that acknowledges but keeps its window shut
// for as long. That is a paused application and not a dead one: see [windows].
//
// A probe a minute is also more often than anything on the way forgets: conntrack
// keeps an established connection for five days (nf_conntrack_tcp_timeout_established),
// and a NAT must for two hours and four minutes (RFC 5382, Section 5, REQ-5),
// though some do for five minutes only. Tests shorten both.
var (
	keepAlive = net.KeepAliveConfig{
		Enable:   true,
		Idle:     60 * time.Second,
		Interval: 30 * time.Second,
		Count:    8,
	}
	userTimeout = 5 * time.Minute
)

// Dialer returns a dialer for connections to the servers. mark is the SO_MARK
// of every socket, by which the rules know our own traffic; 0 sets none.
// Marking takes CAP_NET_ADMIN, without which each dial fails with a
// [SetupError]; [CheckMark] says so beforehand. The dialer sets no timeout:
// that is the caller's context. Under that of a [KeepSource] handler it dials
// from the client's address, else from this machine's.
func Dialer(mark uint32) *net.Dialer {
	d := &net.Dialer{
		KeepAliveConfig: keepAlive,
		ControlContext: func(ctx context.Context, network, _ string, rc syscall.RawConn) error {
			err := control(rc, func(fd int) error {
				if err := setMark(fd, mark); err != nil {
					return err
				}
				if !strings.HasPrefix(network, "tcp") {
					return nil
				}
				if err := bindSource(ctx, fd, network == "tcp6"); err != nil {
					return err
				}
				return defaultUserTimeout(fd)
			})
			if err == nil && strings.HasPrefix(network, "tcp") {
				allWindows.add(rc)
			}
			return err
		},
	}
	d.SetMultipathTCP(false)
	return d
}

// CheckMark reports whether this process may mark its sockets.
func CheckMark(mark uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return setMark(fd, mark)
}

// Listen listens on a TCP address such as ":8443", for both families if it
// names none. Accepted connections inherit keepalive and user timeout.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{
		KeepAliveConfig: keepAlive,
		Control: func(_, _ string, rc syscall.RawConn) error {
			return control(rc, defaultUserTimeout)
		},
	}
	// Go listens for Multipath TCP by default, but an MPTCP socket does not
	// know SO_ORIGINAL_DST. Without it such a client falls back to plain TCP.
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", addr)
	_, port, _ := net.SplitHostPort(addr)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, &SetupError{err, fmt.Sprintf("`ss -ltnp 'sport = :%s'` shows who holds the port", port)}
	case errors.Is(err, unix.EACCES):
		return nil, &SetupError{err, "a port below 1024 takes root or CAP_NET_BIND_SERVICE"}
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, &SetupError{err, "no interface has this address, see `ip addr`"}
	}
	if t, ok := ln.(*net.TCPListener); ok {
		return listener{t}, nil
	}
	return ln, err
}

// control runs set on the descriptor of rc.
func control(rc syscall.RawConn, set func(fd int) error) error {
	var serr error
	if err := rc.Control(func(fd uintptr) { serr = set(int(fd)) }); err != nil {
		return err
	}
	return serr
}

func setMark(fd int, mark uint32) error {
	if mark == 0 {
		return nil
	}
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return &SetupError{fmt.Errorf("set SO_MARK %#x: %w", mark, err), "needs CAP_NET_ADMIN: run as root or grant it to the service"}
	}
	return fmt.Errorf("set SO_MARK %#x: %w", mark, err)
}

func defaultUserTimeout(fd int) error { return setUserTimeout(fd, userTimeout) }

func setUserTimeout(fd int, d time.Duration) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	return os.NewSyscallError("setsockopt TCP_USER_TIMEOUT", err)
}
