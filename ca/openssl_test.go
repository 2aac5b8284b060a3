package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// openssl runs a second, independent implementation over what this package makes.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl in PATH")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func writePEM(t *testing.T, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenSSLVerifies(t *testing.T) {
	a := authority(t, Options{})
	root := a.Describe()[0].Path
	o := origin(t, nil, "example.com", "192.0.2.7")
	long := strings.Repeat("a", 60) + ".example.com"
	for _, tt := range []struct {
		name   string
		hello  *tls.ClientHelloInfo
		origin *x509.Certificate
		check  []string
		text   string
	}{
		{"example.com", nil, o, []string{"-verify_hostname", "example.com"}, "DNS:example.com"},
		{"example.com", rsaHello(""), o, []string{"-verify_hostname", "example.com"}, "DNS:example.com"},
		{"192.0.2.7", nil, o, []string{"-verify_ip", "192.0.2.7"}, "Subject Alternative Name: critical"},
		{"", nil, o, []string{"-verify_ip", "192.0.2.7"}, "DNS:example.com, IP Address:192.0.2.7"},
		{long, nil, origin(t, nil, long), []string{"-verify_hostname", long}, "Subject Alternative Name: critical"},
	} {
		cert, err := a.Leaf(context.Background(), tt.name, tt.origin, tt.hello)
		if err != nil {
			t.Fatal(err)
		}
		leaf, inter := writePEM(t, cert.Certificate[0]), writePEM(t, cert.Certificate[1])
		args := append([]string{"verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", root, "-untrusted", inter}, tt.check...)
		openssl(t, append(args, leaf)...)

		text := strings.Join(strings.Fields(openssl(t, "x509", "-noout", "-text", "-in", leaf)), " ")
		for _, want := range []string{
			"Version: 3 (0x2)",
			"X509v3 Key Usage: critical Digital Signature X509v3",
			"X509v3 Extended Key Usage: TLS Web Server Authentication X509v3",
			"X509v3 Basic Constraints: critical CA:FALSE",
			"X509v3 Authority Key Identifier:",
			tt.text,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%q: no %q in\n%s", tt.name, want, text)
			}
		}
		if strings.Contains(text, "Subject Key Identifier") {
			t.Errorf("%q: a subject key identifier in\n%s", tt.name, text)
		}
	}

	if out := openssl(t, "x509", "-noout", "-fingerprint", "-sha256", "-in", root); !strings.Contains(out, a.Fingerprint()) {
		t.Errorf("fingerprint %s, openssl says %s", a.Fingerprint(), out)
	}
	for _, d := range a.Describe() {
		openssl(t, "pkey", "-in", d.KeyPath, "-noout", "-check")
		openssl(t, "verify", "-x509_strict", "-CAfile", root, d.Path)
	}
}

// TestOpenSSLClient has a client that offers no ECDSA at all: neither in suites nor in
// signature algorithms.
func TestOpenSSLClient(t *testing.T) {
	a := authority(t, Options{})
	root := a.Describe()[0].Path
	o := origin(t, nil, "example.com")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			srv := tls.Server(c, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				return a.Leaf(h.Context(), h.ServerName, o, h)
			}})
			srv.Handshake() // the client judges
			srv.Close()
		}
	}()
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"TLS 1.2 RSA only", []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-sigalgs", "RSA+SHA256"}, "Peer signature type: RSA"},
		{"TLS 1.3 RSA only", []string{"-tls1_3", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"}, "Peer signature type: RSA-PSS"},
		{"TLS 1.2", []string{"-tls1_2"}, "Peer signature type: ECDSA"},
		{"TLS 1.3", []string{"-tls1_3"}, "Peer signature type: ECDSA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"s_client", "-connect", ln.Addr().String(), "-servername", "example.com",
				"-verify_hostname", "example.com", "-verify_return_error", "-x509_strict", "-CAfile", root}, tt.args...)
			out := openssl(t, args...)
			for _, want := range []string{tt.want, "Verify return code: 0 (ok)", "Verification: OK"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}
