package ca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func mustLeaf(t testing.TB, a *Authority, name string, o *x509.Certificate, hello *tls.ClientHelloInfo) *x509.Certificate {
	t.Helper()
	cert, err := a.Leaf(context.Background(), name, o, hello)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf
}

// verify checks the chain as a device does that has installed the root.
func verify(t *testing.T, a *Authority, cert *tls.Certificate, name string, now time.Time) {
	t.Helper()
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.RootPEM()) {
		t.Fatal("no root")
	}
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		inter.AddCert(c)
	}
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: inter, CurrentTime: now}); err != nil {
		t.Errorf("verify %q: %v", name, err)
	}
}

func TestLeafProfile(t *testing.T) {
	clk := newClock()
	a := authority(t, Options{Now: clk.Now})
	// An origin with much that must not be copied.
	o := origin(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{Organization: []string{"Example Inc"}, CommonName: "Example"}
		c.KeyUsage = x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny, x509.ExtKeyUsageCodeSigning}
		c.OCSPServer = []string{"http://ocsp.example"}
		c.CRLDistributionPoints = []string{"http://crl.example"}
		c.PolicyIdentifiers = []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 2}}
		c.EmailAddresses = []string{"root@example.com"}
		c.ExtraExtensions = []pkix.Extension{
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}, // must-staple
			{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}},
		}
	}, "*.example.com", "example.com")

	for _, k := range []Kind{ECDSA, RSA} {
		t.Run(k.String(), func(t *testing.T) {
			var hello *tls.ClientHelloInfo
			if k == RSA {
				hello = rsaHello("")
			}
			cert, err := a.Leaf(context.Background(), "www.Example.com", o, hello)
			if err != nil {
				t.Fatal(err)
			}
			verify(t, a, cert, "www.example.com", clk.Now())
			l := cert.Leaf
			if l.Version != 3 || l.IsCA || !l.BasicConstraintsValid {
				t.Errorf("v%d, CA %v, constraints %v", l.Version, l.IsCA, l.BasicConstraintsValid)
			}
			if l.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(l.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || len(l.UnknownExtKeyUsage) != 0 {
				t.Errorf("usage %b, %v", l.KeyUsage, l.ExtKeyUsage)
			}
			if !slices.Equal(l.DNSNames, []string{"www.example.com"}) || len(l.IPAddresses) != 0 || l.Subject.String() != "CN=www.example.com" {
				t.Errorf("subject %s, names %q %v", l.Subject, l.DNSNames, l.IPAddresses)
			}
			if !bytes.Equal(l.AuthorityKeyId, a.IssuerSKI(k)) || len(l.SubjectKeyId) != 0 {
				t.Errorf("authority key %x, subject key %x, issuer has %x", l.AuthorityKeyId, l.SubjectKeyId, a.IssuerSKI(k))
			}
			if !bytes.Equal(l.RawIssuer, a.issuers[k].cert.RawSubject) || len(cert.Certificate) != 2 || !bytes.Equal(cert.Certificate[1], a.issuers[k].cert.Raw) {
				t.Error("the chain is not leaf, issuer")
			}
			if cert.SupportedSignatureAlgorithms != nil || cert.OCSPStaple != nil || cert.SignedCertificateTimestamps != nil {
				t.Error("more than chain and key")
			}
			var ids []string
			for _, e := range l.Extensions {
				id := e.Id.String()
				ids = append(ids, id)
				if critical := id == "2.5.29.15" || id == "2.5.29.19"; e.Critical != critical {
					t.Errorf("extension %s critical: %v", id, e.Critical)
				}
			}
			slices.Sort(ids)
			if want := "2.5.29.15 2.5.29.17 2.5.29.19 2.5.29.35 2.5.29.37"; strings.Join(ids, " ") != want {
				t.Errorf("extensions %s, want %s", ids, want)
			}
			if life := l.NotAfter.Sub(l.NotBefore); life >= 24*time.Hour || life < 23*time.Hour {
				t.Errorf("life %v", life)
			}
			if l.NotBefore.After(clk.Now().Add(-29 * time.Minute)) {
				t.Errorf("begins %v, now %v", l.NotBefore, clk.Now())
			}
			if bits := l.SerialNumber.BitLen(); bits > 128 || bits < 64 {
				t.Errorf("serial of %d bits", bits)
			}
			switch pub := l.PublicKey.(type) {
			case *ecdsa.PublicKey:
				if k != ECDSA || pub.Params().Name != "P-256" || l.SignatureAlgorithm != x509.ECDSAWithSHA256 {
					t.Errorf("%s key, %v", pub.Params().Name, l.SignatureAlgorithm)
				}
			case *rsa.PublicKey:
				if k != RSA || pub.N.BitLen() != 2048 || l.SignatureAlgorithm != x509.SHA256WithRSA {
					t.Errorf("RSA key of %d, %v", pub.N.BitLen(), l.SignatureAlgorithm)
				}
			}
		})
	}
}

