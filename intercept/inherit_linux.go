package intercept

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inherit makes of ln, which another process has bound (a socket unit of
// systemd, or a gateway that hands over), a listener as [Listen] would: its
// connections have the same keepalive and user timeout. ln belongs to the
// result, and is closed with an error.
func Inherit(ln net.Listener) (_ net.Listener, err error) {
	defer func() {
		if err != nil {
			ln.Close()
		}
	}()
	t, ok := ln.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("expected a TCP socket, not one of %s %s", ln.Addr().Network(), ln.Addr())
	}
	rc, err := t.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := control(rc, defaultUserTimeout); errors.Is(err, unix.ENOPROTOOPT) {
		return nil, errors.New("expected plain TCP: a Multipath TCP socket (SocketProtocol=mptcp) does not know SO_ORIGINAL_DST")
	} else if err != nil {
		return nil, err
	}
	return inherited{listener{t}}, nil
}

// An inherited sets on each connection what package net would have set by
// itself on those of its own listeners.
type inherited struct{ listener }

func (l inherited) Accept() (net.Conn, error) {
	c, err := l.listener.Accept()
	if t, ok := c.(*net.TCPConn); ok {
		t.SetKeepAliveConfig(keepAlive)
	}
	return c, err
}

// Descriptor returns a copy of the descriptor of ln, for another process to go
// on with. The socket listens until both are closed. It stays non-blocking,
// which is a property of the socket and not of a copy: what [os.File.Fd] does to
// the file that [net.TCPListener.File] returns would reach the Accept that waits.
func Descriptor(ln net.Listener) (*os.File, error) {
	c, ok := ln.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T has no descriptor", ln)
	}
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	if err := control(rc, func(of int) (err error) {
		fd, err = unix.FcntlInt(uintptr(of), unix.F_DUPFD_CLOEXEC, 0)
		return os.NewSyscallError("fcntl", err)
	}); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), ln.Addr().String()), nil
}
