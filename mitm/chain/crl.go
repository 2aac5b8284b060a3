package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"
)

// A CRL is a certificate revocation list (RFC 5280, Section 5).
type CRL struct {
	list    *x509.RevocationList // without its entries
	revoked map[string]entry     // by serial number
	partial bool                 // it covers only some of the issuer's certificates

	// signer is the public key by which the signature was found good. It is
	// checked once, and again when the issuer has another key.
	signer atomic.Pointer[[]byte]
}

type entry struct {
	at     time.Time
	reason int
}

var (
	oidDeltaCRL          = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// ParseCRL reads a list in DER. Its signature can only be checked once a
// certificate of its issuer is met.
func ParseCRL(der []byte) (*CRL, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	l := &CRL{list: list, revoked: make(map[string]entry, len(list.RevokedCertificateEntries))}
	for _, x := range list.Extensions {
		switch {
		case x.Id.Equal(oidDeltaCRL):
			return nil, fmt.Errorf("a delta list, expected a complete one")
		case x.Id.Equal(oidDistributionPoint):
			if err := l.scope(x.Value); err != nil {
				return nil, err
			}
		case x.Critical:
			// RFC 5280, Section 5.2: "the application MUST NOT use that CRL to
			// determine the status of certificates".
			return nil, fmt.Errorf("the critical extension %v is not understood", x.Id)
		}
	}
	for _, e := range list.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return nil, fmt.Errorf("the entry of %x has the critical extension %v, which is not understood", e.SerialNumber, x.Id)
			}
		}
		l.revoked[serial(e.SerialNumber)] = entry{e.RevocationTime, e.ReasonCode}
	}
	list.RevokedCertificateEntries = nil // as much again
	return l, nil
}

// scope reads the issuingDistributionPoint (RFC 5280, Section 5.2.5). Whatever
// such a list covers, what it names is revoked; what it does not name may be on
// another one.
func (l *CRL) scope(der []byte) error {
	var p struct {
		Point          asn1.RawValue  `asn1:"optional,tag:0"`
		OnlyUser       bool           `asn1:"optional,tag:1"`
		OnlyCA         bool           `asn1:"optional,tag:2"`
		OnlySome       asn1.BitString `asn1:"optional,tag:3"`
		Indirect       bool           `asn1:"optional,tag:4"`
		OnlyAttributes bool           `asn1:"optional,tag:5"`
	}
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) > 0 {
		return fmt.Errorf("its issuingDistributionPoint cannot be read")
	}
	if p.Indirect {
		return fmt.Errorf("an indirect list, expected one of the issuer's own certificates")
	}
	l.partial = true
	return nil
}

func serial(n *big.Int) string { return string(n.Bytes()) }

// Issuer is who the list says that it is from.
func (l *CRL) Issuer() string { return shorten(l.list.Issuer.String()) }

// NextUpdate is when the list ends; zero if it does not say.
func (l *CRL) NextUpdate() time.Time { return l.list.NextUpdate }

// fresh reports whether the list says something about the time now. RFC 5280,
// Section 5.1.2.5 requires a nextUpdate: without it a list would hold forever.
func (l *CRL) fresh(now time.Time) bool {
	return !l.list.ThisUpdate.After(now.Add(skew)) && now.Before(l.list.NextUpdate)
}

// from reports whether issuer signed the list.
func (l *CRL) from(issuer *x509.Certificate) bool {
	if !bytes.Equal(l.list.RawIssuer, issuer.RawSubject) {
		return false
	}
	if by := l.signer.Load(); by != nil && bytes.Equal(*by, issuer.RawSubjectPublicKeyInfo) {
		return true
	}
	if l.list.CheckSignatureFrom(issuer) != nil {
		return false
	}
	l.signer.Store(&issuer.RawSubjectPublicKeyInfo)
	return true
}

// lists asks the lists of issuer about c. listed means that a complete and
// current one does not name it. A list that has ended still revokes, and says
// nothing else.
func (t *Trust) lists(c, issuer *x509.Certificate, now time.Time) (until time.Time, listed bool, e *Error) {
	for _, l := range t.CRLs {
		if !l.from(issuer) {
			continue
		}
		if r, ok := l.revoked[serial(c.SerialNumber)]; ok {
			return until, false, fault(Revoked, c, "by the list of its issuer since %s, reason %d", r.at.UTC().Format(time.RFC3339), r.reason)
		}
		if l.fresh(now) && !l.partial && (!listed || until.Before(l.list.NextUpdate)) {
			until, listed = l.list.NextUpdate, true
		}
	}
	return until, listed, nil
}