func TestLeafValidity(t *testing.T) {
	now := time.Now().Truncate(time.Second).UTC()
	clk := &clock{t: now}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name                 string
		originFrom, originTo time.Duration // from now
		validity             time.Duration
		from, to             time.Duration // want
	}{
		{"default", -30 * day, 30 * day, 0, -30 * time.Minute, 23 * time.Hour},
		{"shorter by option", -30 * day, 30 * day, time.Hour, -30 * time.Minute, time.Hour},
		{"longest by option", -30 * day, 30 * day, 23*time.Hour + 29*time.Minute, -30 * time.Minute, 23*time.Hour + 29*time.Minute},
		{"origin ends soon", -30 * day, 10 * time.Minute, 0, -30 * time.Minute, 10 * time.Minute},
		{"origin is new", -time.Minute, 30 * day, 0, -time.Minute, 23 * time.Hour},
		{"origin lives a moment", 0, time.Second, 0, 0, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := authority(t, Options{Now: clk.Now, LeafValidity: tt.validity})
			o := origin(t, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = now.Add(tt.originFrom), now.Add(tt.originTo)
			}, "example.com")
			l := mustLeaf(t, a, "example.com", o, nil)
			if from, to := l.NotBefore.Sub(now), l.NotAfter.Sub(now); from != tt.from || to != tt.to {
				t.Errorf("valid from %v to %v, want %v to %v", from, to, tt.from, tt.to)
			}
		})
	}

	t.Run("issuer ends soon", func(t *testing.T) {
		clk := newClock()
		a := authority(t, Options{Now: clk.Now})
		end := a.issuers[ECDSA].cert.NotAfter
		o := origin(t, func(c *x509.Certificate) { c.NotAfter = end.AddDate(1, 0, 0) }, "example.com")
		clk.Advance(end.Sub(clk.Now()) - time.Hour)
		if l := mustLeaf(t, a, "example.com", o, nil); !l.NotAfter.Equal(end) {
			t.Errorf("leaf ends %v, issuer %v", l.NotAfter, end)
		}
		clk.Advance(2 * time.Hour)
		_, err := a.Leaf(context.Background(), "example.com", o, nil)
		wantError(t, err, a.Describe()[1].Path, "expired on", "ca rotate")
	})
}

func TestLeafNames(t *testing.T) {
	a := authority(t, Options{})
	label := strings.Repeat("a", 63)
	long := strings.Join([]string{label, label, label, strings.Repeat("b", 61)}, ".") // 253
	for _, tt := range []struct{ name, want string }{
		{"example.com", "example.com"},
		{"EXAMPLE.Com.", "example.com"},
		{"localhost", "localhost"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"_dmarc.a_b.example", "_dmarc.a_b.example"},
		{"r3---sn-4g5e.example", "r3---sn-4g5e.example"},
		{label + ".example", label + ".example"},
		{long, long},
		{"192.0.2.7", "192.0.2.7"},
		{"::ffff:192.0.2.7", "192.0.2.7"},
		{"2001:DB8::0:1", "2001:db8::1"},
	} {
		l := mustLeaf(t, a, tt.name, origin(t, nil, tt.want), nil)
		var got []string
		got = append(got, l.DNSNames...)
		for _, ip := range l.IPAddresses {
			got = append(got, ip.String())
		}
		if !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%q: names %q", tt.name, got)
		}
		if err := l.VerifyHostname(tt.want); err != nil {
			t.Error(err)
		}
		// RFC 5280 section 4.2.1.6: with an empty subject the extension MUST be critical.
		wantCN := ""
		if len(l.DNSNames) == 1 && len(tt.want) <= 64 {
			wantCN = tt.want
		}
		critical := false
		for _, e := range l.Extensions {
			if e.Id.String() == "2.5.29.17" {
				critical = e.Critical
			}
		}
		if l.Subject.CommonName != wantCN || critical != (wantCN == "") {
			t.Errorf("%q: CN %q, SAN critical %v", tt.name, l.Subject.CommonName, critical)
		}
	}

	for _, name := range []string{
		".", "..", ".example", "a..example", "example..", "*.example.com", "*", "a b", "bücher.example", "a\x00.example",
		"-a.example", label + "a.example", "a." + long, strings.Repeat("a.", 40000) + "a", "[::1]", "fe80::1%eth0", "example.com:443", "a/b", "\xff",
	} {
		_, err := a.Leaf(context.Background(), name, origin(t, nil, "example.com"), nil)
		if !errors.Is(err, ErrName) {
			t.Errorf("%.40q: error %v", name, err)
		} else if msg := err.Error(); len(msg) > 1000 || !utf8.ValidString(msg) || strings.ContainsAny(msg, "\x00\n") {
			t.Errorf("%.40q: error %q", name, msg)
		}
	}
}

