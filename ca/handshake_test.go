package ca

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
)

// rsaHello is a TLS 1.2 client that cannot verify ECDSA.
func rsaHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        name,
		CipherSuites:      []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.X25519, tls.CurveP256},
		SupportedPoints:   []uint8{0},
		SignatureSchemes:  []tls.SignatureScheme{tls.PSSWithSHA256, tls.PKCS1WithSHA256},
		SupportedVersions: []uint16{tls.VersionTLS12},
	}
}

func TestKindFor(t *testing.T) {
	a := authority(t, Options{})
	with := func(change func(*tls.ClientHelloInfo)) *tls.ClientHelloInfo {
		h := rsaHello("name.that.no.certificate.has")
		change(h)
		return h
	}
	ecdheECDSA := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	for _, tt := range []struct {
		name  string
		hello *tls.ClientHelloInfo
		want  Kind
	}{
		{"unknown", nil, ECDSA},
		{"TLS 1.2 RSA only", rsaHello("x"), RSA},
		{"TLS 1.2 both", with(func(h *tls.ClientHelloInfo) {
			h.CipherSuites = append(h.CipherSuites, ecdheECDSA...)
			h.SignatureSchemes = append(h.SignatureSchemes, tls.ECDSAWithP256AndSHA256)
		}), ECDSA},
		{"TLS 1.2 ECDSA suite, RSA signatures only", with(func(h *tls.ClientHelloInfo) {
			h.CipherSuites = append(h.CipherSuites, ecdheECDSA...)
		}), RSA},
		{"TLS 1.2 ECDSA without P-256", with(func(h *tls.ClientHelloInfo) {
			h.CipherSuites = append(h.CipherSuites, ecdheECDSA...)
			h.SignatureSchemes = append(h.SignatureSchemes, tls.ECDSAWithP256AndSHA256)
			h.SupportedCurves = []tls.CurveID{tls.X25519}
		}), RSA},
		{"TLS 1.3 RSA only", with(func(h *tls.ClientHelloInfo) {
			h.SupportedVersions = []uint16{tls.VersionTLS13}
			h.CipherSuites = []uint16{tls.TLS_AES_128_GCM_SHA256}
			h.SignatureSchemes = []tls.SignatureScheme{tls.PSSWithSHA256}
		}), RSA},
		{"TLS 1.3", with(func(h *tls.ClientHelloInfo) {
			h.SupportedVersions = []uint16{tls.VersionTLS13}
			h.CipherSuites = []uint16{tls.TLS_AES_128_GCM_SHA256}
			h.SignatureSchemes = []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256}
		}), ECDSA},
		{"nothing in common", with(func(h *tls.ClientHelloInfo) { h.SignatureSchemes = []tls.SignatureScheme{tls.Ed25519} }), ECDSA},
		{"empty", &tls.ClientHelloInfo{}, ECDSA},
	} {
		if got := a.kindFor(tt.hello); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if tt.hello != nil && tt.name == "TLS 1.2 both" && tt.hello.ServerName == "" {
			t.Error("the caller's hello was changed")
		}
	}
}

func TestHandshake(t *testing.T) {
	a := authority(t, Options{})
	o := origin(t, nil, "example.com", "*.example.com", "xn--bcher-kva.example", "192.0.2.7", "2001:db8::1")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.RootPEM())

	for _, tt := range []struct {
		name     string
		server   string
		versions [2]uint16
		suites   []uint16
		want     Kind
	}{
		{"TLS 1.2", "example.com", [2]uint16{tls.VersionTLS12, tls.VersionTLS12}, nil, ECDSA},
		{"TLS 1.3", "www.example.com", [2]uint16{tls.VersionTLS13, tls.VersionTLS13}, nil, ECDSA},
		{"TLS 1.2 RSA only", "www.example.com", [2]uint16{tls.VersionTLS12, tls.VersionTLS12},
			[]uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}, RSA},
		{"A-label", "xn--bcher-kva.example", [2]uint16{tls.VersionTLS12, tls.VersionTLS13}, nil, ECDSA},
		// Go sends no server name for an address, as RFC 6066 wants.
		{"IPv4, no SNI", "192.0.2.7", [2]uint16{tls.VersionTLS12, tls.VersionTLS13}, nil, ECDSA},
		{"IPv6, no SNI", "2001:db8::1", [2]uint16{tls.VersionTLS12, tls.VersionTLS13}, nil, ECDSA},
		{"IPv4, no SNI, RSA only", "192.0.2.7", [2]uint16{tls.VersionTLS12, tls.VersionTLS12}, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}, RSA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := net.Pipe()
			defer c.Close()
			defer s.Close()
			served := make(chan error, 1)
			go func() {
				srv := tls.Server(s, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
					return a.Leaf(h.Context(), h.ServerName, o, h)
				}})
				err := srv.HandshakeContext(t.Context())
				if err == nil {
					_, err = srv.Write([]byte("hello"))
				}
				served <- err
			}()
			client := tls.Client(c, &tls.Config{
				ServerName: tt.server, RootCAs: roots,
				MinVersion: tt.versions[0], MaxVersion: tt.versions[1], CipherSuites: tt.suites,
			})
			b := make([]byte, 5)
			if _, err := client.Read(b); err != nil || string(b) != "hello" {
				t.Fatalf("client: %q, %v", b, err)
			}
			if err := <-served; err != nil {
				t.Fatalf("server: %v", err)
			}
			state := client.ConnectionState()
			chain := state.VerifiedChains[0]
			if len(chain) != 3 || !bytes.Equal(chain[2].Raw, a.RootDER()) {
				t.Fatalf("chain of %d", len(chain))
			}
			for i, cert := range chain {
				_, isRSA := cert.PublicKey.(*rsa.PublicKey)
				if wantRSA := tt.want == RSA || i == 2; isRSA != wantRSA {
					t.Errorf("certificate %d: key %T", i, cert.PublicKey)
				}
				rsaSigned := cert.SignatureAlgorithm == x509.SHA256WithRSA
				if wantRSA := tt.want == RSA || i > 0; rsaSigned != wantRSA {
					t.Errorf("certificate %d: signed with %v", i, cert.SignatureAlgorithm)
				}
			}
		})
	}
}
