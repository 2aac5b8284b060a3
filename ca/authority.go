package ca

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrNoAuthority: the directory holds no authority at all.
	ErrNoAuthority = errors.New("no certification authority")
	// ErrExists: Create found a file that it would have to overwrite.
	ErrExists = errors.New("certification authority exists already")
	// ErrName: the name cannot be put into a certificate.
	ErrName = errors.New("not a name for a certificate")
	// ErrOrigin: the origin's certificate does not allow a leaf: absent, outside its validity,
	// or for other names.
	ErrOrigin = errors.New("origin certificate does not allow a leaf")
)

// clockSkew is how far a leaf is back-dated. Together with the longest LeafValidity it stays
// under maxLife.
const clockSkew = 30 * time.Minute

// maxLife bounds a leaf's whole life. STIP FDP_CSIR_EXT.1: a certificate without revocation
// information must be valid for less than 24 hours.
const maxLife = 24 * time.Hour

// keyLife is how long one leaf key is used.
const keyLife = 24 * time.Hour

// Options of an authority. The zero value is the recommended one.
type Options struct {
	// Organization is the O of the subjects that Create makes: what a person sees in a device's
	// list of roots. At most 64 characters; "": framegate.
	Organization string

	// LeafValidity is how long a leaf is valid from the moment it is minted; origin and issuer
	// may shorten it. One minute to 23h29m; 0: 23h.
	LeafValidity time.Duration

	// CacheSize is the number of leaves kept; the least recently used goes first. One takes
	// about 4 KiB, one that mirrors as many names as is allowed about 30 KiB. 0: 4096.
	CacheSize int

	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() (Options, error) {
	if o.Organization == "" {
		o.Organization = "framegate"
	}
	// RFC 5280 appendix A.1: ub-organization-name INTEGER ::= 64
	if utf8.RuneCountInString(o.Organization) > 64 {
		return o, fmt.Errorf("ca: organization %.80q: longer than 64 characters", o.Organization)
	}
	for _, r := range o.Organization {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return o, fmt.Errorf("ca: organization %q: not printable text", o.Organization)
		}
	}
	if o.LeafValidity == 0 {
		o.LeafValidity = 23 * time.Hour
	}
	if o.LeafValidity < time.Minute || o.LeafValidity > maxLife-clockSkew-time.Minute {
		return o, fmt.Errorf("ca: leaf validity %v: must be from 1m to %v, because a leaf cannot be revoked", o.LeafValidity, maxLife-clockSkew-time.Minute)
	}
	if o.CacheSize == 0 {
		o.CacheSize = 4096
	}
	if o.CacheSize < 0 {
		return o, fmt.Errorf("ca: cache size %d: must not be negative", o.CacheSize)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

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

// An issuer signs leaves. The key is any crypto.Signer: from a file today.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// An Authority mints leaves. Make one with Create or Load.
type Authority struct {
	dir     string
	o       Options
	root    *x509.Certificate
	rootKey bool // root.key is there and readable
	issuers [kinds]issuer

	keys  [kinds]keySlot
	cache *cache
}

// now is the wall clock alone. With a monotonic reading the comparisons would miss the hours
// for which a machine was suspended, and an expired leaf be served.
func (a *Authority) now() time.Time { return a.o.Now().Round(0) }

// Purge forgets all leaves and leaf keys: after a change of policy or trust, or when an
// administrator asks. Connections that are up keep what they have.
func (a *Authority) Purge() {
	for k := range a.keys {
		a.keys[k].forget()
	}
	a.cache.purge()
}

// kindFor picks the leaf that the client can verify. A nil hello gets the default.
func (a *Authority) kindFor(hello *tls.ClientHelloInfo) Kind {
	if hello == nil {
		return ECDSA
	}
	h := *hello
	h.ServerName = "" // the question is about algorithms; names are judged in Leaf
	for k, iss := range a.issuers {
		// The issuer's key stands in for a leaf key, which is of the same algorithm and curve
		// and may not have been generated yet.
		if h.SupportsCertificate(&tls.Certificate{PrivateKey: iss.key}) == nil {
			return Kind(k)
		}
	}
	// Neither will do. crypto/tls answers with the right alert.
	return ECDSA
}
