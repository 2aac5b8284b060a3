package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// RootDER returns the root certificate: what devices install.
func (a *Authority) RootDER() []byte { return bytes.Clone(a.root.Raw) }

// RootPEM returns the root certificate as one PEM block.
func (a *Authority) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: a.root.Raw})
}

// Fingerprint is the SHA-256 of the root certificate in the form that browsers and openssl
// show, for a person to compare.
func (a *Authority) Fingerprint() string { return fingerprint(a.root) }

// IssuerSKI returns the subject key identifier of an issuing certificate: the authority key
// identifier of every leaf of that kind. A server that presents it shows one of our own leaves.
func (a *Authority) IssuerSKI(k Kind) []byte { return bytes.Clone(a.issuers[k].cert.SubjectKeyId) }

// A Description is one certificate of the authority, for people.
type Description struct {
	Role        string // root, issuing-ecdsa or issuing-rsa
	Path        string // of the certificate
	Subject     string // RFC 4514
	Serial      string // hexadecimal
	Key         string // RSA 3072, ECDSA P-256
	KeyPath     string // "": the key is absent or may not be read, which is right for the root's
	Fingerprint string // SHA-256
	NotBefore   time.Time
	NotAfter    time.Time
}

// Describe lists the certificates, the root first.
func (a *Authority) Describe() []Description {
	list := []Description{a.describe("root", a.root, a.rootKey)}
	for k, iss := range a.issuers {
		list = append(list, a.describe("issuing-"+Kind(k).String(), iss.cert, true))
	}
	return list
}

func (a *Authority) describe(role string, c *x509.Certificate, key bool) Description {
	path := filepath.Join(a.dir, role)
	d := Description{
		Role:        role,
		Path:        path + ".crt",
		Subject:     c.Subject.String(),
		Serial:      fmt.Sprintf("%032x", c.SerialNumber),
		Key:         keyName(c.PublicKey),
		Fingerprint: fingerprint(c),
		NotBefore:   c.NotBefore,
		NotAfter:    c.NotAfter,
	}
	if key {
		d.KeyPath = path + ".key"
	}
	return d
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

func keyName(pub any) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + pub.Params().Name
	}
	return fmt.Sprintf("%T", pub)
}
