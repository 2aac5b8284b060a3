package endtoend

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"framegate/internal/lab"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// The hosts besides those of every lab.
const (
	chatHost      = "chat.demo.test"
	bankHost      = "bank.demo.test"
	blockedHost   = "blocked.demo.test"
	expiredHost   = "expired.demo.test"
	notYetHost    = "not-yet.demo.test"
	wrongHost     = "wrong.demo.test"
	selfHost      = "self.demo.test"
	untrustedHost = "untrusted.demo.test"
	mailHost      = "mail.demo.test"     // speaks first, on port 443
	personalHost  = "personal.demo.test" // asks for a client certificate
	rsaHost       = "rsa.demo.test"      // has an RSA key
	pageHost      = "page.demo.test"     // excluded from capture
	nodeHost      = "node.demo.test"     // a server of its own
	pythonHost    = "python.demo.test"   // as well
)

var moreHosts = []string{notYetHost, wrongHost, selfHost, untrustedHost, mailHost, personalHost, rsaHost, pageHost, nodeHost, pythonHost}

// families are the networks that everything has to work in.
var families = []string{"tcp4", "tcp6"}

// A site is a network with an origin in it and all that a gateway needs.
type site struct {
	*lab.Net
	origin *origin.Server
	pki    *origin.PKI
	dir    string         // configuration, policy, authority and log
	flags  []string       // of run
	mode   string         // intercept.mode
	roots  *x509.CertPool // framegate's root, and nothing else
}

// settings are what differs between the gateways of these tests.
type settings struct {
	policy string
	mode   string // intercept.mode; empty: redirect
	drain  string // limits.drain_timeout; empty: 1s
	spread string // limits.drain_spread; empty: 0s
	limits string // further lines of [limits]
}

