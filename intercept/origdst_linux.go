package intercept

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Both families use the number 80, each at its own level: SO_ORIGINAL_DST in
// linux/netfilter_ipv4.h, IP6T_SO_ORIGINAL_DST in
// linux/netfilter_ipv6/ip6_tables.h.
const soOriginalDst = 80

// OriginalDst returns the destination that the client of c dialled before a
// REDIRECT rule sent it to us. An IPv4 address is returned as such, never
// mapped into IPv6. The error is [ErrNotRedirected] for a connection made
// straight to our port and [ErrNoConntrack] if the kernel cannot know.
func OriginalDst(c net.Conn) (netip.AddrPort, error) {
	sc, ok := c.(syscall.Conn)
	tcp, isTCP := c.LocalAddr().(*net.TCPAddr)
	if !ok || !isTCP {
		return netip.AddrPort{}, fmt.Errorf("original destination: %T is no TCP socket", c)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination: %w", err)
	}
	// The family of the connection decides, and not that of the socket: IPv4
	// on a dual-stack socket is tracked as IPv4. Its local address is mapped.
	local := netip.AddrPortFrom(tcp.AddrPort().Addr().Unmap().WithZone(""), tcp.AddrPort().Port())
	get := originalDst6
	if local.Addr().Is4() {
		get = originalDst4
	}
	var dst netip.AddrPort
	var errno error
	if err := rc.Control(func(fd uintptr) { dst, errno = get(int(fd)) }); err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination: %w", err)
	}
	if errno != nil {
		return netip.AddrPort{}, explainOriginalDst(errno, conntrackLoaded())
	}
	// A tracked connection that nothing redirected has an entry as well; there
	// the original destination is where it arrived.
	if dst == local {
		return netip.AddrPort{}, ErrNotRedirected
	}
	return dst, nil
}

// originalDst4 reads a struct sockaddr_in through the one 20-byte getter of
// x/sys/unix: family (2 bytes), port (2, network order), address (4).
func originalDst4(fd int) (netip.AddrPort, error) {
	sa, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := sa.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// originalDst6 reads a struct sockaddr_in6, which an ip6_mtuinfo begins with.
// The zone is left out: a link-local destination is on this link only and is
// not ours to forward.
func originalDst6(fd int) (netip.AddrPort, error) {
	info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var port [2]byte // the field holds the bytes as they are on the wire
	binary.NativeEndian.PutUint16(port[:], info.Addr.Port)
	return netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), binary.BigEndian.Uint16(port[:])), nil
}

// explainOriginalDst turns the errno of the socket option into an error.
// ENOENT is an untracked connection; ENOPROTOOPT is a family whose tracking
// has not registered the option.
func explainOriginalDst(err error, conntrack bool) error {
	switch {
	case errors.Is(err, unix.ENOPROTOOPT) && !conntrack:
		return ErrNoConntrack
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOPROTOOPT):
		return ErrNotRedirected
	}
	return fmt.Errorf("original destination: %w", os.NewSyscallError("getsockopt", err))
}

func conntrackLoaded() bool {
	_, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max")
	return err == nil
}
