package mitm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"framegate/mitm/chain"
)

// A badPKI is the authority of the replica of badssl.com: a root, an
// intermediate, and roots that nobody trusts.
type badPKI struct {
	t            testing.TB
	roots        *x509.CertPool
	root, middle tls.Certificate
	rogue        tls.Certificate
}

func newBadPKI(t testing.TB) *badPKI {
	p := &badPKI{t: t, roots: x509.NewCertPool()}
	p.root = p.issue(p.authority("replica root"), nil)
	p.middle = p.issue(p.authority("replica intermediate"), &p.root)
	p.rogue = p.issue(p.authority("rogue root"), nil)
	p.roots.AddCert(p.root.Leaf)
	return p
}

func (p *badPKI) authority(name string) x509.Certificate {
	return x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
}

// issue makes a certificate. What c leaves out is sound: it is valid today, and
// one of a server is for servers. A key in c.PublicKey is used, else one on P-256
// is made.
func (p *badPKI) issue(c x509.Certificate, by *tls.Certificate) tls.Certificate {
	p.t.Helper()
	key, _ := c.PublicKey.(crypto.Signer)
	if key == nil {
		key = p.ec(elliptic.P256())
	}
	c.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-24 * time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if !c.IsCA && c.ExtKeyUsage == nil {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if !c.IsCA && c.KeyUsage == 0 {
		c.KeyUsage = x509.KeyUsageDigitalSignature
	}
	if by == nil {
		by = &tls.Certificate{Leaf: &c, PrivateKey: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, by.Leaf, key.Public(), by.PrivateKey)
	if err != nil {
		p.t.Fatalf("%v: %v", c.Subject, err)
	}
	return p.parse(der, key)
}

func (p *badPKI) parse(der []byte, key crypto.PrivateKey) tls.Certificate {
	p.t.Helper()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// withMD5 signs a certificate that was signed by SHA-1 and RSA by MD5 instead,
// which crypto/x509 does not do.
func (p *badPKI) withMD5(c tls.Certificate, by *tls.Certificate) tls.Certificate {
	p.t.Helper()
	var whole struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.Certificate[0], &whole); err != nil {
		p.t.Fatal(err)
	}
	sha1, md5Oid := "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"
	tbs := []byte(string(whole.TBS.FullBytes))
	at := indexOf(tbs, sha1)
	copy(tbs[at:], md5Oid)
	sum := md5.Sum(tbs)
	sig, err := rsa.SignPKCS1v15(rand.Reader, by.PrivateKey.(*rsa.PrivateKey), crypto.MD5, sum[:])
	if err != nil {
		p.t.Fatal(err)
	}
	whole.TBS = asn1.RawValue{FullBytes: tbs}
	whole.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}
	whole.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	der, err := asn1.Marshal(whole)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.parse(der, c.PrivateKey)
}

func indexOf(b []byte, s string) int {
	for i := range b {
		if len(b)-i >= len(s) && string(b[i:i+len(s)]) == s {
			return i
		}
	}
	panic("not found")
}

func (p *badPKI) ec(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

var rsaKeys sync.Map

// rsaKey reads the key of this length from testdata: to make one takes long.
func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	if key, ok := rsaKeys.Load(bits); ok {
		return key.(*rsa.PrivateKey)
	}
	text, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("rsa-%d.pem", bits)))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	rsaKeys.Store(bits, key)
	return key
}

// staple makes an OCSP response about c, signed by its issuer.
func (p *badPKI) staple(c *tls.Certificate, by tls.Certificate, r ocsp.Response) []byte {
	p.t.Helper()
	r.SerialNumber = c.Leaf.SerialNumber
	if r.ThisUpdate.IsZero() {
		r.ThisUpdate = time.Now().Add(-time.Hour)
	}
	if r.NextUpdate.IsZero() {
		r.NextUpdate = time.Now().Add(time.Hour)
	}
	r.RevokedAt = r.ThisUpdate
	der, err := ocsp.CreateResponse(by.Leaf, by.Leaf, r, by.PrivateKey.(crypto.Signer))
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

// list makes a revocation list of an issuer.
func (p *badPKI) list(by tls.Certificate, ends time.Time, revoked ...tls.Certificate) *chain.CRL {
	p.t.Helper()
	l := x509.RevocationList{Number: big.NewInt(1), ThisUpdate: ends.Add(-48 * time.Hour), NextUpdate: ends}
	for _, c := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: c.Leaf.SerialNumber, RevocationTime: l.ThisUpdate,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, &l, by.Leaf, by.PrivateKey.(crypto.Signer))
	if err != nil {
		p.t.Fatal(err)
	}
	crl, err := chain.ParseCRL(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return crl
}
