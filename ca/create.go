package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// rsaBits for root and issuer: 128 bits of strength, good past 2030 (NIST SP 800-57 part 1,
	// table 2).
	rsaBits = 3072
	// leafRSABits for a key that lives a day; Apple asks for at least that
	// (support.apple.com/103769).
	leafRSABits = 2048

	// authoritySkew back-dates root and issuers, see "Time" in the package documentation.
	authoritySkew = 24 * time.Hour

	// rootName is how the names of our own roots begin, see authorityTemplate.
	rootName = "framegate root "
)

// Create makes a new authority in dir and returns it loaded. It takes about a second.
//
// dir is made with mode 0700, or must be empty or of that mode. Nothing is ever overwritten: if
// any file of an authority is there, the error is ErrExists. A failure leaves nothing behind, and
// a crash leaves all of the authority or nothing of it, see change.
func Create(dir string, o Options) (*Authority, error) {
	if _, err := o.withDefaults(); err != nil {
		return nil, err
	}
	made, err := prepareDir(dir)
	if err != nil {
		return nil, err
	}
	a, err := changed(dir, o, func(c *change, l *loader) error {
		for _, name := range ownedFiles() {
			if l.has(name) {
				return existsError(dir, name)
			}
		}
		seal, err := l.o.sealWith(l.path("root.key"), l.o.Encrypt)
		if err != nil {
			return err
		}
		return c.newLine("", l.o, seal)
	})
	if err != nil && made {
		os.Remove(dir)
	}
	return a, err
}

// ownedFiles are all the names that this package gives to files.
func ownedFiles() []string {
	list := slices.Concat(files, requestFiles)
	for _, name := range files {
		list = append(list, standby+name)
	}
	return list
}

// sealWith returns the passphrase for new keys, which are to be beside the file at path.
func (o Options) sealWith(path string, encrypt bool) ([]byte, error) {
	if !encrypt {
		return nil, nil
	}
	if o.Passphrase == nil {
		return nil, sealedError(path)
	}
	return o.Passphrase(path)
}

// newLine stages a new root, and issuers of both kinds under it.
func (c *change) newLine(prefix string, o Options, seal []byte) error {
	key, err := newRSA(rand.Reader, rsaBits)
	if err != nil {
		return err
	}
	now := o.Now()
	tmpl := authorityTemplate(o, "root", now)
	tmpl.NotAfter = now.AddDate(10, 0, 0)
	tmpl.MaxPathLen = 1
	limitNames(tmpl, o.PermitDNS, o.ExcludeDNS)
	root, err := sign(tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	if err := c.writeKey(prefix+"root", key, seal); err != nil {
		return err
	}
	if err := c.writeCerts(prefix+"root", root); err != nil {
		return err
	}
	for k := range kinds {
		if err := c.newIssuer(prefix, k, o, root, key, seal); err != nil {
			return err
		}
	}
	return nil
}

// newIssuer stages an issuer of one kind under root.
func (c *change) newIssuer(prefix string, k Kind, o Options, root *x509.Certificate, rootKey crypto.Signer, seal []byte) error {
	key, err := newKey(k, rsaBits)
	if err != nil {
		return err
	}
	tmpl := authorityTemplate(o, "issuing "+k.String(), o.Now())
	tmpl.NotAfter = earliest(tmpl.NotBefore.AddDate(1, 0, 0), root.NotAfter)
	tmpl.MaxPathLenZero = true
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	limitNames(tmpl, o.PermitDNS, o.ExcludeDNS)
	cert, err := sign(tmpl, root, key.Public(), rootKey)
	if err != nil {
		return err
	}
	if err := c.writeKey(prefix+k.file(), key, seal); err != nil {
		return err
	}
	return c.writeCerts(prefix+k.file(), cert)
}

// authorityTemplate is what root and issuers share. The random part of the name tells the roots
// of two gateways apart in a device's list.
func authorityTemplate(o Options, role string, now time.Time) *x509.Certificate {
	id := make([]byte, 8)
	rand.Read(id)
	return &x509.Certificate{
		SerialNumber: newSerial(),
		Subject: pkix.Name{
			Organization: []string{o.Organization},
			CommonName:   "framegate " + role + " " + hex.EncodeToString(id),
		},
		NotBefore:             now.Add(-authoritySkew),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

// newSerial returns 128 random bits. RFC 5280 section 4.1.2.2: at most 20 octets. The MUST of a
// positive number fails once in 2^128, and then in x509.CreateCertificate.
func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	return new(big.Int).SetBytes(b)
}

// newRSA takes a second, so tests have a stock.
var newRSA = rsa.GenerateKey

func newKey(k Kind, bits int) (crypto.Signer, error) {
	if k == RSA {
		return newRSA(rand.Reader, bits)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// sign returns the signed certificate, parsed: a template lacks the key identifier that the
// certificates below it must quote.
func sign(tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// prepareDir makes dir, or makes an empty one private; a directory with other content is left
// as it is and refused by Load's rules if it is laxer. It reports whether dir is new.
func prepareDir(dir string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, accessError(dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err == nil {
		return true, syncDir(filepath.Dir(dir))
	} else if !os.IsExist(err) {
		return false, accessError(dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, accessError(dir, err)
	}
	if len(entries) == 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return false, accessError(dir, err)
		}
	}
	_, err = checkDir(dir)
	return false, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return accessError(dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return accessError(dir, err)
	}
	return nil
}
