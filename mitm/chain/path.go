package chain

import (
	"bytes"
	"crypto/x509"
	"time"
)

// maxChecks bounds the signatures that are checked to explain a refusal, as
// crypto/x509 bounds those it checks to find a path.
const maxChecks = 100

// untrusted follows the certificates that were presented from issuer to issuer,
// and names what keeps them from a trusted root. cause is what crypto/x509 says,
// which knows the roots.
func untrusted(certs []*x509.Certificate, cause error, now time.Time) *Error {
	leaf, checks := certs[0], 0
	passed := map[*x509.Certificate]bool{}
	for c, below := leaf, -1; ; below++ {
		if passed[c] {
			return fault(Untrusted, c, "its issuers go round in a circle")
		}
		passed[c] = true
		if below >= 0 {
			if e := issuerFault(c, below, now); e != nil {
				return e
			}
		}
		if selfSigned(c) {
			if c == leaf {
				return fault(SelfSigned, leaf, "it is signed by its own key")
			}
			return fault(Untrusted, c, "this root is not trusted")
		}
		if e := signature(c); e != nil {
			return e
		}
		issuer, forged := (*x509.Certificate)(nil), (*x509.Certificate)(nil)
		for _, p := range certs {
			if p == c || !bytes.Equal(p.RawSubject, c.RawIssuer) || checks == maxChecks {
				continue
			}
			checks++
			if p.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
				issuer = p
				break
			}
			forged = p
		}
		switch {
		case issuer != nil:
			c = issuer
		case forged != nil:
			return fault(BadSignature, c, "it is not signed by the key of its issuer, %s", subject(forged))
		case c == leaf && (len(c.IssuingCertificateURL) > 0 || len(certs) > 1):
			// The certificate says where its issuer's is to be had (RFC 5280,
			// Section 4.2.2.1), so that it is not a root's; or others were sent in
			// its place. RFC 8446, Section 4.4.2: "each following certificate SHOULD
			// directly certify the one immediately preceding it".
			return fault(IncompleteChain, c, "the server did not send its issuer, %q", shorten(c.Issuer.String()))
		default:
			return fault(Untrusted, c, "its issuer, %q, was not sent and is no trusted root (%s)", shorten(c.Issuer.String()), shorten(cause.Error()))
		}
	}
}

// selfSigned reports whether a certificate vouches for itself. A weak signature
// is not checked, and does not have to be: it proves nothing either way.
func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) &&
		(signature(c) != nil || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil)
}

// issuerFault checks a certificate that issued another one, with below more
// of them between it and the server's.
func issuerFault(c *x509.Certificate, below int, now time.Time) *Error {
	if e := dates(c, now); e != nil {
		return e
	}
	if e := extensions(c); e != nil {
		return e
	}
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		// RFC 5280, Section 6.1.4: "verify that the basicConstraints extension is
		// present and that cA is set to TRUE", and keyCertSign.
		return fault(NotCA, c, "it may not issue certificates")
	case c.MaxPathLen >= 0 && below > c.MaxPathLen:
		return fault(PathLength, c, "it allows %d issuers below it, and there are %d", c.MaxPathLen, below)
	}
	return key(c)
}
