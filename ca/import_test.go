package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An enterprise is a root, and an authority under it that signs subordinate ones.
type enterprise struct {
	root, policy       *x509.Certificate
	rootKey, policyKey crypto.Signer
}

func newEnterprise(t *testing.T, change func(policy *x509.Certificate)) *enterprise {
	t.Helper()
	e := &enterprise{}
	var err error
	if e.rootKey, err = newKey(ECDSA, 0); err != nil {
		t.Fatal(err)
	}
	if e.policyKey, err = newKey(ECDSA, 0); err != nil {
		t.Fatal(err)
	}
	tmpl := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: newSerial(), Subject: pkix.Name{Organization: []string{"Acme"}, CommonName: name},
			NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	r := tmpl("Acme Root CA")
	if e.root, err = sign(r, r, e.rootKey.Public(), e.rootKey); err != nil {
		t.Fatal(err)
	}
	p := tmpl("Acme Policy CA")
	if change != nil {
		change(p)
	}
	if e.policy, err = sign(p, e.root, e.policyKey.Public(), e.rootKey); err != nil {
		t.Fatal(err)
	}
	return e
}

// certify signs the requests in text, each as change leaves it.
func (e *enterprise) certify(t *testing.T, text []byte, change func(*x509.Certificate)) []*x509.Certificate {
	t.Helper()
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || csr.CheckSignature() != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{
			SerialNumber: newSerial(), Subject: csr.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
			IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		}
		if change != nil {
			change(tmpl)
		}
		cert, err := sign(tmpl, e.policy, csr.PublicKey, e.policyKey)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	return certs
}

func mustRequest(t *testing.T, dir string, ks ...Kind) []byte {
	t.Helper()
	text, err := Request(dir, Options{}, ks...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestRequest has OpenSSL look at what is asked for.
func TestRequest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "ca")
	text := mustRequest(t, dir, ECDSA, RSA)
	if again := mustRequest(t, dir, RSA, ECDSA); string(again) != string(text) {
		t.Error("asked again, other requests")
	}
	_, err := Request(dir, Options{}, RSA)
	wantError(t, err, dir, "requests of other kinds wait", "request-*")
	for _, k := range []Kind{ECDSA, RSA} {
		out := strings.Join(strings.Fields(openssl(t, "req", "-verify", "-noout", "-text", "-in", filepath.Join(dir, k.request()+".csr"))), " ")
		for _, want := range []string{
			"O=framegate", "framegate issuing " + k.String(), "X509v3 Basic Constraints: critical CA:TRUE, pathlen:0",
			"X509v3 Key Usage: critical Certificate Sign, CRL Sign", "TLS Web Server Authentication",
		} {
			if !strings.Contains(strings.ReplaceAll(out, " = ", "="), want) {
				t.Errorf("%v: no %q in\n%s", k, want, out)
			}
		}
	}
	// A gateway does not make an authority of its own meanwhile.
	_, err = Load(dir, Options{})
	if wantError(t, err, dir, "a request waits", "framegate ca import --dir "+dir); errors.Is(err, ErrNoAuthority) {
		t.Error("taken for no authority")
	}
	if _, err = Create(dir, Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("Create: %v", err)
	}
}

func TestImport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	e := newEnterprise(t, nil)
	text := mustRequest(t, dir, ECDSA, RSA)
	a, err := Import(dir, Options{}, append(e.certify(t, text, nil), e.root, e.policy, e.root))
	if err != nil {
		t.Fatal(err)
	}
	if a.Fingerprint() != Fingerprint(e.root) || len(a.Roots()) != 1 || len(contents(t, dir)) != 5 {
		t.Errorf("root %s, %d files", a.Fingerprint(), len(contents(t, dir)))
	}
	for _, c := range a.Signers() {
		if c.Equal(e.root) {
			t.Error("servers under the enterprise's root would be refused")
		}
	}
	o := origin(t, nil, "example.com")
	cert, err := a.Leaf(context.Background(), "example.com", o, nil)
	if err != nil || len(cert.Certificate) != 3 {
		t.Fatalf("chain of %d, %v", len(cert.Certificate), err)
	}
	verify(t, a, cert, "example.com", time.Now())
	if _, err := Rotate(dir, Options{}, ""); err == nil || !strings.Contains(err.Error(), "framegate ca csr") {
		t.Errorf("rotate: %v", err)
	}

	// Renewed, under the same root, which need not be given again; for one kind alone.
	text = mustRequest(t, dir, ECDSA)
	b, err := Import(dir, Options{}, append(e.certify(t, text, nil), e.policy))
	if err != nil {
		t.Fatal(err)
	}
	if b.issuers[ECDSA].cert.Equal(a.issuers[ECDSA].cert) || !b.issuers[RSA].cert.Equal(a.issuers[RSA].cert) || len(b.Roots()) != 1 {
		t.Error("not the one issuer was renewed")
	}
}

