package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"testing"
)

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		permit, exclude []string
		name            string
		want            bool
	}{
		{nil, nil, "anything.example", true},
		{[]string{"example.com"}, nil, "example.com", true},
		{[]string{"example.com"}, nil, "a.b.example.com", true},
		{[]string{"example.com"}, nil, "*.example.com", true},
		{[]string{"example.com"}, nil, "notexample.com", false},
		{[]string{"example.com"}, nil, "example.com.evil.example", false},
		{[]string{"example.com"}, nil, "*.com", false},
		{[]string{"example.com", "example.org"}, nil, "www.example.org", true},
		{[]string{".example.com"}, nil, "www.example.com", true},
		{[]string{".example.com"}, nil, "example.com", false},
		{nil, []string{"bank.example"}, "bank.example", false},
		{nil, []string{"bank.example"}, "www.bank.example", false},
		{nil, []string{"bank.example"}, "riverbank.example", true},
		// The wildcard would also be for the excluded name below it.
		{nil, []string{"bank.example"}, "*.example", false},
		{nil, []string{"a.bank.example"}, "*.bank.example", false},
		{nil, []string{"bank.example"}, "*.other.example", true},
		{[]string{"example.com"}, []string{"secret.example.com"}, "www.example.com", true},
		{[]string{"example.com"}, []string{"secret.example.com"}, "x.secret.example.com", false},
		{nil, []string{"Bank.Example"}, "bank.example", false},
	} {
		ls := limits{{permitDNS: tt.permit, excludeDNS: tt.exclude}}
		if got := ls.dns(tt.name); got != tt.want {
			t.Errorf("permit %q, exclude %q: %q is inside: %v", tt.permit, tt.exclude, tt.name, got)
		}
	}
}

