package ca

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	certBlock = "CERTIFICATE"
	keyBlock  = "PRIVATE KEY" // PKCS#8, RFC 7468 section 10
)

// files of an authority, in the order in which Create gives them their names: root.crt last,
// since without it there is no authority.
var files = []string{
	"root.key",
	"issuing-ecdsa.key", "issuing-ecdsa.crt",
	"issuing-rsa.key", "issuing-rsa.crt",
	"root.crt",
}

// Load reads the authority in dir. It refuses a key that others can read or own, a key that is
// not its certificate's, a certificate out of its time, and an issuer that the root did not
// sign; the error is an *Error and names the file and the remedy. A missing root.key, or one
// that cannot be read, is no error. Where there is no authority at all the error is
// ErrNoAuthority.
func Load(dir string, o Options) (*Authority, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	l := loader{dir: dir, now: o.Now()}
	if l.owner, err = checkDir(dir); err != nil {
		return nil, err
	}
	if err := l.complete(); err != nil {
		return nil, err
	}
	a := &Authority{dir: dir, o: o, cache: newCache(o.CacheSize)}
	if a.root, err = l.authorityCert("root"); err != nil {
		return nil, err
	}
	if err := a.root.CheckSignatureFrom(a.root); err != nil {
		return nil, l.broken("root.crt", "not a root: "+err.Error())
	}
	_, err = l.key("root", a.root)
	switch {
	case err == nil:
		a.rootKey = true
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
		return nil, err
	}
	for k := range kinds {
		if a.issuers[k], err = l.issuer(k, a.root); err != nil {
			return nil, err
		}
	}
	return a, nil
}

type loader struct {
	dir   string
	owner uint32 // of dir
	now   time.Time
}

func (l loader) path(name string) string { return filepath.Join(l.dir, name) }

// broken is a fault that no change of modes mends.
func (l loader) broken(name, problem string) *Error {
	return &Error{Path: l.path(name), Problem: problem, Hint: "restore it from a backup, or begin anew: " + anew(l.dir)}
}

// anew is the command that replaces an authority, keeping the old one.
func anew(dir string) string {
	dir = filepath.Clean(dir)
	d := shellWord(dir)
	return fmt.Sprintf("mv %s %s && framegate ca init --dir %s", d, shellWord(dir+".old"), d)
}

// complete tells an absent authority from one of which a part is missing.
func (l loader) complete() error {
	var missing []string
	for _, name := range files {
		_, err := os.Lstat(l.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
		} else if err != nil {
			return accessError(l.path(name), err)
		}
	}
	switch {
	case len(missing) == len(files):
		return noAuthority(l.dir)
	case len(missing) == 0, len(missing) == 1 && missing[0] == "root.key":
		return nil
	}
	return l.broken(missing[len(missing)-1], "missing, though other files of the authority are there")
}

// minute is how these errors print a time.
const minute = "2006-01-02 15:04 MST"

func expired(dir, name string, cert *x509.Certificate) *Error {
	return &Error{
		Path:    filepath.Join(dir, name),
		Problem: "expired on " + cert.NotAfter.Format(minute),
		Hint:    anew(dir) + ", then install the new root on the devices",
	}
}

// authorityCert reads a CA certificate that is valid now.
func (l loader) authorityCert(name string) (*x509.Certificate, error) {
	name += ".crt"
	der, err := l.pem(name, certBlock)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, l.broken(name, err.Error())
	}
	switch {
	case l.now.Before(cert.NotBefore):
		return nil, &Error{
			Path:    l.path(name),
			Problem: fmt.Sprintf("not valid before %s, and it is %s", cert.NotBefore.Format(minute), l.now.UTC().Format(minute)),
			Hint:    "set the clock, see timedatectl status",
		}
	case l.now.After(cert.NotAfter):
		return nil, expired(l.dir, name, cert)
	case !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, l.broken(name, "not a CA certificate")
	case len(cert.SubjectKeyId) == 0:
		// RFC 5280 section 4.2.1.2: "this extension MUST appear in all conforming CA
		// certificates"
		return nil, l.broken(name, "no subject key identifier")
	}
	return cert, nil
}

// key reads the private key that belongs to cert.
func (l loader) key(name string, cert *x509.Certificate) (crypto.Signer, error) {
	file := name + ".key"
	der, err := l.pem(file, keyBlock)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, l.broken(file, err.Error())
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, l.broken(file, fmt.Sprintf("a %T cannot sign", parsed))
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return nil, l.broken(file, "not the key of "+name+".crt")
	}
	return key, nil
}

// keyKinds is what the issuing keys must be. kindFor relies on it.
var keyKinds = [kinds]string{ECDSA: "ECDSA P-256", RSA: "RSA"}

func (l loader) issuer(k Kind, root *x509.Certificate) (iss issuer, err error) {
	name := "issuing-" + k.String()
	if iss.cert, err = l.authorityCert(name); err != nil {
		return iss, err
	}
	if iss.key, err = l.key(name, iss.cert); err != nil {
		return iss, err
	}
	if got, want := keyName(iss.cert.PublicKey), keyKinds[k]; !strings.HasPrefix(got, want) {
		return iss, l.broken(name+".crt", "its key is "+got+", want "+want)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	if _, err := iss.cert.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: l.now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return iss, l.broken(name+".crt", "not an issuer under root.crt: "+err.Error())
	}
	return iss, nil
}

// pem reads the one PEM block of a file.
func (l loader) pem(name, blockType string) ([]byte, error) {
	data, err := readFile(l.path(name), blockType == keyBlock, l.owner)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, l.broken(name, "not PEM")
	case block.Type != blockType:
		return nil, l.broken(name, fmt.Sprintf("holds a %.40q, want a %q", block.Type, blockType))
	case strings.TrimSpace(string(rest)) != "":
		return nil, l.broken(name, "something follows the first PEM block")
	}
	return block.Bytes, nil
}