func TestImportOneKind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	e := newEnterprise(t, nil)
	a, err := Import(dir, Options{}, append(e.certify(t, mustRequest(t, dir, RSA), nil), e.policy, e.root))
	if err != nil {
		t.Fatal(err)
	}
	o := origin(t, nil, "example.com")
	if l := mustLeaf(t, a, "example.com", o, bothHello()); l.CheckSignatureFrom(a.issuers[RSA].cert) != nil {
		t.Error("not by the issuer that there is")
	}
	mustLeaf(t, a, "example.com", o, nil)
	if a.IssuerSKI(ECDSA) != nil || len(a.Describe()) != 2 || len(a.Warnings()) != 0 {
		t.Errorf("%d certificates, %q", len(a.Describe()), a.Warnings())
	}

	dir = filepath.Join(t.TempDir(), "ca")
	if a, err = Import(dir, Options{}, append(e.certify(t, mustRequest(t, dir, ECDSA), nil), e.policy, e.root)); err != nil {
		t.Fatal(err)
	}
	mustLeaf(t, a, "example.com", o, rsaHello("")) // crypto/tls answers that client
	if w := a.Warnings(); len(w) != 1 || !strings.Contains(w[0], "no RSA issuer") {
		t.Errorf("%q", w)
	}
}

// TestImportBeside: a gateway with a root of its own joins the enterprise's.
func TestImportBeside(t *testing.T) {
	dir := authorityDir(t, 0)
	old, err := Load(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := newEnterprise(t, nil)
	a, err := Import(dir, Options{}, append(e.certify(t, mustRequest(t, dir, ECDSA, RSA), nil), e.policy, e.root))
	if err != nil {
		t.Fatal(err)
	}
	if a.Version() != old.Version() || len(a.Roots()) != 2 {
		t.Error("the enterprise's root is in force at once")
	}
	if a, err = Activate(dir, Options{}); err != nil || a.Fingerprint() != Fingerprint(e.root) {
		t.Fatal(err)
	}
	mustRequest(t, dir, ECDSA)
	_, err = Import(dir, Options{}, append(newEnterprise(t, nil).certify(t, mustRequest(t, dir, ECDSA), nil), e.policy))
	wantProblem(t, err, "its issuer")
	if _, _, err := DropRoot(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, Options{}); err != nil {
		t.Error(err)
	}
}

func TestImportRefuses(t *testing.T) {
	e := newEnterprise(t, nil)
	other := newEnterprise(t, nil)
	short := newEnterprise(t, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	mail := newEnterprise(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} })
	old := newEnterprise(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	all := func(e *enterprise, change func(*x509.Certificate)) func(*testing.T, []byte) []*x509.Certificate {
		return func(t *testing.T, text []byte) []*x509.Certificate {
			return append(e.certify(t, text, change), e.policy, e.root)
		}
	}
	for _, tt := range []struct {
		name  string
		certs func(t *testing.T, text []byte) []*x509.Certificate
		want  string
	}{
		{"not a CA", all(e, func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }), "not a CA certificate"},
		{"no certSign", all(e, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), "its key usage does not allow"},
		{"for mail", all(e, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }), "incompatible key usage"},
		{"for mail further up", all(mail, nil), "incompatible key usage"},
		{"path too short", all(short, nil), "too many intermediates"},
		{"expired", all(e, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "expired on"},
		{"not yet", all(e, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), "not valid before"},
		{"expired further up", all(old, nil), "expired on"},
		{"unknown and critical", all(e, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), "unhandled critical extension"},
		{"root missing", func(t *testing.T, text []byte) []*x509.Certificate {
			return append(e.certify(t, text, nil), e.policy)
		}, "the root is not among"},
		{"intermediate missing", func(t *testing.T, text []byte) []*x509.Certificate {
			return append(e.certify(t, text, nil), e.root)
		}, "its issuer"},
		{"another root", func(t *testing.T, text []byte) []*x509.Certificate {
			return append(e.certify(t, text, nil), e.policy, other.root)
		}, "its issuer"},
		{"two roots", func(t *testing.T, text []byte) []*x509.Certificate {
			return append(e.certify(t, text, nil), e.policy, e.root, other.root)
		}, "two roots"},
		{"another key", func(t *testing.T, text []byte) []*x509.Certificate {
			return []*x509.Certificate{e.policy, e.root}
		}, "no certificate is for request-ecdsa.key"},
		{"one of two", func(t *testing.T, text []byte) []*x509.Certificate {
			return append(e.certify(t, text, nil)[:1], e.policy, e.root)
		}, "no certificate is for request-rsa.key"},
		{"two for one", func(t *testing.T, text []byte) []*x509.Certificate {
			return append(append(e.certify(t, text, nil), e.certify(t, text, nil)...), e.policy, e.root)
		}, "two certificates for request-ecdsa.key"},
		{"one too many", func(t *testing.T, text []byte) []*x509.Certificate {
			return append(e.certify(t, text, nil), e.policy, e.root, other.policy)
		}, "is no part of the chain"},
		{"nothing", func(*testing.T, []byte) []*x509.Certificate { return nil }, "the root is not among"},
		{"our request in a root's place", func(t *testing.T, text []byte) []*x509.Certificate {
			forged := *e.policy
			forged.RawSubject, forged.SerialNumber = e.root.RawSubject, big.NewInt(1)
			return append(e.certify(t, text, nil), &forged)
		}, "the root is not among"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := requestDir(t)
			text := mustRequest(t, dir, ECDSA, RSA)
			before := contents(t, dir)
			_, err := Import(dir, Options{}, tt.certs(t, text))
			if wantProblem(t, err, tt.want); !errors.Is(err, ErrImport) {
				t.Errorf("error %v", err)
			}
			if !equalContents(before, contents(t, dir)) {
				t.Error("files have changed")
			}
		})
	}
	t.Run("nothing waits", func(t *testing.T) {
		dir := authorityDir(t, 0)
		_, err := Import(dir, Options{}, []*x509.Certificate{e.root})
		wantError(t, err, dir, "no request waits", "framegate ca csr")
	})
}

