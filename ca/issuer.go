package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// maxBetween is how many certificates there may be between an issuer and the root. Each makes
// every handshake longer.
const maxBetween = 3

// Kind is the signature algorithm of a leaf and of its issuer.
type Kind uint8

const (
	ECDSA Kind = iota // P-256
	RSA               // for clients that cannot verify ECDSA
	kinds
)

func (k Kind) String() string {
	switch k {
	case ECDSA:
		return "ecdsa"
	case RSA:
		return "rsa"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// file is the name of the issuer's files, without its ending.
func (k Kind) file() string { return "issuing-" + k.String() }

// A line is a root and the issuers under it.
type line struct {
	root    *x509.Certificate
	rootKey keyState
	issuers [kinds]issuer // one of them may be absent
}

// A keyState says where a key is. The zero value: not here, or not readable.
type keyState struct {
	path      string
	sealed    bool // encrypted
	elsewhere bool // opened by Options.Signer
}

// An issuer signs leaves. Its key is any crypto.Signer: from a file, or from Options.Signer.
type issuer struct {
	cert    *x509.Certificate   // nil: there is none of this kind
	between []*x509.Certificate // up to the root, without it
	chain   [][]byte            // what a server presents behind its leaf
	limits  limits
	keyState
	key crypto.Signer // nil: sealed
}

// newIssuer puts an issuer together from its certificate and those between it and root.
func newIssuer(certs []*x509.Certificate, root *x509.Certificate) (iss issuer) {
	iss.cert, iss.between = certs[0], certs[1:]
	for _, c := range certs {
		iss.chain = append(iss.chain, c.Raw)
		iss.limits = append(iss.limits, limitsOf(c)...)
	}
	iss.limits = append(iss.limits, limitsOf(root)...)
	return iss
}

// keyKinds is what the issuing keys must be. kindFor relies on it.
var keyKinds = [kinds]string{ECDSA: "ECDSA P-256", RSA: "RSA"}

// check says what is wrong with an issuer of kind k under root, or "". With the key at hand it
// signs a leaf and verifies that as a client does: this is what finds a path length too short, an
// extended usage that does not fit, or a token that does not sign, before the first client.
func (iss *issuer) check(k Kind, root *x509.Certificate, at time.Time) string {
	if got, want := keyName(iss.cert.PublicKey), keyKinds[k]; !strings.HasPrefix(got, want) {
		return "its key is " + got + ", want " + want
	}
	o := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	o.Roots.AddCert(root)
	for _, c := range iss.between {
		o.Intermediates.AddCert(c)
	}
	if _, err := iss.cert.Verify(o); err != nil {
		return "not an issuer under root.crt: " + oneLine(err)
	}
	if iss.key == nil {
		return ""
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return oneLine(err)
	}
	leaf, err := sign(leafTemplate(names{}, at, at.Add(time.Minute)), iss.cert, key.Public(), iss.key)
	if err != nil {
		return "its key does not sign: " + oneLine(err)
	}
	o.Intermediates.AddCert(iss.cert)
	if _, err := leaf.Verify(o); err != nil {
		return "cannot issue for servers under root.crt: " + oneLine(err)
	}
	return ""
}