// newSite makes a network, an authority and the redirect rules. All is taken
// down with the test.
func newSite(t *testing.T, o settings) *site {
	t.Helper()
	n, err := lab.Up(t.Context(), lab.Options{Hosts: moreHosts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Down(); err != nil {
			t.Error(err)
		}
		if left := n.Leftovers(); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	s := &site{Net: n, origin: origin.New(), dir: t.TempDir()}
	t.Cleanup(func() { s.origin.Close() })
	s.origin.HandleHTTP("/page", clients.Page())
	s.serve(t)
	s.write(t, "origin-root.pem", string(s.pki.RootPEM()))
	s.write(t, "policy.toml", o.policy)
	if s.mode = o.mode; s.mode == "" {
		s.mode = "redirect"
	}
	if o.drain == "" {
		o.drain = "1s"
	}
	if o.spread == "" {
		o.spread = "0s"
	}
	s.write(t, "framegate.toml", fmt.Sprintf(`
[intercept]
mode       = %q
interfaces = [%q]
exclude    = [%q, %q]
explicit   = ":8080"
[ca]
dir = %q
[tls]
upstream_roots = [%q]
[limits]
drain_timeout = %q
drain_spread = %q
%s
[policy]
files = [%q]
[audit]
dir   = %q
level = "frames"
`, s.mode, lab.ClientLink, s.address(t, "tcp4", pageHost, 0).Addr().String()+"/32", s.address(t, "tcp6", pageHost, 0).Addr().String()+"/128",
		s.path("ca"), s.path("origin-root.pem"), o.drain, o.spread, o.limits, s.path("policy.toml"), s.path("audit")))

	s.framegate(t, "ca", "init")
	s.framegate(t, "redirect", "up")
	root := s.framegate(t, "ca", "export")
	s.write(t, "root.pem", root)
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM([]byte(root))
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// serve starts the origin: port 80 and 443 of every host that has no server of
// its own.
func (s *site) serve(t *testing.T) {
	t.Helper()
	var err error
	if s.pki, err = origin.NewPKI(); err != nil {
		t.Fatal(err)
	}
	config, err := s.pki.Config(
		// The first one is also for clients without SNI.
		origin.Leaf{Names: []string{chatHost, "v4." + chatHost, "v6." + chatHost}, Addrs: s.Lookup(chatHost)},
		origin.Leaf{Names: []string{rsaHost}, Key: origin.RSA2048},
		origin.Leaf{Names: []string{bankHost, blockedHost, personalHost}},
		origin.Leaf{Names: []string{expiredHost}, Defect: origin.Expired},
		origin.Leaf{Names: []string{notYetHost}, Defect: origin.NotYetValid},
		origin.Leaf{Names: []string{wrongHost}, Defect: origin.WrongHost},
		origin.Leaf{Names: []string{selfHost}, Defect: origin.SelfSigned},
		origin.Leaf{Names: []string{untrustedHost}, Defect: origin.UntrustedRoot},
	)
	if err != nil {
		t.Fatal(err)
	}
	personal := config.Clone()
	personal.ClientAuth = tls.RequireAnyClientCert
	for _, host := range append(append([]string(nil), lab.DefaultHosts...), moreHosts...) {
		if host == nodeHost || host == pythonHost {
			continue
		}
		for _, addr := range s.Lookup(host) {
			switch ln := s.listen(t, netip.AddrPortFrom(addr, 443)); host {
			case mailHost:
				s.origin.ServeBanner(ln)
			case personalHost:
				s.origin.ServeTLS(ln, personal)
			default:
				s.origin.ServeTLS(ln, config)
			}
			s.origin.ServePlain(s.listen(t, netip.AddrPortFrom(addr, 80)))
		}
	}
}

func (s *site) listen(t *testing.T, at netip.AddrPort) net.Listener {
	t.Helper()
	ln, err := s.Listen(t.Context(), lab.Server, "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// framegate runs a command in the gateway, which has to succeed, and returns
// its output.
func (s *site) framegate(t *testing.T, args ...string) string {
	t.Helper()
	cmd := s.Command(soon(t), lab.Gateway, program, append([]string{"--config", s.path("framegate.toml")}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("framegate %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out)
}

// address is where a host is in one family.
func (s *site) address(t *testing.T, network, host string, port uint16) netip.AddrPort {
	t.Helper()
	for _, a := range s.Lookup(host) {
		if a.Is4() == (network == "tcp4") {
			return netip.AddrPortFrom(a, port)
		}
	}
	t.Fatalf("%s has no address for %s", host, network)
	return netip.AddrPort{}
}

// dial connects the client to host, with config over it unless that is nil.
func (s *site) dial(t *testing.T, network, host string, port uint16, config *tls.Config) *clients.Raw {
	t.Helper()
	c, err := clients.DialRaw(soon(t), clients.RawOptions{
		Dial: s.dialer(), Network: network, Address: s.address(t, network, host, port).String(), TLS: config,
	})
	if err != nil {
		t.Fatalf("%s over %s: %v", host, network, err)
	}
	t.Cleanup(func() { c.Cut() })
	return c
}

// wss connects the client to host as a client that trusts framegate does.
func (s *site) wss(t *testing.T, network, host string) *clients.Raw {
	t.Helper()
	return s.dial(t, network, host, 443, clients.Trust(s.roots, host))
}

// either connects to the host of the same name with TLS or without.
func (s *site) either(t *testing.T, secure bool, network, host string) *clients.Raw {
	t.Helper()
	if secure {
		return s.wss(t, network, host)
	}
	return s.dial(t, network, host, 80, nil)
}

func (s *site) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return s.Dial(ctx, lab.Client, network, address)
	}
}

// machine is where real clients run: it trusts framegate's root.
func (s *site) machine(t *testing.T) clients.Host {
	t.Helper()
	return clients.Host{
		Command: func(ctx context.Context, name string, args ...string) *exec.Cmd {
			return s.Command(ctx, lab.Client, name, args...)
		},
		Roots: s.path("root.pem"),
		Home:  t.TempDir(),
	}
}

// serverSide waits for the origin's side of the connection that asked for uri.
func (s *site) serverSide(t *testing.T, uri string) *origin.Conn {
	t.Helper()
	c, err := s.origin.Find(soon(t), uri)
	if err != nil {
		t.Fatalf("the origin was not asked for %s: %v", uri, err)
	}
	return c
}

// finished waits until the origin has closed its side.
func finished(t *testing.T, c *origin.Conn) {
	t.Helper()
	select {
	case <-c.Done():
	case <-soon(t).Done():
		t.Fatal("the origin's side does not end")
	}
}

// exitCode is what a finished command exited with.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}
