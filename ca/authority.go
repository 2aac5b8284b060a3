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

	// Encrypt has Create and Request encrypt the keys that they make. Those that others make are
	// encrypted if the ones that they take the place of were.
	Encrypt bool

	// Passphrase returns what opens the encrypted key at a path, or what a new one there is to be
	// encrypted with. nil: there is no passphrase, and encrypted keys stay closed.
	Passphrase func(path string) ([]byte, error)

	// Signer opens a key that is not in a file but in a token, a hardware module or a service.
	// It is asked for each certificate by the name of its file, such as "issuing-ecdsa", and
	// returns nil for one that is in a file after all. nil: all are. The signer must be safe for
	// concurrent use. A key of kind RSA signs with PKCS #1 v1.5 and SHA-256.
	Signer func(name string, cert *x509.Certificate) (crypto.Signer, error)

	// PermitDNS and ExcludeDNS are the domains that new roots and issuers may or may not certify;
	// each stands for all names below it. One that begins with a period does not stand for
	// itself. With PermitDNS no address may be certified. nil: everything, and for Rotate what
	// the present issuers have.
	PermitDNS, ExcludeDNS []string

	// Issued is called with every leaf before it is shown to anybody; if it fails, the leaf is not
	// shown. It must be safe for concurrent use. nil: nobody is told.
	Issued func(*Issuance) error

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
	var err error
	if o.PermitDNS, err = checkDomains("permitted domain", o.PermitDNS); err != nil {
		return o, err
	}
	o.ExcludeDNS, err = checkDomains("excluded domain", o.ExcludeDNS)
	return o, err
}

// An Authority mints leaves. Make one with Create or Load.
type Authority struct {
	line
	dir     string
	o       Options
	standby *line // a second root, on its way in or out; may be nil
	version string

	keys  [kinds]keySlot
	cache *cache
}

// now is the wall clock alone. With a monotonic reading the comparisons would miss the hours
// for which a machine was suspended, and an expired leaf be served.
func (a *Authority) now() time.Time { return a.o.Now().Round(0) }

// Version names what signs, in 64 hexadecimal digits: it changes with the root in force or an
// issuer, and with nothing else. What clients resumed under another version they must not resume.
func (a *Authority) Version() string { return a.version }

// Purge forgets all leaves and leaf keys: after a change of policy or trust, or when an
// administrator asks. Connections that are up keep what they have.
func (a *Authority) Purge() {
	for k := range a.keys {
		a.keys[k].forget()
	}
	a.cache.purge()
}

// Shed drops the half of the leaves that was not used for longest, when memory is short. They
// are minted anew, with the keys that are in use, when they are asked for.
func (a *Authority) Shed() { a.cache.shed() }

// kindFor picks the leaf that the client can verify. A nil hello gets the default.
func (a *Authority) kindFor(hello *tls.ClientHelloInfo) Kind {
	best := ECDSA
	if a.issuers[best].cert == nil {
		best = RSA
	}
	if hello == nil {
		return best
	}
	h := *hello
	h.ServerName = "" // the question is about algorithms; names are judged in Leaf
	for k, iss := range a.issuers {
		// The issuer's key stands in for a leaf key, which is of the same algorithm and curve
		// and may not have been generated yet.
		if iss.key != nil && h.SupportsCertificate(&tls.Certificate{PrivateKey: iss.key}) == nil {
			return Kind(k)
		}
	}
	// Neither will do. crypto/tls answers with the right alert.
	return best
}
