package intercept

import (
	"errors"
	"fmt"
	"net"

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
	if err := control(rc, setUserTimeout); errors.Is(err, unix.ENOPROTOOPT) {
		return nil, errors.New("expected plain TCP: a Multipath TCP socket (SocketProtocol=mptcp) does not know SO_ORIGINAL_DST")
	} else if err != nil {
		return nil, err
	}
	return inherited{t}, nil
}

// An inherited sets on each connection what package net would have set by
// itself on those of its own listeners.
type inherited struct{ *net.TCPListener }

func (l inherited) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	c.SetKeepAliveConfig(keepAlive)
	return c, nil
}
