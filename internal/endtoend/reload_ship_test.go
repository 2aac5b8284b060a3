package endtoend

import (
	"crypto/tls"
	"io"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/internal/lab"
	"framegate/internal/lab/origin"
)

// TestReloadShipCertificate: a certificate that was renewed under the same name is
// the one that the collector sees after a reload, and one without its key is none.
func TestReloadShipCertificate(t *testing.T) {
	s := newSite(t, settings{})
	config, err := s.pki.Config(origin.Leaf{Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	config.ClientAuth = tls.RequireAnyClientCert
	ln, err := s.Listen(t.Context(), lab.Gateway, "tcp", "127.0.0.1:6514")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	seen := make(chan string, 100) // serial numbers of certificates
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				secure := tls.Server(c, config)
				if secure.Handshake() == nil {
					seen <- secure.ConnectionState().PeerCertificates[0].SerialNumber.String()
				}
				io.Copy(io.Discard, secure)
			}()
		}
	}()
	issue := func() (serial, certificate, key string) {
		t.Helper()
		c, k, err := s.pki.IssuePEM(origin.Leaf{Names: []string{"gateway.demo.test"}})
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(c, k)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.String(), string(c), string(k)
	}
	comes := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Fatalf("the collector has seen certificate %s, expected %s", got, want)
			}
		case <-soon(t).Done():
			t.Fatal("nothing comes to the collector")
		}
	}
	first, certificate, key := issue()
	s.write(t, "ship.pem", certificate)
	s.write(t, "ship.key", key)
	before, err := os.ReadFile(s.path("framegate.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "framegate.toml", string(before)+"ship = [\"syslog+tls://127.0.0.1:6514\"]\nship_roots = [\""+s.path("origin-root.pem")+"\"]\n"+
		"ship_cert = \""+s.path("ship.pem")+"\"\nship_key = \""+s.path("ship.key")+"\"\n")
	g := s.start(t)
	comes(first)

	second, certificate, key := issue()
	s.write(t, "ship.pem", certificate)
	g.signal(t, syscall.SIGHUP)
	g.console.wait(t, "configuration rejected", "audit.ship_cert")
	g.log.waitFor(t, audit.ConfigReject, 1)

	s.write(t, "ship.key", key)
	g.signal(t, syscall.SIGHUP)
	g.console.wait(t, "configuration unchanged")
	comes(second)
}
