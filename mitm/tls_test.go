package mitm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"framegate/audit"
	"framegate/mitm/chain"
)

// unreachable returns an address that nobody listens on.
func unreachable(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return addrPort(ln.Addr())
}

// get makes a request on c and returns the answer with its body.
func get(t *testing.T, c net.Conn, host string) (status int, body string) {
	t.Helper()
	send(t, c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
	return answer(t, newReader(c))
}

func TestServerIsVerifiedFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cert, reason string
		alert        tls.AlertError
	}{
		{"expired", string(chain.Expired), 45},
		{"not-yet", string(chain.NotYetValid), 45},
		{"wrong-name", string(chain.NameMismatch), 42},
		{"untrusted", string(chain.Untrusted), 48},
		{"self-signed", string(chain.SelfSigned), 48},
		{"", tlsUnreachable, alertInternalError},
	} {
		for _, sni := range []string{originName, ""} {
			if sni == "" && tt.cert == "wrong-name" {
				continue // there is no name to be wrong
			}
			t.Run(tt.cert+" "+sni, func(t *testing.T) {
				t.Parallel()
				dst := netip.AddrPort{}
				var o *origin
				if tt.cert == "" {
					dst = unreachable(t)
				} else {
					o = newHTTPOrigin(t, secure(tt.cert), http.NotFoundHandler())
					dst = o.addr
				}
				g := newGateway(t, dst, "")
				config := g.trust(originName)
				if sni == "" {
					config = &tls.Config{InsecureSkipVerify: true}
				}
				err := tls.Client(g.dial(), config).Handshake()
				if err == nil || !strings.Contains(err.Error(), tt.alert.Error()) {
					t.Errorf("client: %v, want alert %v", err, tt.alert)
				}
				e := g.ended(1)
				if e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tt.reason+": ") {
					t.Errorf("%+v", e)
				}
				if list := g.ledger.of(audit.TLSFail); len(list) != 1 || list[0].Reason != e.Reason || list[0].SNI != sni {
					t.Errorf("%s", g.ledger)
				}
				if n := g.certs.asked.Load(); n > 0 {
					t.Errorf("%d leaves were asked for", n)
				}
				if got := g.destinations(); !slices.Equal(got, []string{dst.String()}) {
					t.Errorf("dialled %v, want %v", got, dst)
				}
			})
		}
	}
}

// A server's chain may have intermediates, and the session with it be resumed.
func TestIntermediate(t *testing.T) {
	p := originPKI()
	between := issue(x509.Certificate{
		Subject: pkix.Name{CommonName: "intermediate"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: p.root.Leaf.NotBefore, NotAfter: p.root.Leaf.NotAfter,
	}, &p.root)
	leaf := issue(x509.Certificate{DNSNames: []string{originName}, NotBefore: p.root.Leaf.NotBefore, NotAfter: p.root.Leaf.NotAfter}, &between)
	leaf.Certificate = append(leaf.Certificate, between.Certificate...)
	o := newHTTPOrigin(t, &tls.Config{Certificates: []tls.Certificate{leaf}}, http.NotFoundHandler())
	g := newGateway(t, o.addr, "")
	for _, sni := range []bool{true, false, true, false} {
		config := g.trust(originName)
		if !sni {
			config.InsecureSkipVerify, config.ServerName = true, ""
		}
		c := g.dialTLS(config)
		if status, _ := get(t, c, originName); status != 404 {
			t.Errorf("status %d", status)
		}
		c.Close()
	}
}

// What the server sees of a connection that is refused is a handshake of ours:
// neither the client's hello nor anything behind it.
func TestHelloIsNotForwarded(t *testing.T) {
	seen := make(chan *tls.ClientHelloInfo, 1)
	config := secure("untrusted")
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		seen <- h
		return nil, nil
	}
	o := newHTTPOrigin(t, config, http.NotFoundHandler())
	g := newGateway(t, o.addr, "")
	raw := &tap{TCPConn: g.dial()}
	c := g.trust(originName)
	c.NextProtos = []string{"h2", "odd", "http/1.1"}
	if err := tls.Client(raw, c).Handshake(); err == nil {
		t.Error("the client was let in")
	}
	g.ended(1)
	if hello := <-seen; !slices.Equal(hello.SupportedProtos, alpn) || hello.ServerName != originName {
		t.Errorf("the server was shown %q, %q", hello.SupportedProtos, hello.ServerName)
	}
	random := raw.sent()[11 : 11+32]
	if strings.Contains(o.received(), random) {
		t.Error("the client's hello reached the server")
	}
}

