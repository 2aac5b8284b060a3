package ca

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Leaf returns the certificate, with its chain, to show a client in place of origin.
//
// name is what the client asked for and origin was verified for: a DNS name in ASCII or an IP
// address. "" means that the client named nothing; then the leaf bears the DNS names and
// addresses of origin. origin is the verified certificate of the server, and is checked once
// more here: no leaf is issued for a name that it does not bear, nor outside its validity.
// hello tells which signatures the client can verify; nil: the default, ECDSA.
//
// The result is shared and must not be changed. Errors are ErrName, ErrOrigin, ErrConstraint, an
// *Error where the issuer has expired or its key is closed, that of Options.Issued, or that of
// ctx, which ends the wait for another call's minting.
func (a *Authority) Leaf(ctx context.Context, name string, origin *x509.Certificate, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := a.now()
	switch {
	case origin == nil || len(origin.Raw) == 0:
		return nil, fmt.Errorf("ca: %w: there is none", ErrOrigin)
	case now.Before(origin.NotBefore) || now.After(origin.NotAfter):
		return nil, fmt.Errorf("ca: %w: valid from %s to %s only", ErrOrigin, origin.NotBefore.UTC().Format(time.RFC3339), origin.NotAfter.UTC().Format(time.RFC3339))
	}

	id := leafID{kind: a.kindFor(hello)}
	var n names
	var err error
	if name == "" {
		id.origin = sha256.Sum256(origin.Raw)
		n, err = mirror(origin)
	} else {
		n, id.name, err = parseName(name)
	}
	if err != nil {
		return nil, err
	}
	if id.name != "" && origin.VerifyHostname(id.name) != nil {
		return nil, fmt.Errorf("ca: %w: it is not for %q", ErrOrigin, id.name)
	}
	asked := n
	// Of the names of an origin those that are outside are left out, as long as one is inside.
	if n, _ = a.issuers[id.kind].limits.names(n); len(n.dns)+len(n.ips) == 0 {
		return nil, fmt.Errorf("ca: %s: %w", asked, ErrConstraint)
	}

	l, err := a.cache.get(ctx, id,
		func(l *leaf) bool { return l.fits(origin, now) },
		func() (*leaf, error) { return a.mint(id.kind, n, origin, now) })
	if err != nil {
		return nil, err
	}
	return l.cert, nil
}

// Own returns the certificate, with its chain, for a service of the gateway itself under the DNS
// name: the one leaf that stands for no server's certificate. It must be called with no name but
// that of such a service, and never with one that a client chose. In all else it is as Leaf.
func (a *Authority) Own(ctx context.Context, name string, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id := leafID{kind: a.kindFor(hello), own: true}
	n, canonical, err := parseName(name)
	if err != nil {
		return nil, err
	}
	id.name = canonical
	if _, all := a.issuers[id.kind].limits.names(n); !all {
		return nil, fmt.Errorf("ca: %s: %w", n, ErrConstraint)
	}
	now := a.now()
	l, err := a.cache.get(ctx, id,
		func(l *leaf) bool { return l.lasts(now) },
		func() (*leaf, error) { return a.mint(id.kind, n, nil, now) })
	if err != nil {
		return nil, err
	}
	return l.cert, nil
}

// CanOwn returns the error that Own would have for the name because of what it is, nil if it
// would not.
func (a *Authority) CanOwn(name string) error {
	n, _, err := parseName(name)
	if err != nil {
		return err
	}
	for _, iss := range a.issuers {
		if _, all := iss.limits.names(n); iss.cert != nil && !all {
			return fmt.Errorf("ca: %s: %w", n, ErrConstraint)
		}
	}
	return nil
}

// A leaf is immutable.
type leaf struct {
	cert  *tls.Certificate
	renew time.Time // from here on a new one is minted
}

// fits reports whether the leaf can be shown in place of origin now.
func (l *leaf) fits(origin *x509.Certificate, now time.Time) bool {
	c := l.cert.Leaf
	return l.lasts(now) && !c.NotBefore.Before(origin.NotBefore) && !c.NotAfter.After(origin.NotAfter)
}

// lasts reports whether the leaf can be shown now as far as that is up to the leaf.
func (l *leaf) lasts(now time.Time) bool {
	return now.Before(l.renew) && !now.Before(l.cert.Leaf.NotBefore)
}

