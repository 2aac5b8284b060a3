package endtoend

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// checkSource checks from where the origin was reached: from another port than
// the client's, which would be past the gateway, and from its address in mode
// tproxy only.
func checkSource(t *testing.T, g *gateway, server *origin.Conn, client string) {
	t.Helper()
	from, err := netip.ParseAddrPort(server.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	was := netip.MustParseAddrPort(client)
	same := from.Addr().Unmap() == was.Addr().Unmap()
	if same != (g.mode == "tproxy") || same && from.Port() == was.Port() {
		t.Errorf("mode %s: a connection of %s reached the origin from %s", g.mode, client, from)
	}
}

// TestTransparent: in mode tproxy everything is as in the other, but for the
// address that servers see. The gateway has CAP_NET_ADMIN and no other right.
func TestTransparent(t *testing.T) {
	s := newSite(t, settings{policy: sharedPolicy, mode: "tproxy"})
	err := os.Chmod(filepath.Dir(s.dir), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, 65534, 65534)
	})
	if err != nil {
		t.Fatal(err)
	}
	g := s.start(t, nobody(true)...)
	g.log.waitFor(t, audit.PolicyLoad, 1)
	t.Run("serves", func(t *testing.T) {
		for _, part := range []struct {
			name string
			test func(*testing.T, *gateway)
		}{
			{"clients", testClients},
			{"many", testManySources},
			{"bypass", testBypass},
			{"bypass from the client", testBypassSource},
			{"explicit", testExplicitSource},
			{"no server", testNoServer},
			{"http", testHTTP},
			{"own port", testOwnPort},
			{"quic", testQUIC},
			{"own connections", testOwnConnections},
			{"excluded", testExcluded},
		} {
			t.Run(part.name, func(t *testing.T) {
				t.Parallel()
				part.test(t, g)
			})
		}
	})
	checkWholeLog(t, g.log)

	// Rules of the other mode: refused, and told why. Then none of either.
	t.Run("other mode", func(t *testing.T) {
		config, err := os.ReadFile(s.path("framegate.toml"))
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, "framegate.toml", strings.Replace(string(config), `"tproxy"`, `"redirect"`, 1))
		s.framegate(t, "redirect", "up")
		for _, network := range families {
			c, err := s.Dial(soon(t), lab.Client, network, s.address(t, network, chatHost, 443).String())
			if err == nil { // else the reset was faster than connect
				defer c.Close()
				_, err = bufio.NewReader(c).ReadByte()
			}
			if err == nil || !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s: %v, expected a reset", network, err)
			}
		}
		g.console.wait(t, "connection refused", "redirected by rules of another mode")
		s.framegate(t, "redirect", "down")
		left := ""
		for _, command := range []string{"iptables-save", "ip6tables-save", "ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all"} {
			out, err := s.Command(soon(t), lab.Gateway, "sh", "-c", command).Output()
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			left += string(out)
		}
		for _, ours := range []string{"FRAMEGATE", "17991", "0x46475450"} {
			if strings.Contains(left, ours) {
				t.Errorf("down leaves %q in\n%s", ours, left)
			}
		}
	})
}

// testManySources: many connections of one client to one server at once.
func testManySources(t *testing.T, g *gateway) {
	open := map[string]*clients.Raw{} // by what it asked for
	for _, network := range families {
		for i := range 40 {
			target := fmt.Sprintf("/echo?many=%s-%d", network, i)
			c := g.either(t, i%2 == 0, network, chatHost)
			if _, err := c.Upgrade(clients.OddHead(chatHost, target)); err != nil {
				t.Fatal(err)
			}
			open[target] = c
		}
	}
	for target, c := range open {
		c.Send(true, frames.Text, []byte(target))
	}
	for target, c := range open {
		if _, got, err := c.Frame(); err != nil || string(got) != target {
			t.Errorf("%q (%v), expected %q", got, err, target)
		}
		checkSource(t, g, g.serverSide(t, target), c.LocalAddr().String())
		if _, err := c.Bye(frames.NormalClosure, ""); err != nil {
			t.Error(err)
		}
	}
}

// testBypassSource: what is not inspected comes from the client's address, too.
func testBypassSource(t *testing.T, g *gateway) {
	for _, network := range families {
		c := g.dial(t, network, bankHost, 443, clients.Trust(g.pki.Roots(), bankHost))
		target := "/echo?source=" + network
		if _, err := c.Upgrade(clients.OddHead(bankHost, target)); err != nil {
			t.Fatal(err)
		}
		checkSource(t, g, g.serverSide(t, target), c.LocalAddr().String())
		if _, err := c.Bye(frames.NormalClosure, ""); err != nil {
			t.Error(err)
		}
	}
}

// testExplicitSource: beside it the explicit proxy goes on to dial from the
// gateway's own address, for clients that it does not stand in the way of.
func testExplicitSource(t *testing.T, g *gateway) {
	for _, network := range families {
		c, err := g.dialer()(soon(t), network, g.proxyAddress(network))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		host := map[string]string{"tcp4": "v4.", "tcp6": "v6."}[network] + chatHost
		target := "/plain?explicit-source=" + network
		tunnel := &tunnelConn{TCPConn: c.(*net.TCPConn), head: "CONNECT " + host + ":80 HTTP/1.1\r\nHost: " + host + "\r\n\r\n"}
		fmt.Fprintf(tunnel, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, host)
		from := netip.MustParseAddrPort(g.serverSide(t, target).RemoteAddr().String()).Addr().Unmap()
		if client := netip.MustParseAddrPort(c.LocalAddr().String()).Addr().Unmap(); from == client {
			t.Errorf("the origin was reached from the client's address, %s", from)
		}
	}
}

// testNoServer: that nothing listens there is in the log.
func testNoServer(t *testing.T, g *gateway) {
	for _, network := range families {
		c, err := g.dialer()(soon(t), network, g.address(t, network, nodeHost, 80).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /none HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", nodeHost)
		if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 502 ") {
			t.Errorf("%q (%v)", answer, err)
		}
		c.Close()
		if l := lines(g.log.of(t, c.LocalAddr())); !strings.Contains(l, "connection refused") {
			t.Errorf("no reason in\n%s", l)
		}
	}
}