func TestClients(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		adjust func(*tls.Config)
		key    x509.PublicKeyAlgorithm
	}{
		{"1.3", func(*tls.Config) {}, x509.ECDSA},
		{"1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, x509.ECDSA},
		{"1.2 RSA", func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}, x509.RSA},
		{"no ALPN", func(c *tls.Config) { c.NextProtos = nil }, x509.ECDSA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := secure("valid") // for clients that cannot ECDSA, with RSA, which alone is then offered to it
			if tt.key == x509.RSA {
				p := newBadPKI(t)
				server.Certificates[0] = p.issue(x509.Certificate{DNSNames: []string{originName}, PublicKey: rsaKey(t, 2048)}, &originPKI().root)
			}
			o := newHTTPOrigin(t, server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, r.TLS.ServerName)
			}))
			g := newGateway(t, o.addr, "")
			config := g.trust(originName)
			tt.adjust(config)
			c := g.dialTLS(config)
			leaf := c.ConnectionState().PeerCertificates[0]
			if leaf.PublicKeyAlgorithm != tt.key || !slices.Equal(leaf.DNSNames, []string{originName}) {
				t.Errorf("a leaf with a key of %v for %v", leaf.PublicKeyAlgorithm, leaf.DNSNames)
			}
			if status, body := get(t, c, originName); status != 200 || body != originName {
				t.Errorf("%d %q", status, body)
			}
			c.Close()
			if e := g.ended(1); e.State != audit.StateInspected || e.SNI != originName || e.Host != originName || e.Reason != "" {
				t.Errorf("%+v", e)
			}
			if got := g.destinations(); !slices.Equal(got, []string{o.addr.String()}) {
				t.Errorf("dialled %v", got)
			}
		})
	}
}

// A client that speaks no TLS from 1.2 on, or no HTTP/1.1, is told so.
func TestClientsThatCannot(t *testing.T) {
	o := newHTTPOrigin(t, secure("valid"), http.NotFoundHandler())
	g := newGateway(t, o.addr, "")
	for i, adjust := range []func(*tls.Config){
		func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		func(c *tls.Config) { c.NextProtos = []string{"h2"} },
	} {
		config := g.trust(originName)
		adjust(config)
		if err := tls.Client(g.dial(), config).Handshake(); err == nil || !strings.Contains(err.Error(), "remote error") {
			t.Errorf("client: %v, want an alert", err)
		}
		if e := g.ended(i + 1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsClient+": ") {
			t.Errorf("%+v", e)
		}
	}
}

// Without SNI the leaf bears the server's own names, so that the client's check
// of the name decides as it would without us.
func TestNoSNI(t *testing.T) {
	o := newHTTPOrigin(t, secure("valid"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "sni:"+r.TLS.ServerName)
	}))
	g := newGateway(t, o.addr, "")

	c := g.dialTLS(g.trust("127.0.0.1")) // an address is never sent as SNI
	leaf := c.ConnectionState().PeerCertificates[0]
	if !slices.Equal(leaf.DNSNames, []string{originName, "www." + originName}) || len(leaf.IPAddresses) != 1 {
		t.Errorf("a leaf for %v %v", leaf.DNSNames, leaf.IPAddresses)
	}
	if status, body := get(t, c, "www."+originName); status != 200 || body != "sni:" {
		t.Errorf("%d %q", status, body)
	}
	if status, _ := get(t, c, "another.test"); status != 421 {
		t.Errorf("status %d for a Host that the certificate does not cover", status)
	}
	e := g.ended(1)
	if e.State != audit.StateBlocked || e.SNI != "" {
		t.Errorf("%+v", e)
	}
	if list := g.ledger.of(audit.HTTPRequest); len(list) != 2 || list[1].Code != 421 || list[1].Action != "block" {
		t.Errorf("%+v", list)
	}

	err := tls.Client(g.dial(), g.trust("127.0.0.2")).Handshake()
	if !errors.As(err, new(x509.HostnameError)) {
		t.Errorf("client: %v, want that the name is wrong", err)
	}
	if e := g.ended(2); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsRejected+": ") {
		t.Errorf("%+v", e)
	}
}

func TestClientCertificate(t *testing.T) {
	newServer := func(version uint16) (*origin, tls.Certificate) {
		config := secure("valid")
		config.MaxVersion = version
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs = originPKI().roots
		o := newHTTPOrigin(t, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
		}))
		return o, issue(x509.Certificate{
			Subject: originPKI().root.Leaf.Subject, NotAfter: originPKI().root.Leaf.NotAfter,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, &originPKI().root)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			o, cert := newServer(version)
			g := newGateway(t, o.addr, "")
			c := g.dialTLS(&tls.Config{RootCAs: originPKI().roots, ServerName: originName, Certificates: []tls.Certificate{cert}})
			if status, body := get(t, c, originName); status != 200 || body != "test root" {
				t.Errorf("%d %q", status, body)
			}
			c.Close()
			if e := g.ended(1); e.State != audit.StateBypassed || !slices.Equal(e.Rules, []string{tlsClientCert}) {
				t.Errorf("%+v", e)
			}
			if n := g.certs.asked.Load(); n > 0 {
				t.Errorf("%d leaves were asked for", n)
			}

			g = newGateway(t, o.addr, "", func(p *Proxy) { p.Settings().BlockClientCert = true })
			err := tls.Client(g.dial(), g.trust(originName)).Handshake()
			if want := tls.AlertError(alertAccessDenied); err == nil || !strings.Contains(err.Error(), want.Error()) {
				t.Errorf("client: %v, want alert %v", err, want)
			}
			if e := g.ended(1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsClientCert+": ") {
				t.Errorf("%+v", e)
			}
			if n := g.certs.asked.Load(); n > 0 {
				t.Errorf("%d leaves were asked for", n)
			}
		})
	}
}

