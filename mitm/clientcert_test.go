package mitm

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
)

// Nobody can tell from a request for a certificate whether the server would do
// without, so it makes no difference.
func TestClientCertificateOptional(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := secure("valid")
		config.MaxVersion, config.ClientAuth = version, tls.RequestClientCert
		o := newOrigin(t, func(c *tap) {
			s := tls.Server(c, config)
			io.Copy(s, s)
			s.CloseWrite()
		})
		g := newGateway(t, o.addr, "")
		c := g.dialTLS(&tls.Config{RootCAs: originPKI().roots, ServerName: originName})
		send(t, c, "without a certificate")
		c.CloseWrite()
		if got := readAll(t, c); got != "without a certificate" {
			t.Errorf("%q", got)
		}
		c.Close()
		if e := g.ended(1); e.State != audit.StateBypassed || !slices.Equal(e.Rules, []string{tlsClientCert}) {
			t.Errorf("%+v", e)
		}
		if list := g.ledger.of(audit.ConnBypass); len(list) != 1 || list[0].Action != "bypass" || !strings.HasPrefix(list[0].Reason, tlsClientCert+": ") {
			t.Errorf("%s", g.ledger)
		}

		g = newGateway(t, o.addr, "", func(p *Proxy) { p.Settings().BlockClientCert = true })
		if err := tls.Client(g.dial(), g.trust(originName)).Handshake(); err == nil || !strings.Contains(err.Error(), tls.AlertError(alertAccessDenied).Error()) {
			t.Errorf("client: %v", err)
		}
		if e := g.ended(1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsClientCert+": ") {
			t.Errorf("%+v", e)
		}
	}
}

// A server that cannot be verified is not bypassed for asking.
func TestClientCertificateOfBadServer(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := secure("untrusted")
		config.MaxVersion, config.ClientAuth = version, tls.RequireAnyClientCert
		o := newOrigin(t, func(c *tap) { tls.Server(c, config).Handshake() })
		g := newGateway(t, o.addr, "")
		if err := tls.Client(g.dial(), g.trust(originName)).Handshake(); err == nil {
			t.Error("the client was let in")
		}
		if e := g.ended(1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, "untrusted: ") {
			t.Errorf("%+v", e)
		}
	}
}

// A server that asks when the request is there can only do so by renegotiation
// (TLS 1.2) or after the handshake (TLS 1.3). Neither is taken part in: the first
// ends its connection, the second is not offered (RFC 8446, Section 4.2.6), and
// OpenSSL does not try.
func TestClientCertificateLater(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "server.pem")
	cert := originPKI().cert("valid")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ version, command, says string }{
		{"-tls1_2", "R\n", "no renegotiation"},
		{"-tls1_3", "c\n", ""},
	} {
		t.Run(tt.version, func(t *testing.T) {
			server := exec.Command("openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", file, tt.version, "-naccept", "1")
			in, err := server.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := server.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			server.Stderr = server.Stdout
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				server.Process.Kill()
				server.Wait()
			})
			lines := bufio.NewScanner(out)
			until := func(text string) string {
				var seen []string
				for lines.Scan() {
					if seen = append(seen, lines.Text()); strings.Contains(lines.Text(), text) {
						return lines.Text()
					}
				}
				t.Fatalf("openssl says nothing of %q:\n%s", text, strings.Join(seen, "\n"))
				return ""
			}
			_, addr, _ := strings.Cut(until("ACCEPT "), "ACCEPT ")
			g := newGateway(t, netip.MustParseAddrPort(addr), "")
			c := g.dialTLS(g.trust(originName))
			send(t, c, "GET / HTTP/1.1\r\nHost: "+originName+"\r\n\r\n")
			until("GET / HTTP/1.1")
			io.WriteString(in, tt.command)
			if tt.says == "" {
				until("extension not received")
				io.WriteString(in, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
			status, body := answer(t, newReader(c))
			c.Close()
			e := g.ledger.wait(t, audit.HTTPRequest, 1)[0]
			if tt.says == "" && status != 200 || tt.says != "" && (status != 502 || !strings.Contains(e.Reason, tt.says)) {
				t.Errorf("%d %q, %+v", status, body, e)
			}
			g.ended(1)
		})
	}
}
