package chain

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"time"
)

// minRSA is the shortest RSA modulus, in bits (Baseline Requirements, Section 6.1.5).
const minRSA = 2048

// own refuses what our own authority issued, and its certificates.
func (t *Trust) own(c *x509.Certificate) *Error {
	for _, o := range t.Own {
		if bytes.Equal(c.RawSubjectPublicKeyInfo, o.RawSubjectPublicKeyInfo) ||
			bytes.Equal(c.RawIssuer, o.RawSubject) && o.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			return fault(OwnRoot, c, "it comes from this gateway's own authority")
		}
	}
	return nil
}

func dates(c *x509.Certificate, now time.Time) *Error {
	switch {
	case now.Before(c.NotBefore):
		return fault(NotYetValid, c, "it begins at %s", c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter):
		return fault(Expired, c, "it ended at %s", c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// extensions enforces RFC 5280, Section 4.2: "A certificate-using system MUST
// reject the certificate if it encounters a critical extension it does not
// recognize".
func extensions(c *x509.Certificate) *Error {
	if len(c.UnhandledCriticalExtensions) > 0 {
		return fault(CriticalExtension, c, "it has the critical extension %v, which is not understood", c.UnhandledCriticalExtensions[0])
	}
	return nil
}

// purpose checks what the key of a server may be used for.
func purpose(c *x509.Certificate) *Error {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		// Any purpose is none in particular: Baseline Requirements, Section
		// 7.1.2.7.10, forbid it in a server's certificate.
		return fault(EKU, c, "its extendedKeyUsage has no serverAuth")
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		// RFC 8446, Section 4.4.2.2: "the digitalSignature bit MUST be set if the
		// Key Usage extension is present". In TLS 1.2 we offer no suites but those
		// in which the server signs.
		return fault(KeyUsage, c, "its keyUsage has no digitalSignature")
	}
	return nil
}

func key(c *x509.Certificate) *Error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA {
			return fault(WeakKey, c, "its RSA key has %d bits, less than %d", n, minRSA)
		}
		if k.E < 3 || k.E%2 == 0 {
			return fault(WeakKey, c, "its RSA key has the exponent %d", k.E)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return fault(WeakKey, c, "its key is on the curve %s", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return fault(KeyType, c, "its key is of an unsupported kind")
	}
	return nil
}

// signature names a signature that crypto/x509 does not take, which it says by
// finding no path.
func signature(c *x509.Certificate) *Error {
	switch c.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm:
		return fault(WeakSignature, c, "it is signed by an algorithm that is not known")
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.DSAWithSHA256:
		return fault(WeakSignature, c, "it is signed by %v", c.SignatureAlgorithm)
	}
	return nil
}