func TestClientRejectsLeaf(t *testing.T) {
	o := newHTTPOrigin(t, secure("valid"), http.NotFoundHandler())
	g := newGateway(t, o.addr, "")
	for i, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		err := tls.Client(g.dial(), &tls.Config{RootCAs: originPKI().roots, ServerName: originName, MaxVersion: version}).Handshake()
		if !errors.As(err, new(x509.UnknownAuthorityError)) {
			t.Errorf("client: %v", err)
		}
		if e := g.ended(i + 1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsNoCA+": bad_certificate, ") {
			t.Errorf("%+v", e)
		}
	}
	if list := g.ledger.of(audit.TLSFail); len(list) != 2 {
		t.Errorf("%s", g.ledger)
	}
}

func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			var resumed atomic.Int32
			config := secure("valid")
			config.MaxVersion = version
			o := newHTTPOrigin(t, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.TLS.DidResume {
					resumed.Add(1)
				}
			}))
			g := newGateway(t, o.addr, "")
			client := g.trust(originName)
			client.MaxVersion = version
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for i := range 3 {
				c := g.dialTLS(client)
				if status, _ := get(t, c, originName); status != 200 {
					t.Errorf("status %d", status)
				}
				if got := c.ConnectionState().DidResume; got != (i > 0) {
					t.Errorf("connection %d: resumed %v", i, got)
				}
				c.Close()
				g.ended(i + 1)
			}
			if n := resumed.Load(); n != 2 {
				t.Errorf("%d of 3 sessions with the server were resumed, want 2", n)
			}
		})
	}
}

// A leaf that cannot be made is the client's to hear of.
func TestNoLeaf(t *testing.T) {
	o := newHTTPOrigin(t, secure("valid"), http.NotFoundHandler())
	g := newGateway(t, o.addr, "", func(p *Proxy) { p.Certs = noCerts{} })
	err := tls.Client(g.dial(), g.trust(originName)).Handshake()
	if want := tls.AlertError(alertInternalError); err == nil || !strings.Contains(err.Error(), want.Error()) {
		t.Errorf("client: %v, want alert %v", err, want)
	}
	if e := g.ended(1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsLeaf+": ") {
		t.Errorf("%+v", e)
	}
}

type noCerts struct{}

func (noCerts) Leaf(context.Context, string, *x509.Certificate, *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return nil, errors.New("none left")
}

// A server that takes the connection and says nothing must not use up the time
// in which the client can be told.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(c *tap) { io.Copy(io.Discard, c) })
	g := newGateway(t, o.addr, "", briefly)
	err := tls.Client(g.dial(), g.trust(originName)).Handshake()
	if want := tls.AlertError(alertHandshakeFailure); err == nil || !strings.Contains(err.Error(), want.Error()) {
		t.Errorf("client: %v, want alert %v", err, want)
	}
	if e := g.ended(1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsServer+": ") {
		t.Errorf("%+v", e)
	}
}

// helloOf returns the ClientHello of a client.
func helloOf(c *tls.Config) string {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		tls.Client(far, c).Handshake()
		far.Close()
	}()
	b := make([]byte, 16<<10)
	n, _ := near.Read(b)
	return string(b[:n])
}

func TestClientStopsInHandshake(t *testing.T) {
	t.Parallel()
	o := newHTTPOrigin(t, secure("valid"), http.NotFoundHandler())
	for _, tt := range []struct {
		name, reason string
		act          func(*gateway, *net.TCPConn)
	}{
		{"says nothing", "timeout", func(*gateway, *net.TCPConn) {}},
		{"goes away", "end of stream", func(_ *gateway, c *net.TCPConn) { c.CloseWrite() }},
		{"gateway stops", "the gateway stops", func(g *gateway, _ *net.TCPConn) { g.stop() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, o.addr, "", briefly)
			c := g.dial()
			send(t, c, helloOf(g.trust(originName)))
			expect(t, c, "\x16\x03\x03") // the ServerHello
			tt.act(g, c)
			if _, err := io.ReadAll(c); isTimeout(err) {
				t.Error("the client is kept")
			}
			if e := g.ended(1); e.State != audit.StateFailed || e.Reason != tlsClient+": "+tt.reason {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A browser opens connections that it may never use: that is no failure.
func TestUnusedConnection(t *testing.T) {
	o := newHTTPOrigin(t, secure("valid"), http.NotFoundHandler())
	g := newGateway(t, o.addr, "")
	g.dialTLS(g.trust(originName)).Close()
	if e := g.ended(1); e.State != audit.StateInspected || e.Reason != "" {
		t.Errorf("%+v", e)
	}
}
