package origin_test

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"testing"

	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

func TestLeaves(t *testing.T) {
	s := start(t,
		origin.Leaf{Names: []string{"good.test"}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fd88:2::a")}},
		origin.Leaf{Names: []string{"rsa.test"}, Key: origin.RSA2048},
		origin.Leaf{Names: []string{"weak.test"}, Key: origin.RSA1024},
		origin.Leaf{Names: []string{"expired.test"}, Defect: origin.Expired},
		origin.Leaf{Names: []string{"early.test"}, Defect: origin.NotYetValid},
		origin.Leaf{Names: []string{"wrong.test"}, Defect: origin.WrongHost},
		origin.Leaf{Names: []string{"self.test"}, Defect: origin.SelfSigned},
		origin.Leaf{Names: []string{"rogue.test"}, Defect: origin.UntrustedRoot},
	)
	as := func(target any) func(error) bool { return func(err error) bool { return errors.As(err, target) } }
	invalid := func(reason x509.InvalidReason) func(error) bool {
		return func(err error) bool {
			var e x509.CertificateInvalidError
			return errors.As(err, &e) && e.Reason == reason
		}
	}
	ok := func(err error) bool { return err == nil }
	for _, test := range []struct {
		name string
		want func(error) bool
	}{
		{"good.test", ok},
		{"127.0.0.1", ok}, // without SNI
		{"rsa.test", ok},
		{"weak.test", ok},
		{"expired.test", invalid(x509.Expired)},
		{"early.test", invalid(x509.Expired)},
		{"wrong.test", as(new(x509.HostnameError))},
		{"self.test", as(new(x509.UnknownAuthorityError))},
		{"rogue.test", as(new(x509.UnknownAuthorityError))},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := clients.Trust(s.pki.Roots(), test.name)
			config.MinVersion, config.MaxVersion = version, version
			c, err := clients.DialRaw(t.Context(), clients.RawOptions{Address: s.tls, TLS: config})
			if !test.want(err) {
				t.Errorf("%s: %v", test.name, err)
			}
			if err == nil && c.TLS().Version != version {
				t.Errorf("%s: TLS version %x", test.name, c.TLS().Version)
			}
		}
	}
	c := s.dial(t, clients.RSAOnly(clients.Trust(s.pki.Roots(), "rsa.test")))
	if key, ok := c.TLS().PeerCertificates[0].PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() != 2048 {
		t.Errorf("key %T", c.TLS().PeerCertificates[0].PublicKey)
	}
	if _, err := clients.DialRaw(t.Context(), clients.RawOptions{Address: s.tls, TLS: clients.RSAOnly(clients.Trust(s.pki.Roots(), "good.test"))}); err == nil {
		t.Error("a client without ECDSA took an ECDSA leaf")
	}
	if sni := s.Conns()[2].Hello().ServerName; sni != "" {
		t.Errorf("SNI %q for an address", sni)
	}
}
