package intercept

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// option reads an integer option of a socket.
func option(t *testing.T, c any, level, name int) int {
	t.Helper()
	rc, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var v int
	err = control(rc, func(fd int) (err error) {
		v, err = unix.GetsockoptInt(fd, level, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSocketOptions(t *testing.T) {
	ln, err := Listen(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(ln.Addr().(*net.TCPAddr).Port)).String()
	dialled, err := Dialer(0).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	for who, c := range map[string]net.Conn{"dialled": dialled, "accepted": accepted} {
		for _, o := range []struct {
			name              string
			level, opt, value int
		}{
			{"SO_PROTOCOL", unix.SOL_SOCKET, unix.SO_PROTOCOL, unix.IPPROTO_TCP}, // not MPTCP
			{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60},
			{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 30},
			{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 8},
			{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 300_000},
			{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{"SO_MARK", unix.SOL_SOCKET, unix.SO_MARK, 0},
		} {
			if got := option(t, c, o.level, o.opt); got != o.value {
				t.Errorf("%s %s = %d, want %d", who, o.name, got, o.value)
			}
		}
	}
	// An MPTCP listener could not tell the destination of its connections.
	if got := option(t, ln, unix.SOL_SOCKET, unix.SO_PROTOCOL); got != unix.IPPROTO_TCP {
		t.Errorf("listener has protocol %d", got)
	}
	// Both families.
	if got := option(t, ln, unix.SOL_SOCKET, unix.SO_DOMAIN); got != unix.AF_INET6 {
		t.Errorf("listener has domain %d", got)
	}
}

func TestListenErrors(t *testing.T) {
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, tc := range []struct{ addr, want string }{
		{"127.0.0.1:" + port, "bind: address already in use; hint: `ss -ltnp 'sport = :" + port + "'` shows who holds the port"},
		{"192.0.2.1:0", "bind: cannot assign requested address; hint: no interface has this address, see `ip addr`"},
	} {
		_, err := Listen(t.Context(), tc.addr)
		setup := (*SetupError)(nil)
		if !errors.As(err, &setup) || !strings.HasSuffix(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.addr, err)
		}
	}
	if _, err := Listen(t.Context(), "nonsense"); err == nil {
		t.Error("no error for an address without port")
	}
}

func TestOriginalDstDirect(t *testing.T) {
	ln, err := Listen(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	for _, host := range []string{"127.0.0.1", "::1"} {
		addr := netip.AddrPortFrom(netip.MustParseAddr(host), port)
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if dst, err := OriginalDst(accepted); !errors.Is(err, ErrNotRedirected) || dst.IsValid() {
			t.Errorf("%s: %v, %v", host, dst, err)
		}
		accepted.Close()
		if _, err := OriginalDst(accepted); err == nil || errors.Is(err, ErrNotRedirected) {
			t.Errorf("closed connection: %v", err)
		}
		c.Close()
	}
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	if _, err := OriginalDst(server); err == nil || !strings.Contains(err.Error(), "is no TCP socket") {
		t.Errorf("pipe: %v", err)
	}
}

func TestExplainOriginalDst(t *testing.T) {
	for _, tc := range []struct {
		errno     error
		conntrack bool
		want      error
	}{
		{unix.ENOENT, true, ErrNotRedirected},
		{unix.ENOENT, false, ErrNotRedirected},
		{unix.ENOPROTOOPT, true, ErrNotRedirected},
		{unix.ENOPROTOOPT, false, ErrNoConntrack},
		{unix.EBADF, true, unix.EBADF},
	} {
		if got := explainOriginalDst(tc.errno, tc.conntrack); !errors.Is(got, tc.want) {
			t.Errorf("%v, conntrack %v: %v, want %v", tc.errno, tc.conntrack, got, tc.want)
		}
	}
}

func TestDialerHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dialer(0).DialContext(ctx, "tcp", "127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
