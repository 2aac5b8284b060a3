package chain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// A pair is a certificate and its key.
type pair struct {
	*x509.Certificate
	key crypto.Signer
}

// issue makes a certificate, by nil signed by itself. What c leaves out is sound.
func issue(t testing.TB, c x509.Certificate, by *pair) pair {
	t.Helper()
	key, _ := c.PublicKey.(crypto.Signer)
	if key == nil {
		key = newKey(t, elliptic.P256())
	}
	public := key.Public()
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok { // nobody has its private half
		public = k
	}
	c.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	if c.NotBefore.IsZero() {
		c.NotBefore = now.Add(-24 * time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = now.Add(24 * time.Hour)
	}
	if by == nil {
		by = &pair{&c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, by.Certificate, public, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{cert, key}
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issuer(name string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

func trusting(roots ...pair) *Trust {
	t := &Trust{Roots: x509.NewCertPool()}
	for _, r := range roots {
		t.Roots.AddCert(r.Certificate)
	}
	return t
}

// want fails the test unless err has this code, "" for no error.
func want(t *testing.T, err error, code Code) {
	t.Helper()
	var e *Error
	switch errors.As(err, &e); {
	case err == nil && code == "":
	case e == nil:
		t.Errorf("got %v, want %q", err, code)
	case e.Code != code:
		t.Errorf("got %s: %v, want %q", e.Code, e, code)
	}
}

func TestNames(t *testing.T) {
	root := issue(t, issuer("root"), nil)
	trust := trusting(root)
	for _, tt := range []struct {
		san, name string
		code      Code
	}{
		{"a.example.com", "a.example.com", ""},
		{"a.example.com", "A.Example.COM.", ""},
		{"*.example.com", "a.example.com", ""},
		{"*.example.com", "example.com", NameMismatch},
		{"*.example.com", "a.b.example.com", NameMismatch},
		{"foo.*.example.com", "foo.b.example.com", Wildcard},
		{"f*.example.com", "foo.example.com", Wildcard},
		{"*oo.example.com", "foo.example.com", Wildcard},
		{"**.example.com", "foo.example.com", Wildcard},
		{"*.*.example.com", "a.b.example.com", Wildcard},
		{"*", "example.com", Wildcard},
		{"*.com", "example.com", Wildcard},
		{"*.co.uk", "example.co.uk", Wildcard},
		{"*.internal", "example.internal", Wildcard},
		{"*.github.io", "example.github.io", ""}, // its owner's to certify
		{"*.com", "", Wildcard},
		{"*.com", "example.org", NameMismatch},
		{"f*.example.com", "bar.example.org", NameMismatch},
		{"*.example.com", "", ""},
		{"example.com", "192.0.2.1", NameMismatch},
		{"192.0.2.1", "192.0.2.1", NameMismatch}, // as a DNS name
	} {
		leaf := issue(t, x509.Certificate{DNSNames: []string{tt.san}}, &root)
		t.Run(tt.san+" "+tt.name, func(t *testing.T) {
			_, err := trust.Verify([]*x509.Certificate{leaf.Certificate}, tt.name, nil, now)
			want(t, err, tt.code)
		})
	}
	both := issue(t, x509.Certificate{DNSNames: []string{"*.com", "example.com"}}, &root)
	_, err := trust.Verify([]*x509.Certificate{both.Certificate}, "example.com", nil, now)
	want(t, err, "")
	if Covers(both.Certificate, "other.com") {
		t.Error("a wildcard over a public suffix covers a name")
	}
}

func TestKeysAndPaths(t *testing.T) {
	root := issue(t, issuer("root"), nil)
	other := issue(t, issuer("other"), nil)
	trust := trusting(root)
	server := x509.Certificate{DNSNames: []string{"a.test"}}
	p224 := server
	p224.PublicKey = newKey(t, elliptic.P224())
	withRSA := func(bits, exponent int) x509.Certificate {
		c := server
		c.PublicKey = &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), bits-1, 1), E: exponent}
		return c
	}
	leaf := func(c x509.Certificate, by pair) []*x509.Certificate {
		return []*x509.Certificate{issue(t, c, &by).Certificate}
	}
	many := leaf(server, root)
	for range maxCerts {
		many = append(many, other.Certificate)
	}
	// The same key and name under two roots, one of which is trusted.
	cross := issuer("cross")
	cross.PublicKey = newKey(t, elliptic.P256())
	weak := issuer("cross")
	weak.PublicKey, weak.NotAfter = cross.PublicKey, now.Add(-time.Hour)
	good, expired := issue(t, cross, &root), issue(t, weak, &root)
	crossed := append(leaf(server, good), expired.Certificate, good.Certificate)
	circle := issuer("circle")
	circleKey := newKey(t, elliptic.P256())
	circle.PublicKey = circleKey
	one := issue(t, circle, &pair{&x509.Certificate{Subject: pkix.Name{CommonName: "circle"}}, circleKey})
	for name, tt := range map[string]struct {
		certs []*x509.Certificate
		code  Code
	}{
		"nothing":          {nil, Malformed},
		"too many":         {many, Malformed},
		"RSA 2048":         {leaf(withRSA(2048, 65537), root), ""},
		"RSA 2047":         {leaf(withRSA(2047, 65537), root), WeakKey},
		"RSA 512":          {leaf(withRSA(512, 65537), root), WeakKey},
		"RSA exponent 1":   {leaf(withRSA(2048, 1), root), WeakKey},
		"RSA exponent 4":   {leaf(withRSA(2048, 4), root), WeakKey},
		"P-224":            {leaf(p224, root), WeakKey},
		"good":             {leaf(server, root), ""},
		"unknown issuer":   {leaf(server, other), Untrusted},
		"unknown root":     {append(leaf(server, other), other.Certificate), Untrusted},
		"unrelated behind": {append(leaf(server, good), other.Certificate), IncompleteChain},
		"one good path":    {crossed, ""},
		"expired path":     {append(leaf(server, good), expired.Certificate), Expired},
		"root as server":   {[]*x509.Certificate{issue(t, server, nil).Certificate}, SelfSigned},
		"circle":           {append(leaf(server, one), one.Certificate), Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := trust.Verify(tt.certs, "a.test", nil, now)
			want(t, err, tt.code)
		})
	}
	trust.Own = []*x509.Certificate{root.Certificate}
	_, err := trust.Verify(leaf(server, root), "a.test", nil, now)
	want(t, err, OwnRoot)
}

func TestRevocation(t *testing.T) {
	root := issue(t, issuer("root"), nil)
	middle := issue(t, issuer("middle"), &root)
	impostor := issue(t, issuer("middle"), nil)
	leaf := issue(t, x509.Certificate{DNSNames: []string{"a.test"}}, &middle)
	responder := issue(t, x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}, &middle)
	neighbour := issue(t, x509.Certificate{DNSNames: []string{"b.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, &middle)
	retired := issue(t, x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, NotAfter: now.Add(-time.Hour)}, &middle)
	staple := func(status int, this, next time.Duration, by pair) []byte {
		r := ocsp.Response{Status: status, SerialNumber: leaf.SerialNumber, ThisUpdate: now.Add(this), NextUpdate: now.Add(next), RevokedAt: now.Add(this)}
		if next == 0 {
			r.NextUpdate = time.Time{}
		}
		if by.Certificate != middle.Certificate {
			r.Certificate = by.Certificate
		}
		der, err := ocsp.CreateResponse(middle.Certificate, by.Certificate, r, by.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	list := func(by pair, ends time.Duration, x []pkix.Extension, revoked ...pair) *CRL {
		l := x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(ends - 48*time.Hour), NextUpdate: now.Add(ends), ExtraExtensions: x}
		for _, c := range revoked {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: now})
		}
		der, err := x509.CreateRevocationList(rand.Reader, &l, by.Certificate, by.key)
		if err != nil {
			t.Fatal(err)
		}
		crl, err := ParseCRL(der)
		if err != nil {
			t.Fatal(err)
		}
		return crl
	}
	const hour = time.Hour
	part := []pkix.Extension{{Id: oidDistributionPoint, Critical: true, Value: []byte{0x30, 3, 0x81, 1, 0xff}}} // onlyContainsUserCerts
	lists := func(l ...*CRL) []*CRL { return l }
	for _, tt := range []struct {
		name            string
		staple          []byte
		lists           []*CRL
		normal, require Code
	}{
		{"nothing", nil, nil, "", NoStatus},
		{"good", staple(ocsp.Good, -hour, hour, middle), nil, "", ""},
		{"revoked", staple(ocsp.Revoked, -hour, hour, middle), nil, Revoked, Revoked},
		{"revoked, stale", staple(ocsp.Revoked, -2*hour, -hour, middle), nil, Revoked, Revoked},
		{"unknown", staple(ocsp.Unknown, -hour, hour, middle), nil, BadStaple, BadStaple},
		{"stale", staple(ocsp.Good, -2*hour, -hour, middle), nil, BadStaple, BadStaple},
		{"of the future", staple(ocsp.Good, hour, 2*hour, middle), nil, BadStaple, BadStaple},
		{"a clock ahead", staple(ocsp.Good, time.Minute, hour, middle), nil, "", ""},
		{"without end", staple(ocsp.Good, -hour, 0, middle), nil, BadStaple, BadStaple},
		{"delegated", staple(ocsp.Good, -hour, hour, responder), nil, "", ""},
		{"by another server", staple(ocsp.Good, -hour, hour, neighbour), nil, BadStaple, BadStaple},
		{"by a retired responder", staple(ocsp.Good, -hour, hour, retired), nil, BadStaple, BadStaple},
		{"forged", staple(ocsp.Good, -hour, hour, impostor), nil, BadStaple, BadStaple},
		{"garbage", []byte("garbage"), nil, BadStaple, BadStaple},
		{"try later", ocsp.TryLaterErrorResponse, nil, "", NoStatus},

		{"list", nil, lists(list(middle, hour, nil, neighbour)), "", ""},
		{"listed", nil, lists(list(middle, hour, nil, leaf)), Revoked, Revoked},
		{"listed, and a good staple", staple(ocsp.Good, -hour, hour, middle), lists(list(middle, hour, nil, leaf)), Revoked, Revoked},
		{"issuer listed", nil, lists(list(root, hour, nil, middle)), Revoked, Revoked},
		{"stale list", nil, lists(list(middle, -hour, nil)), "", NoStatus},
		{"listed in a stale list", nil, lists(list(middle, -hour, nil, leaf)), Revoked, Revoked},
		{"forged list", nil, lists(list(impostor, hour, nil, leaf)), "", NoStatus},
		{"partial list", nil, lists(list(middle, hour, part)), "", NoStatus},
		{"listed in a partial list", nil, lists(list(middle, hour, part, leaf)), Revoked, Revoked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			trust := trusting(root)
			trust.CRLs = tt.lists
			for require, code := range map[bool]Code{false: tt.normal, true: tt.require} {
				trust.RequireStatus = require
				v, err := trust.Verify([]*x509.Certificate{leaf.Certificate, middle.Certificate}, "a.test", tt.staple, now)
				want(t, err, code)
				if err == nil && tt.staple != nil && tt.name != "try later" && !v.Until.Equal(now.Add(hour)) {
					t.Errorf("until %v, want the end of the staple", v.Until)
				}
			}
		})
	}
}

