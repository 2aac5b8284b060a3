package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Roots returns what devices are to trust: the root in force, and the second one while a change
// of roots is under way. They must not be changed.
func (a *Authority) Roots() []*x509.Certificate {
	if a.standby != nil {
		return []*x509.Certificate{a.root, a.standby.root}
	}
	return []*x509.Certificate{a.root}
}

// Signers returns the certificates of the keys that are this authority's alone: its issuers, and
// the roots that were made here, wherever their keys are now. The root of an enterprise is none,
// since it certifies servers too. No server is to be trusted that shows one of them. They must not
// be changed.
func (a *Authority) Signers() []*x509.Certificate {
	list := a.line.signers()
	if a.standby != nil {
		list = append(list, a.standby.signers()...)
	}
	return list
}

func (n *line) signers() []*x509.Certificate {
	var list []*x509.Certificate
	if n.rootKey != (keyState{}) || strings.HasPrefix(n.root.Subject.CommonName, rootName) {
		list = append(list, n.root)
	}
	for _, iss := range n.issuers {
		if iss.cert != nil {
			list = append(list, iss.cert)
		}
	}
	return list
}

// RootDER returns the certificate of the root in force.
func (a *Authority) RootDER() []byte { return bytes.Clone(a.root.Raw) }

// RootPEM returns Roots as PEM.
func (a *Authority) RootPEM() []byte { return encodeCerts(a.Roots()...) }

// Fingerprint is the SHA-256 of the root in force in the form that browsers and openssl show, for
// a person to compare.
func (a *Authority) Fingerprint() string { return Fingerprint(a.root) }

// IssuerSKI returns the subject key identifier of an issuing certificate: the authority key
// identifier of every leaf of that kind. A server that presents it shows one of our own leaves.
// nil: there is no issuer of that kind.
func (a *Authority) IssuerSKI(k Kind) []byte {
	if a.issuers[k].cert == nil {
		return nil
	}
	return bytes.Clone(a.issuers[k].cert.SubjectKeyId)
}

// A Description is one certificate of the authority, for people.
type Description struct {
	Role        string // root, issuing-ecdsa or issuing-rsa; "standby-" before those of the second root
	Path        string // of the certificate
	Subject     string // RFC 4514
	Serial      string // hexadecimal
	Key         string // RSA 3072, ECDSA P-256
	KeyPath     string // "": not in a file here, or one that may not be read; right for the root's
	KeyState    string // "plain", "encrypted", "external" (Options.Signer), or "" for none here
	Fingerprint string // SHA-256
	NotBefore   time.Time
	NotAfter    time.Time
	PermitDNS   []string // name constraints
	ExcludeDNS  []string
}

// Describe lists the certificates, the root in force first.
func (a *Authority) Describe() []Description {
	list := a.line.describe(a.dir, "")
	if a.standby != nil {
		list = append(list, a.standby.describe(a.dir, standby)...)
	}
	return list
}

func (n *line) describe(dir, prefix string) []Description {
	list := []Description{describe(dir, prefix+"root", n.root, n.rootKey)}
	for k, iss := range n.issuers {
		if iss.cert != nil {
			list = append(list, describe(dir, prefix+Kind(k).file(), iss.cert, iss.keyState))
		}
	}
	return list
}

func describe(dir, role string, c *x509.Certificate, key keyState) Description {
	d := Description{
		Role:        role,
		Path:        filepath.Join(dir, role+".crt"),
		Subject:     c.Subject.String(),
		Serial:      serial(c),
		Key:         keyName(c.PublicKey),
		KeyPath:     key.path,
		Fingerprint: Fingerprint(c),
		NotBefore:   c.NotBefore,
		NotAfter:    c.NotAfter,
		PermitDNS:   c.PermittedDNSDomains,
		ExcludeDNS:  c.ExcludedDNSDomains,
	}
	switch {
	case key.elsewhere:
		d.KeyState = "external"
	case key.sealed:
		d.KeyState = "encrypted"
	case key.path != "":
		d.KeyState = "plain"
	}
	return d
}

// noticeTime is how long before a certificate ends people are told.
const noticeTime = 30 * 24 * time.Hour

// Warnings says, a line each, what will end within 30 days and what to do about it, and what is
// unusual about the authority.
func (a *Authority) Warnings() []string {
	var list []string
	soon := func(role string, c *x509.Certificate, todo string) {
		if left := c.NotAfter.Sub(a.now()); left < noticeTime {
			list = append(list, fmt.Sprintf("%s expires on %s, in %d days: %s", role, c.NotAfter.UTC().Format(minute), max(0, int(left.Hours()/24)), todo))
		}
	}
	const newRoot = "bring in a new root, framegate ca rotate --root"
	soon("root", a.root, newRoot)
	for k, iss := range a.issuers {
		if iss.cert == nil {
			continue
		}
		soon(Kind(k).file(), iss.cert, "framegate ca rotate, or framegate ca csr if the root is another authority's")
		for i, c := range iss.between {
			soon(fmt.Sprintf("%s.crt, certificate %d", Kind(k).file(), i+2), c, "ask its authority for a new chain")
		}
	}
	if a.standby != nil {
		soon(standby+"root", a.standby.root, "end the overlap, framegate ca rotate --root --drop")
		for k, iss := range a.standby.issuers {
			if iss.cert != nil {
				soon(standby+Kind(k).file(), iss.cert, "activate it or drop it")
			}
		}
	}
	if a.issuers[RSA].cert == nil {
		list = append(list, "there is no RSA issuer: clients that cannot verify ECDSA are refused")
	}
	return list
}

// Fingerprint is the SHA-256 of a certificate in the form that browsers and openssl show.
func Fingerprint(c *x509.Certificate) string {
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
