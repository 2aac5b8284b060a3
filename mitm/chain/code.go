package chain

import (
	"crypto/x509"
	"fmt"
)

// A Code is the reason of a refusal. Codes are stable: people count them.
type Code string

// The codes, in the order in which faults are looked for. docs/TRUST.md explains
// each to an operator; a test holds the two together.
const (
	Malformed         Code = "malformed"          // no certificate, one that cannot be parsed, or over 100 of them
	OwnRoot           Code = "own-root"           // issued by our own authority
	Expired           Code = "expired"            // a certificate of the chain has ended
	NotYetValid       Code = "not-yet-valid"      // a certificate of the chain has not begun
	CriticalExtension Code = "critical-extension" // one that nobody here understands
	NoSAN             Code = "no-san"             // no DNS name and no address in the subjectAltName
	Wildcard          Code = "wildcard"           // only a misplaced wildcard covers the name
	NameMismatch      Code = "name-mismatch"      // issued for other names
	EKU               Code = "eku"                // not for servers, or issued by who may not for servers
	KeyUsage          Code = "key-usage"          // the key may not sign handshakes
	KeyType           Code = "key-type"           // a key of a kind that is not supported
	WeakKey           Code = "weak-key"           // a key that is too short, in any certificate of the chain
	WeakSignature     Code = "weak-signature"     // SHA-1, MD5, DSA or an unknown kind, in any but a root
	BadSignature      Code = "bad-signature"      // not signed by the issuer that it names
	NotCA             Code = "not-a-ca"           // issued by a certificate that may not issue
	PathLength        Code = "path-length"        // more certificates below an issuer than it allows
	NameConstraint    Code = "name-constraint"    // a name that an issuer may not certify
	CertPolicy        Code = "cert-policy"        // an issuer demands a certificate policy that is not there
	SelfSigned        Code = "self-signed"        // the certificate vouches for itself
	IncompleteChain   Code = "incomplete-chain"   // the server did not send an issuer's certificate
	Untrusted         Code = "untrusted"          // no path to a trusted root
	TooComplex        Code = "too-complex"        // 100 signatures were checked, and there were more
	Revoked           Code = "revoked"            // by its staple or by a list
	BadStaple         Code = "bad-staple"         // a staple that is forged, stale, or of another certificate
	NoStaple          Code = "no-staple"          // none, and the certificate demands one (RFC 7633)
	NoStatus          Code = "no-status"          // nobody says that it is good, and that is asked for
)

// Codes returns all of them.
func Codes() []Code {
	return []Code{
		Malformed, OwnRoot, Expired, NotYetValid, CriticalExtension, NoSAN, Wildcard, NameMismatch, EKU, KeyUsage,
		KeyType, WeakKey, WeakSignature, BadSignature, NotCA, PathLength, NameConstraint, CertPolicy, SelfSigned,
		IncompleteChain, Untrusted, TooComplex, Revoked, BadStaple, NoStaple, NoStatus,
	}
}

// Alert descriptions (RFC 8446, Section 6; RFC 6066, Section 8).
const (
	alertBadCertificate         = 42  // "contained signatures that did not verify correctly, etc."
	alertUnsupportedCertificate = 43  // "of an unsupported type"
	alertCertificateRevoked     = 44  // "revoked by its signer"
	alertCertificateExpired     = 45  // "has expired or is not currently valid"
	alertCertificateUnknown     = 46  // "some other (unspecified) issue"
	alertUnknownCA              = 48  // "could not be located or could not be matched with a known trust anchor"
	alertBadStatusResponse      = 113 // "an invalid or unacceptable OCSP response"
)

// Alert is the TLS alert that tells a peer of the refusal.
func (c Code) Alert() byte {
	switch c {
	case Expired, NotYetValid:
		return alertCertificateExpired
	case OwnRoot, NotCA, PathLength, SelfSigned, IncompleteChain, Untrusted:
		return alertUnknownCA
	case CriticalExtension, EKU, KeyUsage, KeyType:
		return alertUnsupportedCertificate
	case Revoked:
		return alertCertificateRevoked
	case BadStaple, NoStaple:
		return alertBadStatusResponse
	case NameConstraint, CertPolicy, TooComplex, NoStatus:
		return alertCertificateUnknown
	}
	return alertBadCertificate
}

// An Error is a refusal: the reason, and the certificate that is at fault.
type Error struct {
	Code   Code
	Cert   *x509.Certificate // nil: none in particular
	Detail string            // may hold what the server wrote; to be escaped when shown
}

func (e *Error) Error() string {
	if e.Cert == nil {
		return e.Detail
	}
	return fmt.Sprintf("%s: %s", subject(e.Cert), e.Detail)
}

// longest is how much of a name is told.
const longest = 200

// subject names a certificate to people: by its subject, or else by its serial number.
func subject(c *x509.Certificate) string {
	s := c.Subject.String()
	if s == "" {
		s = fmt.Sprintf("serial %x", c.SerialNumber)
	}
	return fmt.Sprintf("certificate %q", shorten(s))
}

func shorten(s string) string {
	if len(s) > longest {
		return s[:longest] + "..."
	}
	return s
}

func fault(code Code, c *x509.Certificate, format string, args ...any) *Error {
	return &Error{code, c, fmt.Sprintf(format, args...)}
}
