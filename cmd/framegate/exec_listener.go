package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
)

// A commandListener accepts what the command of exec dials. Connections arrive
// under the address that they were made to, whatever it is.
type commandListener struct {
	net.Listener
	gateway *gateway
	ports   []uint16 // that are intercepted; nil: all

	passing sync.WaitGroup
	mu      sync.Mutex
	passed  map[*net.TCPConn]bool // and open, both sides; nil: none any more
	over    bool
}

// destination is what intercept.OriginalDst is to others.
//
// "localhost" is two addresses, and a program tries the second if the first
// refuses, which we do not: so for the loopback it is the one at which somebody
// listens. If nobody seems to, the connection fails as it comes.
func (l *commandListener) destination(c net.Conn) (netip.AddrPort, error) {
	a, _ := c.LocalAddr().(*net.TCPAddr)
	dst := netip.AddrPortFrom(a.AddrPort().Addr().Unmap().WithZone(""), a.AddrPort().Port())
	if other, ok := otherLoopback[dst.Addr()]; ok && !listens(dst) {
		if other := netip.AddrPortFrom(other, dst.Port()); listens(other) {
			return other, nil
		}
	}
	return dst, nil
}

var loopback4, loopback6 = netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()

var otherLoopback = map[netip.Addr]netip.Addr{loopback4: loopback6, loopback6: loopback4}

// listens reports whether somebody on this machine listens at an address of the
// loopback, by the list of the kernel (proc_net_tcp.rst), which disturbs nobody.
func listens(at netip.AddrPort) bool {
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	if at.Addr().Is4() {
		mapped := netip.AddrFrom16(at.Addr().As16())
		return listed("/proc/net/tcp", at.Port(), at.Addr(), any4) || listed("/proc/net/tcp6", at.Port(), mapped, any6)
	}
	return listed("/proc/net/tcp6", at.Port(), at.Addr(), any6)
}

// listed reports whether a file has a socket that listens (state 0A) at port of
// one of the addresses, which are there as words of this machine's byte order.
func listed(file string, port uint16, addresses ...netip.Addr) bool {
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	var wanted []string
	for _, a := range addresses {
		s := ""
		for word := range slices.Chunk(a.AsSlice(), 4) {
			s += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(word))
		}
		wanted = append(wanted, fmt.Sprintf("%s:%04X", s, port))
	}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) > 3 && words[3] == "0A" && slices.Contains(wanted, words[1]) {
			return true
		}
	}
	return false
}

// Accept returns what is to be intercepted, and sees to the rest.
func (l *commandListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		dst, _ := l.destination(c)
		tcp, ok := c.(*net.TCPConn)
		if !ok || l.ports == nil || slices.Contains(l.ports, dst.Port()) {
			return c, nil
		}
		l.passing.Go(func() { l.pass(tcp, dst) })
	}
}

// pass carries what is not intercepted.
func (l *commandListener) pass(client *net.TCPConn, dst netip.AddrPort) {
	defer client.Close()
	settings := l.gateway.settings.Load()
	ctx, cancel := context.WithTimeout(context.Background(), settings.HandshakeTimeout)
	defer cancel()
	c, err := settings.Dialer.DialContext(ctx, "tcp", dst.String())
	if err != nil {
		client.SetLinger(0) // a reset: nobody is there
		return
	}
	defer c.Close()
	server := c.(*net.TCPConn)
	if !l.hold(client, server) {
		return
	}
	defer l.drop(client, server)
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(client, server)
		client.CloseWrite()
	})
	io.Copy(server, client)
	server.CloseWrite()
	back.Wait()
}

func (l *commandListener) hold(conns ...*net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.passed == nil {
		l.passed = make(map[*net.TCPConn]bool)
	}
	for _, c := range conns {
		l.passed[c] = true
	}
	return !l.over
}

func (l *commandListener) drop(conns ...*net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		delete(l.passed, c)
	}
}

// end ends what passes, and returns once it has.
func (l *commandListener) end() {
	l.mu.Lock()
	l.over = true
	for c := range l.passed {
		c.Close()
	}
	l.mu.Unlock()
	l.passing.Wait()
}
