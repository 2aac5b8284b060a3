package chain

import (
	"crypto/x509"
	"errors"
	"time"
)

// maxCerts bounds what a server may present. Chains have two to five.
const maxCerts = 100

// A Trust is what servers are verified by. Its zero value trusts the system's
// roots.
type Trust struct {
	// Roots are the trusted roots. If nil, the system's.
	Roots *x509.CertPool
	// Own are the certificates of our own authority, which never vouch for a
	// server, even if Roots has them.
	Own []*x509.Certificate
	// CRLs are consulted for every certificate but the root.
	CRLs []*CRL
	// RequireStatus refuses a certificate of a server unless its staple or a list
	// says that it is good. By default a server without either is taken.
	RequireStatus bool
	// Version changes when anything above does: what was verified under another
	// version has to be verified again.
	Version string
}

// A Verified is an answer in the server's favour.
type Verified struct {
	Chain []*x509.Certificate // from the server's certificate to the root
	Until time.Time           // when the first thing that it rests on ends
}

// Verify decides about a server that presented certs, its own first, and
// staple (nil: none) when it was called by name. Without a name all but the
// name is verified. The error is an *[Error].
func (t *Trust) Verify(certs []*x509.Certificate, name string, staple []byte, now time.Time) (Verified, error) {
	if e := t.look(certs, name, now); e != nil {
		return Verified{}, e
	}
	o := x509.VerifyOptions{
		Roots: t.Roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, c := range certs[1:] {
		o.Intermediates.AddCert(c)
	}
	paths, err := certs[0].Verify(o)
	if err != nil {
		return Verified{}, noPath(certs, err, now)
	}
	// Any path will do: a cross-signed issuer may have a weak one besides.
	var first *Error
	for _, path := range paths {
		until, e := t.judge(path, staple, now)
		if e == nil {
			return Verified{path, until}, nil
		}
		if first == nil {
			first = e
		}
	}
	return Verified{}, first
}

// look checks what can be seen without a path.
func (t *Trust) look(certs []*x509.Certificate, name string, now time.Time) *Error {
	if len(certs) == 0 {
		return fault(Malformed, nil, "the server presents no certificate")
	}
	if len(certs) > maxCerts {
		return fault(Malformed, nil, "the server presents %d certificates, more than %d", len(certs), maxCerts)
	}
	for _, c := range certs {
		if e := t.own(c); e != nil {
			return e
		}
	}
	leaf := certs[0]
	for _, check := range []func() *Error{
		func() *Error { return dates(leaf, now) },
		func() *Error { return extensions(leaf) },
		func() *Error { return checkName(leaf, name) },
		func() *Error { return purpose(leaf) },
		func() *Error { return key(leaf) },
	} {
		if e := check(); e != nil {
			return e
		}
	}
	return nil
}

// judge checks a path that crypto/x509 takes for valid.
func (t *Trust) judge(path []*x509.Certificate, staple []byte, now time.Time) (until time.Time, e *Error) {
	until = path[0].NotAfter
	for _, c := range path {
		if e := t.own(c); e != nil {
			return until, e
		}
		if e := key(c); e != nil {
			return until, e
		}
		until = earlier(until, c.NotAfter)
	}
	fresh, e := t.status(path, staple, now)
	return earlier(until, fresh), e
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// noPath explains why crypto/x509 found no path.
func noPath(certs []*x509.Certificate, err error, now time.Time) *Error {
	leaf := certs[0]
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown), errors.As(err, new(x509.UnhandledCriticalExtension)):
		return untrusted(certs, err, now)
	case errors.As(err, &invalid):
		if e := dates(invalid.Cert, now); e != nil {
			return e
		}
		return fault(invalidCode(invalid.Reason), invalid.Cert, "%s", shorten(invalid.Error()))
	case errors.As(err, new(x509.SystemRootsError)):
		return fault(Untrusted, leaf, "the system has no roots: %v", err)
	}
	return fault(TooComplex, leaf, "%s", shorten(err.Error()))
}

func invalidCode(r x509.InvalidReason) Code {
	switch r {
	case x509.NotAuthorizedToSign:
		return NotCA
	case x509.TooManyIntermediates:
		return PathLength
	case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
		return EKU
	case x509.CANotAuthorizedForThisName, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName, x509.TooManyConstraints:
		return NameConstraint
	case x509.NoValidChains:
		return CertPolicy
	}
	return Untrusted
}
