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
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
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
)

// Create makes a new authority in dir and returns it loaded. It takes about a second.
//
// dir is made with mode 0700, or must be empty or of that mode. Nothing is ever overwritten: if
// any file of an authority is there, the error is ErrExists. Files are written and synced under
// a temporary directory inside dir, loaded from there as a proof, and only then linked to their
// names, so a failure leaves nothing behind. A crash may leave a directory .init-*, and in the
// worst moment some of the files, which Load then refuses.
func Create(dir string, o Options) (*Authority, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	made, err := prepareDir(dir)
	var a *Authority
	if err == nil {
		a, err = createIn(dir, o)
	}
	if err != nil && made {
		os.Remove(dir)
	}
	return a, err
}

func createIn(dir string, o Options) (*Authority, error) {
	for _, name := range files {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil, existsError(dir, name)
		}
	}
	staging, err := os.MkdirTemp(dir, ".init-")
	if err != nil {
		return nil, accessError(dir, err)
	}
	defer os.RemoveAll(staging)

	if err := generate(staging, o); err != nil {
		return nil, fmt.Errorf("ca: cannot make an authority: %w", err)
	}
	a, err := Load(staging, o)
	if err != nil {
		return nil, fmt.Errorf("ca: a new authority failed its first check: %w", err)
	}
	if err := publish(staging, dir); err != nil {
		return nil, err
	}
	a.dir = dir
	return a, nil
}

// publish gives the staged files their names. link(2) fails where rename(2) would overwrite; of
// two racing calls one fails at the first name, having linked nothing.
func publish(staging, dir string) error {
	for i, name := range files {
		err := os.Link(filepath.Join(staging, name), filepath.Join(dir, name))
		if err == nil {
			continue
		}
		for _, done := range files[:i] {
			os.Remove(filepath.Join(dir, done))
		}
		if os.IsExist(err) {
			return existsError(dir, name)
		}
		return accessError(dir, err)
	}
	return syncDir(dir)
}

// generate writes the files of a new authority into dir.
func generate(dir string, o Options) error {
	rootKey, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return err
	}
	now := o.Now()
	tmpl := authorityTemplate(o, "root", now)
	tmpl.NotAfter = now.AddDate(10, 0, 0)
	tmpl.MaxPathLen = 1
	root, err := sign(tmpl, tmpl, rootKey.Public(), rootKey)
	if err != nil {
		return err
	}
	if err := writePair(dir, "root", root, rootKey); err != nil {
		return err
	}
	for k := range kinds {
		key, err := newKey(k, rsaBits)
		if err != nil {
			return err
		}
		tmpl := authorityTemplate(o, "issuing "+k.String(), now)
		tmpl.NotAfter = tmpl.NotBefore.AddDate(1, 0, 0)
		tmpl.MaxPathLenZero = true
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		cert, err := sign(tmpl, root, key.Public(), rootKey)
		if err != nil {
			return err
		}
		if err := writePair(dir, "issuing-"+k.String(), cert, key); err != nil {
			return err
		}
	}
	return syncDir(dir)
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
			CommonName:   fmt.Sprintf("framegate %s %s", role, hex.EncodeToString(id)),
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

func newKey(k Kind, bits int) (crypto.Signer, error) {
	if k == RSA {
		return rsa.GenerateKey(rand.Reader, bits)
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

func writePair(dir, name string, cert *x509.Certificate, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := writeFile(path+".key", &pem.Block{Type: keyBlock, Bytes: der}, 0o600); err != nil {
		return err
	}
	return writeFile(path+".crt", &pem.Block{Type: certBlock, Bytes: cert.Raw}, 0o644)
}

func writeFile(path string, block *pem.Block, perm os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pem.Encode(f, block); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
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