func TestLeafMirrorsOrigin(t *testing.T) {
	a := authority(t, Options{})
	o := origin(t, func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}}
		c.EmailAddresses = []string{"a@example.com"}
	}, "Example.com", "*.example.com", "192.0.2.7", "2001:db8::1", "foo.*.example.com", "*", "*.", "under_score.example")
	l := mustLeaf(t, a, "", o, nil)
	if want := []string{"example.com", "*.example.com", "under_score.example"}; !slices.Equal(l.DNSNames, want) {
		t.Errorf("names %q, want %q", l.DNSNames, want)
	}
	if len(l.IPAddresses) != 2 || l.VerifyHostname("192.0.2.7") != nil || l.VerifyHostname("2001:db8::1") != nil {
		t.Errorf("addresses %v", l.IPAddresses)
	}
	if len(l.URIs)+len(l.EmailAddresses) != 0 || l.Subject.String() != "CN=example.com" {
		t.Errorf("%v, %v, %s", l.URIs, l.EmailAddresses, l.Subject)
	}
	// The same certificate gets the same leaf, another one another.
	if again := mustLeaf(t, a, "", o, nil); again != l {
		t.Error("not cached")
	}
	if other := mustLeaf(t, a, "", origin(t, nil, "example.com"), nil); other == l {
		t.Error("two origins share a leaf")
	}

	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("h%d.example", i))
	}
	if l := mustLeaf(t, a, "", origin(t, nil, many...), nil); !slices.Equal(l.DNSNames, many[:maxMirrored]) {
		t.Errorf("%d of 1000 names mirrored", len(l.DNSNames))
	}
	for i := range many {
		many[i] += strings.Repeat("."+strings.Repeat("x", 60), 3)
	}
	if l := mustLeaf(t, a, "", origin(t, nil, many...), nil); len(l.Raw) > maxMirroredBytes+2048 || len(l.DNSNames) < 30 {
		t.Errorf("%d long names mirrored, %d bytes", len(l.DNSNames), len(l.Raw))
	}

	if _, err := a.Leaf(context.Background(), "", origin(t, nil, "*"), nil); !errors.Is(err, ErrOrigin) {
		t.Errorf("no usable name: error %v", err)
	}
}

func TestLeafRefusesOrigin(t *testing.T) {
	clk := newClock()
	a := authority(t, Options{Now: clk.Now})
	good := origin(t, nil, "example.com")
	shift := func(from, to time.Duration) *x509.Certificate {
		return origin(t, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = clk.Now().Add(from), clk.Now().Add(to)
		}, "example.com")
	}
	mustLeaf(t, a, "example.com", good, nil) // cached: and yet none of these gets it
	for name, o := range map[string]*x509.Certificate{
		"none":           nil,
		"not parsed":     {DNSNames: []string{"example.com"}, NotAfter: good.NotAfter},
		"expired":        shift(-time.Hour, -time.Minute),
		"not yet valid":  shift(time.Hour, 2*time.Hour),
		"other name":     origin(t, nil, "example.org"),
		"no name":        origin(t, func(c *x509.Certificate) { c.Subject.CommonName = "example.com" }),
		"below wildcard": origin(t, nil, "*.example.com"),
	} {
		cert, err := a.Leaf(context.Background(), "example.com", o, nil)
		if !errors.Is(err, ErrOrigin) || cert != nil {
			t.Errorf("%s: %v, %v", name, cert, err)
		}
	}
	if _, err := a.Leaf(context.Background(), "192.0.2.8", origin(t, nil, "192.0.2.7"), nil); !errors.Is(err, ErrOrigin) {
		t.Errorf("other address: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := a.Leaf(ctx, "example.com", good, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// FuzzName: what a client sends as a name either is refused, or ends up as the one name in a
// leaf for it.
func FuzzName(f *testing.F) {
	for _, s := range []string{"example.com", "xn--bcher-kva.example", "192.0.2.7", "2001:db8::1", "fe80::1%eth0", "a..b", "*.x", "A_b-.C.", "\x00", "[::1]", "1.2.3.4.", "::ffff:1.2.3.4"} {
		f.Add(s)
	}
	a := authority(f, Options{})
	f.Fuzz(func(t *testing.T, s string) {
		n, canonical, err := parseName(s)
		if err != nil {
			if !errors.Is(err, ErrName) {
				t.Fatal(err)
			}
			return
		}
		if _, again, err := parseName(canonical); err != nil || again != canonical {
			t.Fatalf("%q: canonical %q becomes %q, %v", s, canonical, again, err)
		}
		if s == "" {
			return
		}
		now := time.Now()
		o := &x509.Certificate{Raw: []byte{0}, DNSNames: n.dns, IPAddresses: n.ips, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
		cert, err := a.Leaf(t.Context(), s, o, nil)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if err := cert.Leaf.VerifyHostname(canonical); err != nil {
			t.Fatal(err)
		}
		if len(cert.Leaf.DNSNames)+len(cert.Leaf.IPAddresses) != 1 {
			t.Fatalf("%q: names %q %v", s, cert.Leaf.DNSNames, cert.Leaf.IPAddresses)
		}
		for _, name := range cert.Leaf.DNSNames {
			if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' }) {
				t.Fatalf("%q: name %q", s, name)
			}
		}
	})
}