// requestDir is a directory in which two requests wait, made once.
func requestDir(t *testing.T) string {
	t.Helper()
	waiting.once.Do(func() {
		waiting.dir = t.TempDir() // gone after this test, so the content is kept
		if _, waiting.err = Request(filepath.Join(waiting.dir, "ca"), Options{}, ECDSA, RSA); waiting.err == nil {
			waiting.files = contents(t, filepath.Join(waiting.dir, "ca"))
		}
	})
	if waiting.err != nil {
		t.Fatal(waiting.err)
	}
	dir := filepath.Join(t.TempDir(), "ca")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range waiting.files {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var waiting struct {
	once  sync.Once
	dir   string
	files map[string]string
	err   error
}

// TestImportConstrained: what the enterprise's certificates constrain holds for leaves.
func TestImportConstrained(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	e := newEnterprise(t, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"acme.example"} })
	a, err := Import(dir, Options{}, append(e.certify(t, mustRequest(t, dir, ECDSA), nil), e.policy, e.root))
	if err != nil {
		t.Fatal(err)
	}
	mustLeaf(t, a, "www.acme.example", origin(t, nil, "www.acme.example"), nil)
	if _, err := a.Leaf(context.Background(), "example.com", origin(t, nil, "example.com"), nil); !errors.Is(err, ErrConstraint) {
		t.Error(err)
	}
}

func TestParseCertificates(t *testing.T) {
	e := newEnterprise(t, nil)
	for name, tt := range map[string]struct {
		data []byte
		want int
	}{
		"DER":              {e.root.Raw, 1},
		"PEM":              {encodeCerts(e.root), 1},
		"PEM of two":       {append([]byte("subject=Acme\n"), encodeCerts(e.root, e.policy)...), 2},
		"nothing":          {nil, 0},
		"text":             {[]byte("hello"), 0},
		"a key":            {pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: []byte("x")}), 0},
		"garbage":          {pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: []byte("x")}), 0},
		"DER and more":     {append(append([]byte{}, e.root.Raw...), 1), 0},
		"good and garbage": {append(encodeCerts(e.root), pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: []byte("x")})...), 0},
	} {
		certs, err := ParseCertificates(tt.data)
		if len(certs) != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%s: %d, %v", name, len(certs), err)
		}
	}
}