func TestParseCRL(t *testing.T) {
	root := issue(t, issuer("root"), nil)
	for name, tt := range map[string]struct {
		id    asn1.ObjectIdentifier
		value []byte
		want  string
	}{
		"delta":    {oidDeltaCRL, []byte{2, 1, 1}, "a delta list"},
		"indirect": {oidDistributionPoint, []byte{0x30, 3, 0x84, 1, 0xff}, "an indirect list"},
		"garbled":  {oidDistributionPoint, []byte{5, 0}, "cannot be read"},
		"unknown":  {asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0}, "the critical extension 1.2.3"},
	} {
		t.Run(name, func(t *testing.T) {
			l := x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour), ExtraExtensions: []pkix.Extension{{Id: tt.id, Critical: true, Value: tt.value}}}
			der, err := x509.CreateRevocationList(rand.Reader, &l, root.Certificate, root.key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseCRL(der); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
		})
	}
}

// codes lists all codes, by the source.
func codes(t *testing.T) []string {
	t.Helper()
	src, err := os.ReadFile("code.go")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(src)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == "Code" && f[2] == "=" {
			list = append(list, strings.Trim(f[3], `"`))
		}
	}
	return list
}

// Every code has a row in docs/TRUST.md, with its alert.
func TestCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "TRUST.md"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := map[byte]string{42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired",
		46: "certificate_unknown", 48: "unknown_ca", 113: "bad_certificate_status_response"}
	list := codes(t)
	if len(list) < 25 {
		t.Fatalf("codes: %v", list)
	}
	var all []string
	for _, code := range Codes() {
		all = append(all, string(code))
	}
	if !slices.Equal(all, list) {
		t.Errorf("Codes returns %v, and there are %v", all, list)
	}
	for _, code := range list {
		row := "| `" + code + "` | " + alerts[Code(code).Alert()] + " |"
		if !strings.Contains(string(doc), row) {
			t.Errorf("docs/TRUST.md has no row %q", row)
		}
	}
}

