package origin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Defect is what is wrong with a certificate.
type Defect uint8

// The defects. Each leaves all else in order.
const (
	Sound         Defect = iota
	Expired              // ended an hour ago
	NotYetValid          // begins in an hour
	WrongHost            // names another host only
	SelfSigned           // signed by its own key
	UntrustedRoot        // signed by a root that nobody trusts
)

// A Key is the kind of key that a leaf has.
type Key uint8

// The kinds of key.
const (
	P256 Key = iota
	RSA2048
	RSA1024 // too short for anybody who looks
)

// A Leaf describes a certificate of a server.
type Leaf struct {
	Names  []string     // served to these; also its DNS names, unless Defect is WrongHost
	Addrs  []netip.Addr // its IP addresses
	Defect Defect
	Key    Key
}

// A PKI is a throw-away certificate authority of the origin side. It has
// nothing to do with the one that framegate makes.
type PKI struct {
	root  *x509.Certificate
	key   crypto.Signer
	rogue *PKI // signs for UntrustedRoot
}

// NewPKI makes a fresh authority.
func NewPKI() (*PKI, error) {
	p, err := newRoot("Lab Origin Root")
	if err != nil {
		return nil, err
	}
	p.rogue, err = newRoot("Lab Rogue Root")
	return p, err
}

func newRoot(name string) (*PKI, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := blank(name)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	return &PKI{root: root, key: key}, err
}

func blank(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}, err
}

// RootPEM returns the root's certificate.
func (p *PKI) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.root.Raw})
}

// Roots returns a pool with the root alone.
func (p *PKI) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.root)
	return pool
}

// Issue makes a key and a certificate for it.
func (p *PKI) Issue(l Leaf) (*tls.Certificate, error) {
	key, err := l.Key.generate()
	if err != nil {
		return nil, err
	}
	template, err := blank("lab origin")
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = l.Names
	for _, a := range l.Addrs {
		template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
	}
	issuer, signer := p.root, p.key
	switch l.Defect {
	case Expired:
		template.NotAfter = time.Now().Add(-time.Hour)
	case NotYetValid:
		template.NotBefore = time.Now().Add(time.Hour)
	case WrongHost:
		template.DNSNames, template.IPAddresses = []string{"wrong.host.test"}, nil
	case SelfSigned:
		issuer, signer = template, key
	case UntrustedRoot:
		issuer, signer = p.rogue.root, p.rogue.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// IssuePEM is Issue for a server that reads files.
func (p *PKI) IssuePEM(l Leaf) (certificate, key []byte, err error) {
	c, err := p.Issue(l)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

func (k Key) generate() (crypto.Signer, error) {
	switch k {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	}
	return nil, fmt.Errorf("no kind of key has the number %d", k)
}

// Config issues the leaves and returns a server's configuration that presents
// to each client the leaf whose Names hold what it asked for, and the first
// one otherwise or without SNI. It speaks HTTP/1.1 only, TLS 1.2 and 1.3.
func (p *PKI) Config(leaves ...Leaf) (*tls.Config, error) {
	certs := make([]*tls.Certificate, len(leaves))
	for i, l := range leaves {
		var err error
		if certs[i], err = p.Issue(l); err != nil {
			return nil, err
		}
	}
	return &tls.Config{
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			i := slices.IndexFunc(leaves, func(l Leaf) bool {
				return slices.Contains(l.Names, strings.ToLower(hello.ServerName))
			})
			return certs[max(i, 0)], nil
		},
	}, nil
}
