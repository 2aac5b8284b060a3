package mitm

import (
	"crypto/tls"
	"errors"
	"slices"
)

// An offer is what the server is offered in the client's place: what the client
// itself offered, as far as crypto/tls speaks it and it is safe. So the server
// can choose nothing that the client would not have taken from it.
//
// crypto/tls has no say in the suites of TLS 1.3, all of which are strong, and
// in the signature algorithms, for which it has no weak ones.
type offer struct {
	min, max uint16        // versions
	suites   []uint16      // of TLS 1.2
	groups   []tls.CurveID // nil: the client named none, so any will do
}

// groups are the key exchanges that crypto/tls knows.
var groups = []tls.CurveID{
	tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024,
	tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
}

// What a ClientHello may lack.
var (
	errNoVersion  = errors.New("the client offers neither TLS 1.2 nor 1.3")
	errNoSuite    = errors.New("the client offers no cipher suite that is safe")
	errNoGroup    = errors.New("the client offers no key exchange that is supported")
	errNoProtocol = errors.New("the client does not offer http/1.1")
)

// offerOf returns what a server may be offered for the client that sent h.
func offerOf(h *tls.ClientHelloInfo) (offer, error) {
	var o offer
	if slices.Contains(h.SupportedVersions, tls.VersionTLS12) {
		o.min, o.max = tls.VersionTLS12, tls.VersionTLS12
	}
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) && slices.Contains(h.CipherSuites, s.ID) {
			o.suites = append(o.suites, s.ID)
		}
	}
	only13 := len(o.suites) == 0
	if slices.Contains(h.SupportedVersions, tls.VersionTLS13) {
		if o.max = tls.VersionTLS13; o.min == 0 || only13 {
			o.min = tls.VersionTLS13
		}
	}
	for _, g := range groups {
		if slices.Contains(h.SupportedCurves, g) {
			o.groups = append(o.groups, g)
		}
	}
	switch {
	case o.max == 0:
		return o, errNoVersion
	case o.max == tls.VersionTLS12 && only13:
		return o, errNoSuite
	case len(h.SupportedCurves) > 0 && len(o.groups) == 0:
		return o, errNoGroup
	case len(h.SupportedProtos) > 0 && !slices.Contains(h.SupportedProtos, alpn[0]):
		return o, errNoProtocol
	}
	return o, nil
}

// offerAlert is the alert for a client whose offer cannot be used.
func offerAlert(err error) byte {
	switch err {
	case errNoVersion:
		return alertProtocolVersion
	case errNoProtocol:
		return alertNoApplicationProtocol
	}
	return alertHandshakeFailure
}