// FuzzVerify: whatever a server sends, there is an answer of ours, and no chain
// without the root.
func FuzzVerify(f *testing.F) {
	root := issue(f, issuer("root"), nil)
	middle := issue(f, issuer("middle"), &root)
	leaf := issue(f, x509.Certificate{DNSNames: []string{"a.test"}}, &middle)
	staple, err := ocsp.CreateResponse(middle.Certificate, middle.Certificate, ocsp.Response{Status: ocsp.Good, SerialNumber: leaf.SerialNumber, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, middle.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(leaf.Raw, middle.Raw, staple, "a.test")
	f.Add(leaf.Raw, root.Raw, []byte(nil), "")
	f.Add(root.Raw, root.Raw, staple, "*.test")
	trust := trusting(root)
	f.Fuzz(func(t *testing.T, first, second, staple []byte, name string) {
		a, err := x509.ParseCertificate(first)
		if err != nil {
			return
		}
		certs := []*x509.Certificate{a}
		if b, err := x509.ParseCertificate(second); err == nil {
			certs = append(certs, b)
		}
		v, err := trust.Verify(certs, name, staple, now)
		var e *Error
		switch {
		case err == nil && (len(v.Chain) == 0 || !v.Chain[len(v.Chain)-1].Equal(root.Certificate) || v.Until.Before(now)):
			t.Errorf("a chain of %d until %v", len(v.Chain), v.Until)
		case err != nil && (!errors.As(err, &e) || e.Code == "" || e.Code.Alert() == 0 || e.Error() == ""):
			t.Errorf("%#v", err)
		}
	})
}

// FuzzCRL: what is parsed can be asked.
func FuzzCRL(f *testing.F) {
	root := issue(f, issuer("root"), nil)
	l := x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour), RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: now}}}
	der, err := x509.CreateRevocationList(rand.Reader, &l, root.Certificate, root.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		l, err := ParseCRL(der)
		if err == nil {
			(&Trust{CRLs: []*CRL{l}}).lists(root.Certificate, root.Certificate, now)
		}
	})
}
