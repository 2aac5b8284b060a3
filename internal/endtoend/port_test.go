package endtoend

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"framegate/internal/lab"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// testOwnPort: who dials the gateway's port itself is refused, and the log says
// why.
func testOwnPort(t *testing.T, g *gateway) {
	for _, v6 := range []bool{false, true} {
		at := netip.AddrPortFrom(g.Addr(lab.Gateway, v6), 8443).String()
		c, err := g.dialer()(soon(t), "tcp", at)
		if err == nil { // else the reset was faster than connect
			defer c.Close()
			deadline, _ := soon(t).Deadline()
			c.SetDeadline(deadline)
			_, err = c.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, expected a reset", at, err)
		}
		g.console.wait(t, "connection refused", "local="+at, "connection made straight to this port, not redirected to it")
	}
}

// testQUIC: a client that tries HTTP/3 is told at once to take TCP, although a
// server is there.
func testQUIC(t *testing.T, g *gateway) {
	for _, network := range families {
		addr := g.address(t, network, chatHost, 443).Addr()
		received := make(chan string, 2)
		for _, port := range []uint16{443, 444} {
			var server net.PacketConn
			err := g.Do(lab.Server, func() (err error) {
				server, err = net.ListenPacket("udp", netip.AddrPortFrom(addr, port).String())
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			go func() {
				b := make([]byte, 100)
				if n, _, err := server.ReadFrom(b); err == nil {
					received <- string(b[:n])
				}
			}()
		}
		send := func(port uint16) net.Conn {
			ctx := soon(t)
			c, err := g.Dial(ctx, lab.Client, "udp", netip.AddrPortFrom(addr, port).String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			deadline, _ := ctx.Deadline()
			c.SetDeadline(deadline)
			if _, err := io.WriteString(c, netip.AddrPortFrom(addr, port).String()); err != nil {
				t.Fatal(err)
			}
			return c
		}
		quic := send(443)
		if _, err := quic.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("UDP/443 by %s: %v", network, err)
		}
		// Any other port is nobody's business, and shows that the server hears.
		send(444)
		select {
		case got := <-received:
			if want := netip.AddrPortFrom(addr, 444).String(); got != want {
				t.Errorf("the server received what was sent to %s", got)
			}
		case <-soon(t).Done():
			t.Error("UDP/444 does not arrive")
		}
	}
}

// testOwnConnections: connections of the gateway's machine are not captured.
// That those of the gateway itself are not is seen in the log, which has
// connections of the client alone.
func testOwnConnections(t *testing.T, g *gateway) {
	for _, network := range families {
		c, err := clients.DialRaw(soon(t), clients.RawOptions{
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				return g.Dial(ctx, lab.Gateway, network, address)
			},
			Network: network, Address: chatHost + ":443", TLS: clients.Trust(g.pki.Roots(), chatHost),
		})
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		defer c.Cut()
		io.WriteString(c, "GET /plain HTTP/1.1\r\nHost: "+chatHost+"\r\nConnection: close\r\n\r\n")
		answer, err := c.Rest()
		if err != nil || !strings.HasSuffix(string(answer), origin.PlainText) {
			t.Errorf("%q (%v)", answer, err)
		}
	}
}

// testExcluded: what is excluded goes its way without the gateway.
func testExcluded(t *testing.T, g *gateway) {
	for _, network := range families {
		c := g.dial(t, network, pageHost, 80, nil)
		io.WriteString(c, "GET /plain?excluded="+network+" HTTP/1.1\r\nHost: "+pageHost+"\r\nConnection: close\r\n\r\n")
		if answer, err := c.Rest(); err != nil || !strings.HasSuffix(string(answer), origin.PlainText) {
			t.Errorf("%q (%v)", answer, err)
		}
		if server := g.serverSide(t, "/plain?excluded="+network); server.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("the server was reached from %s and not from %s", server.RemoteAddr(), c.LocalAddr())
		}
	}
}
