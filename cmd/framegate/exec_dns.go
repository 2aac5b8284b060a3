package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// resolverPort is that of DNS (RFC 1035, Section 4.2).
	resolverPort = 53
	// answerTime is longer than a resolver of libc waits for one answer.
	answerTime = 10 * time.Second
	// maxQueries of the command wait for an answer at one resolver; more are lost,
	// as they may be on any way, and asked again.
	maxQueries = 256
	// mostResolvers is more than libc takes (MAXNS in resolv.h).
	mostResolvers = 8
)

// systemResolvers are the name servers of resolv.conf(5); without any it is the
// one on the loopback. Those of a link of this machine are left out: the command
// has no such link.
func systemResolvers(file string) (list []netip.Addr, err error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() && len(list) < mostResolvers {
		words := strings.Fields(scanner.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(words[1])
		if a = a.Unmap(); err == nil && a.Zone() == "" && !a.IsLinkLocalUnicast() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		list = append(list, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return list, scanner.Err()
}

// A resolverRelay takes the questions that the command asks one name server by
// UDP, and asks that server. By TCP they go through the gateway.
type resolverRelay struct {
	conn   *net.UDPConn // in the namespace, at the server's address
	server netip.AddrPort
	slots  chan struct{}
}

// newResolverRelay listens; it is called in the namespace.
func newResolverRelay(server netip.Addr) (*resolverRelay, error) {
	at := netip.AddrPortFrom(server, resolverPort)
	conn, err := listenAt(at)
	if err != nil {
		return nil, fmt.Errorf("name server %s: %w", server, err)
	}
	return &resolverRelay{conn, at, make(chan struct{}, maxQueries)}, nil
}

// serve relays until conn is closed.
func (r *resolverRelay) serve() {
	buf := make([]byte, 64<<10)
	for {
		n, client, err := r.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case r.slots <- struct{}{}:
		default:
			continue
		}
		question := slices.Clone(buf[:n])
		go func() {
			defer func() { <-r.slots }()
			r.ask(question, client)
		}()
	}
}

// ask hands one question on, from a port of its own, and its answer back. Without
// one the client asks again, or the next server.
func (r *resolverRelay) ask(question []byte, client netip.AddrPort) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.server))
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(answerTime))
	if _, err := c.Write(question); err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	if err == nil {
		r.conn.WriteToUDPAddrPort(buf[:n], client)
	}
}
