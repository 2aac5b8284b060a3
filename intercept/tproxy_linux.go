package intercept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Transparent lets ln, of [Listen] or [Inherit], accept what TPROXY rules
// assign to it: connections to addresses that this machine does not have.
// Their destination is their local address, see [LocalDst].
func Transparent(ln net.Listener) error {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return fmt.Errorf("transparent: %T is no socket", ln)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	return control(rc, func(fd int) error {
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return err
		}
		return setTransparent(fd, domain == unix.AF_INET6)
	})
}

// setTransparent sets one flag of the socket by either option (ip(7),
// ipv6_sockglue.c): on a dual-stack socket it is good for IPv4 as well.
func setTransparent(fd int, v6 bool) error {
	name, err := "IP_TRANSPARENT", error(nil)
	if v6 {
		name = "IPV6_TRANSPARENT"
		err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
	} else {
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return &SetupError{fmt.Errorf("set %s: %w", name, err), `intercept.mode "tproxy" needs CAP_NET_ADMIN: run as root or grant it to the service`}
	}
	return fmt.Errorf("set %s: %w", name, err)
}

// LocalDst returns what is to a transparent listener, whose address is given,
// what [OriginalDst] is to others. The error is [ErrNotRedirected] for a
// connection made straight to its port, which [Rules.Validate] keeps from being
// captured, and [ErrOtherMode] for one that came there by a REDIRECT rule.
func LocalDst(listener net.Addr) func(net.Conn) (netip.AddrPort, error) {
	own, _ := listener.(*net.TCPAddr)
	return func(c net.Conn) (netip.AddrPort, error) {
		local, ok := c.LocalAddr().(*net.TCPAddr)
		if !ok || own == nil {
			return netip.AddrPort{}, fmt.Errorf("destination: %T is no TCP socket", c)
		}
		dst := netip.AddrPortFrom(local.AddrPort().Addr().Unmap().WithZone(""), local.AddrPort().Port())
		if int(dst.Port()) != own.Port {
			return dst, nil
		}
		if _, err := OriginalDst(c); err == nil {
			return netip.AddrPort{}, ErrOtherMode
		}
		return netip.AddrPort{}, ErrNotRedirected
	}
}

type sourceKey struct{}

// KeepSource makes of h a Handler under whose context a [Dialer] dials from the
// address of the client. The port is another one, which the kernel picks: that
// of the client may still be in use by what was there before, in TIME_WAIT for
// a minute after its end, and connection tracking would take both connections
// for one.
func KeepSource(h Handler) Handler {
	return func(ctx context.Context, c net.Conn, dst netip.AddrPort) {
		if client, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			ctx = context.WithValue(ctx, sourceKey{}, client.AddrPort().Addr().Unmap())
		}
		h(ctx, c, dst)
	}
}

// bindSource binds fd to the address that ctx says, if it says one.
func bindSource(ctx context.Context, fd int, v6 bool) error {
	source, ok := ctx.Value(sourceKey{}).(netip.Addr)
	if !ok {
		return nil
	}
	if source.Is6() != v6 {
		return fmt.Errorf("the address of the client, %s, is not of the server's family", source)
	}
	if err := setTransparent(fd, v6); err != nil {
		return err
	}
	// The port is chosen by connect, so that it has to be free for this
	// destination only, not for all at once (ip(7)).
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	var sa unix.Sockaddr
	if v6 {
		sa = &unix.SockaddrInet6{Addr: source.As16()}
	} else {
		sa = &unix.SockaddrInet4{Addr: source.As4()}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("bind to the address of the client, %s: %w", source, err)
	}
	return nil
}
