package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// skew is how far the clock of who signs a status may be ahead of ours. A
// response that was made for this very handshake must not fail by it.
const skew = 5 * time.Minute

// status asks the staple and the lists about a path. fresh is until when their
// answer holds.
func (t *Trust) status(path []*x509.Certificate, staple []byte, now time.Time) (fresh time.Time, e *Error) {
	leaf := path[0]
	fresh = leaf.NotAfter
	if len(path) == 1 {
		return fresh, nil // a root by itself: nobody can revoke it
	}
	good, stapled := false, false
	until, known, e := checkStaple(leaf, path[1], staple, now)
	if e != nil {
		return fresh, e
	}
	if known {
		good, stapled, fresh = true, true, earlier(fresh, until)
	}
	if !stapled && mustStaple(leaf) {
		return fresh, fault(NoStaple, leaf, "it demands an OCSP response, and the server has none")
	}
	for i, c := range path[:len(path)-1] {
		until, listed, e := t.lists(c, path[i+1], now)
		if e != nil {
			return fresh, e
		}
		if i == 0 && listed && !good {
			good, fresh = true, earlier(fresh, until)
		}
	}
	if t.RequireStatus && !good {
		return fresh, fault(NoStatus, leaf, "neither a staple nor a current list says that it is not revoked")
	}
	return fresh, nil
}

// checkStaple verifies a stapled OCSP response. known means that it says good.
func checkStaple(leaf, issuer *x509.Certificate, staple []byte, now time.Time) (until time.Time, known bool, e *Error) {
	if len(staple) == 0 {
		return until, false, nil
	}
	r, err := ocsp.ParseResponseForCert(staple, leaf, issuer)
	if err != nil {
		if errors.As(err, new(ocsp.ResponseError)) {
			// The responder was asked and had no answer. That is not signed: who
			// sends it could as well have sent nothing.
			return until, false, nil
		}
		return until, false, fault(BadStaple, leaf, "its OCSP response is not valid: %s", shorten(err.Error()))
	}
	if e := responder(r.Certificate, issuer, now); e != nil {
		return until, false, e
	}
	switch {
	case r.Status == ocsp.Revoked: // which no passing of time undoes
		return until, false, fault(Revoked, leaf, "by its OCSP response since %s, reason %d", r.RevokedAt.UTC().Format(time.RFC3339), r.RevocationReason)
	case r.ThisUpdate.After(now.Add(skew)):
		return until, false, fault(BadStaple, leaf, "its OCSP response begins at %s", r.ThisUpdate.UTC().Format(time.RFC3339))
	case r.NextUpdate.IsZero():
		// RFC 6960, Section 4.2.2.1: newer information is always to be had. Kept by
		// a server, such a response could be of any age.
		return until, false, fault(BadStaple, leaf, "its OCSP response has no end")
	case now.After(r.NextUpdate):
		return until, false, fault(BadStaple, leaf, "its OCSP response ended at %s", r.NextUpdate.UTC().Format(time.RFC3339))
	case r.Status != ocsp.Good:
		return until, false, fault(BadStaple, leaf, "its OCSP response does not know it")
	}
	return r.NextUpdate, true, nil
}

// responder checks the certificate of who signed in the issuer's place; package
// ocsp has checked that the issuer signed it. RFC 6960, Section 4.2.2.2: "OCSP
// signing delegation SHALL be designated by the inclusion of id-kp-OCSPSigning",
// without which any server that the issuer certified could sign.
func responder(c, issuer *x509.Certificate, now time.Time) *Error {
	if c == nil || bytes.Equal(c.Raw, issuer.Raw) {
		return nil
	}
	if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return fault(BadStaple, c, "it signed an OCSP response, and its extendedKeyUsage has no OCSPSigning")
	}
	for _, e := range []*Error{dates(c, now), key(c), signature(c)} {
		if e != nil {
			return fault(BadStaple, c, "it signed an OCSP response, and %s", e.Detail)
		}
	}
	return nil
}

var (
	oidTLSFeature   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24} // RFC 7633, Section 4.1
	statusRequest   = 5                                                 // RFC 6066, Section 8
	statusRequestV2 = 17                                                // RFC 6961, Section 2.2
)

// mustStaple reports whether a certificate demands a staple. RFC 7633, Section
// 4.2.3.1: a client that offered the feature SHOULD terminate if the server does
// not carry it out. An extension that cannot be read demands it: whoever put it
// there wanted something.
func mustStaple(c *x509.Certificate) bool {
	for _, x := range c.Extensions {
		if x.Id.Equal(oidTLSFeature) {
			var features []int
			_, err := asn1.Unmarshal(x.Value, &features)
			return err != nil || slices.Contains(features, statusRequest) || slices.Contains(features, statusRequestV2)
		}
	}
	return false
}