// mint makes a leaf in place of origin, or for the gateway itself if that is nil.
func (a *Authority) mint(k Kind, n names, origin *x509.Certificate, now time.Time) (*leaf, error) {
	iss := a.issuers[k]
	// Certificates count in whole seconds, so cutting now down costs nothing that they could
	// say.
	notBefore := latest(now.Add(-clockSkew).Truncate(time.Second), iss.cert.NotBefore)
	notAfter := earliest(now.Add(a.o.LeafValidity).Truncate(time.Second), iss.cert.NotAfter)
	if origin != nil {
		notBefore, notAfter = latest(notBefore, origin.NotBefore), earliest(notAfter, origin.NotAfter)
	}
	if !now.Before(iss.cert.NotAfter) {
		return nil, expired(a.dir, k.file(), iss.cert)
	}
	if iss.key == nil {
		return nil, sealedError(iss.path)
	}
	key, err := a.keys[k].get(k, now)
	if err != nil {
		return nil, fmt.Errorf("ca: leaf key: %w", err)
	}
	cert, err := sign(leafTemplate(n, notBefore, notAfter), iss.cert, key.signer.Public(), iss.key)
	if err != nil {
		return nil, fmt.Errorf("ca: mint: %w", err)
	}
	if a.o.Issued != nil {
		if err := a.o.Issued(issuance(cert, origin, iss.cert)); err != nil {
			return nil, fmt.Errorf("ca: the new leaf cannot be reported: %w", err)
		}
	}
	return &leaf{
		cert: &tls.Certificate{
			Certificate: slices.Concat([][]byte{cert.Raw}, iss.chain),
			PrivateKey:  key.signer,
			Leaf:        cert,
		},
		// Renewed in the last quarter: a client that is slow to verify, or whose clock is fast,
		// still finds it valid. And no key is shown past its life.
		renew: earliest(now.Add(notAfter.Sub(now)*3/4), key.made.Add(keyLife)),
	}, nil
}

// leafTemplate is the profile of a leaf, see the package documentation.
func leafTemplate(n names, notBefore, notAfter time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: n.commonName()},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              n.dns,
		IPAddresses:           n.ips,
	}
}

// An Issuance says which leaf was made in place of which certificate. STIP FDP_CER_EXT.2 wants
// the link between the two on record.
type Issuance struct {
	Leaf      [32]byte // SHA-256 of the leaf
	Origin    [32]byte // SHA-256 of the server's certificate that it was made for; zeros: the gateway itself
	Issuer    [32]byte // SHA-256 of the issuer's certificate
	Serial    string   // 32 hexadecimal digits
	Names     []string // DNS names and addresses
	NotBefore time.Time
	NotAfter  time.Time
}

func issuance(leaf, origin, issuer *x509.Certificate) *Issuance {
	i := &Issuance{
		Leaf:      sha256.Sum256(leaf.Raw),
		Issuer:    sha256.Sum256(issuer.Raw),
		Serial:    serial(leaf),
		Names:     slices.Clone(leaf.DNSNames),
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
	}
	if origin != nil {
		i.Origin = sha256.Sum256(origin.Raw)
	}
	for _, ip := range leaf.IPAddresses {
		i.Names = append(i.Names, ip.String())
	}
	return i
}

func serial(c *x509.Certificate) string { return fmt.Sprintf("%032x", c.SerialNumber) }

func latest(t time.Time, more ...time.Time) time.Time {
	for _, u := range more {
		if u.After(t) {
			t = u
		}
	}
	return t
}

func earliest(t time.Time, more ...time.Time) time.Time {
	for _, u := range more {
		if u.Before(t) {
			t = u
		}
	}
	return t
}

// A leafKey is shared by all leaves of its kind and epoch.
type leafKey struct {
	signer crypto.Signer
	made   time.Time
}

// A keySlot holds the present leaf key of one kind, made when first needed: a gateway without
// RSA-only clients never makes an RSA key.
type keySlot struct {
	mu  sync.Mutex
	key *leafKey
}

func (s *keySlot) get(k Kind, now time.Time) (*leafKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key != nil {
		if age := now.Sub(s.key.made); age >= 0 && age < keyLife {
			return s.key, nil
		}
	}
	signer, err := newKey(k, leafRSABits)
	if err != nil {
		return nil, err
	}
	s.key = &leafKey{signer, now}
	return s.key, nil
}

func (s *keySlot) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = nil
}