// TestConstrainedAuthority: what is minted verifies, as crypto/x509 sees it and as OpenSSL does,
// and what would not is not minted.
func TestConstrainedAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := Create(dir, Options{PermitDNS: []string{"Example.com", ".corp.example"}, ExcludeDNS: []string{"secret.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*x509.Certificate{a.root, a.issuers[ECDSA].cert, a.issuers[RSA].cert} {
		if !slices.Equal(c.PermittedDNSDomains, []string{"example.com", ".corp.example"}) || !slices.Equal(c.ExcludedDNSDomains, []string{"secret.example.com"}) ||
			!c.PermittedDNSDomainsCritical || len(c.ExcludedIPRanges) != 2 {
			t.Errorf("%s: %q %q critical %v, %v", c.Subject, c.PermittedDNSDomains, c.ExcludedDNSDomains, c.PermittedDNSDomainsCritical, c.ExcludedIPRanges)
		}
	}
	// The same without our own look at it: what a client would say.
	blind, err := Load(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for k := range blind.issuers {
		blind.issuers[k].limits = nil
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.root)
	for name, want := range map[string]bool{
		"example.com": true, "www.example.com": true, "x.corp.example": true, "corp.example": false,
		"secret.example.com": false, "a.secret.example.com": false, "example.org": false, "192.0.2.7": false, "2001:db8::1": false,
	} {
		o := origin(t, nil, name)
		cert, err := blind.Leaf(context.Background(), name, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		inter := x509.NewCertPool()
		inter.AddCert(blind.issuers[ECDSA].cert)
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: inter}); (err == nil) != want {
			t.Errorf("%s: a client says %v", name, err)
		}
		_, err = a.Leaf(context.Background(), name, o, nil)
		if want && err != nil || !want && !errors.Is(err, ErrConstraint) {
			t.Errorf("%s: %v", name, err)
		}
		if want {
			leaf, issuer := writePEM(t, cert.Certificate[0]), writePEM(t, cert.Certificate[1])
			openssl(t, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", filepath.Join(dir, "root.crt"), "-untrusted", issuer, "-verify_hostname", name, leaf)
		}
	}
	// Of mirrored names those inside stay.
	l := mustLeaf(t, a, "", origin(t, nil, "example.org", "www.example.com", "*.example.com", "192.0.2.7", "a.corp.example"), nil)
	if !slices.Equal(l.DNSNames, []string{"www.example.com", "a.corp.example"}) || len(l.IPAddresses) != 0 {
		t.Errorf("mirrored %q %v", l.DNSNames, l.IPAddresses)
	}
	_, err = a.Leaf(context.Background(), "", origin(t, nil, "example.org", "192.0.2.7"), nil)
	if wantProblem(t, err, `"example.org" and 1 more`); !errors.Is(err, ErrConstraint) {
		t.Error(err)
	}

	// Rotation keeps them, narrows them, and cannot widen what the root says.
	same, err := Rotate(dir, Options{}, "")
	if err != nil || !slices.Equal(same.issuers[RSA].cert.PermittedDNSDomains, []string{"example.com", ".corp.example"}) || len(same.issuers[RSA].cert.ExcludedIPRanges) != 2 {
		t.Errorf("after a rotation: %v", err)
	}
	wide, err := Rotate(dir, Options{PermitDNS: []string{}, ExcludeDNS: []string{}}, "")
	if err != nil || len(wide.issuers[RSA].limits) != 1 {
		t.Errorf("after one without: %v", err)
	}
	if _, err = wide.Leaf(context.Background(), "example.org", origin(t, nil, "example.org"), nil); !errors.Is(err, ErrConstraint) {
		t.Errorf("outside what the root permits: %v", err)
	}
}

func TestDomainOptions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	for _, bad := range []string{"*.example.com", "a b", "", "exa\nmple.com", "bücher.example"} {
		_, err := Create(dir, Options{PermitDNS: []string{bad}})
		if wantProblem(t, err, "expected a domain"); bad != "" && len(contents2(dir)) != 0 {
			t.Errorf("%q: files were made", bad)
		}
	}
}

func contents2(dir string) []string {
	list, _ := filepath.Glob(filepath.Join(dir, "*"))
	return list
}

// FuzzLimits holds what limits says of a DNS name against what crypto/x509 says of a chain.
func FuzzLimits(f *testing.F) {
	f.Add("example.com", "secret.example.com", "www.example.com")
	f.Add(".example.com", "", "example.com")
	f.Add("", "a.example", "*.example")
	f.Add("a.example", "b.a.example", "*.a.example")
	issuerKey, err := newKey(ECDSA, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, permit, exclude, name string) {
		domains := func(s string) []string {
			list, err := checkDomains("", []string{s})
			if err != nil {
				return nil
			}
			return list
		}
		n, err := mirror(&x509.Certificate{DNSNames: []string{name}})
		if err != nil || net.ParseIP(name) != nil {
			return
		}
		o, _ := Options{PermitDNS: domains(permit), ExcludeDNS: domains(exclude)}.withDefaults()
		tmpl := authorityTemplate(o, "root", o.Now())
		tmpl.NotAfter = o.Now().AddDate(1, 0, 0)
		limitNames(tmpl, o.PermitDNS, o.ExcludeDNS)
		root, err := sign(tmpl, tmpl, issuerKey.Public(), issuerKey)
		if err != nil {
			return
		}
		leaf, err := sign(leafTemplate(n, o.Now().Add(-clockSkew), o.Now().AddDate(0, 0, 1)), root, issuerKey.Public(), issuerKey)
		if err != nil {
			return
		}
		pool := x509.NewCertPool()
		pool.AddCert(root)
		_, err = leaf.Verify(x509.VerifyOptions{Roots: pool})
		if inside := limitsOf(root).dns(n.dns[0]); inside && err != nil {
			t.Errorf("permit %q exclude %q: %q is inside, and a client says %v", o.PermitDNS, o.ExcludeDNS, n.dns[0], err)
		}
	})
}
