package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
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

// standby is before the names of the files of the second root.
const standby = "standby-"

// files of an authority. The second root's have the same names behind standby.
var files = []string{
	"root.key",
	"issuing-ecdsa.key", "issuing-ecdsa.crt",
	"issuing-rsa.key", "issuing-rsa.crt",
	"root.crt",
}

// Load reads the authority in dir. It refuses a key that others can read or own, a key that is
// not its certificate's, a certificate out of its time, and an issuer that is not one under the
// root; the error is an *Error and names the file and the remedy. A missing root.key, or one
// that cannot be read, is no error. Where there is no authority at all the error is
// ErrNoAuthority.
//
// Without Options.Passphrase, encrypted keys stay closed: such an authority can be shown and
// exported, and mints nothing.
func Load(dir string, o Options) (*Authority, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	l := loader{dir: dir, layers: []string{filepath.Join(dir, pendingDir), dir}, now: o.Now(), o: o, dates: true}
	if l.owner, err = checkDir(dir); err != nil {
		return nil, err
	}
	held, err := openLocked(dir, false)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	return l.authority()
}

// A loader reads the files of an authority. For each it looks through the layers: in the last
// one, which is dir, a file is a file; in those before, an empty one stands for none.
type loader struct {
	dir    string
	layers []string
	owner  uint32 // of dir
	now    time.Time
	o      Options
	dates  bool // refuse what is out of its time
}

func (l *loader) authority() (*Authority, error) {
	a := &Authority{dir: l.dir, o: l.o, cache: newCache(l.o.CacheSize)}
	if err := l.complete(""); err != nil {
		return nil, err
	}
	var err error
	if a.line, err = l.line("", true); err != nil {
		return nil, err
	}
	if l.has(standby + "root.crt") {
		// Its time is not yet, or was: expiry is no reason to stop the one in force.
		s := *l
		s.dates = false
		if err := s.complete(standby); err != nil {
			return nil, err
		}
		other, err := s.line(standby, false)
		if err != nil {
			return nil, err
		}
		a.standby = &other
	}
	h := sha256.New()
	h.Write(a.root.Raw)
	for _, iss := range a.issuers {
		for _, der := range iss.chain {
			h.Write(der)
		}
	}
	a.version = hex.EncodeToString(h.Sum(nil))
	return a, nil
}

// line reads a root and the issuers under it.
func (l *loader) line(prefix string, open bool) (n line, err error) {
	certs, err := l.certs(prefix + "root")
	if err != nil {
		return n, err
	}
	n.root = certs[0]
	if len(certs) > 1 {
		return n, l.broken(l.path(prefix+"root.crt"), "something follows the first PEM block")
	}
	if err := n.root.CheckSignatureFrom(n.root); err != nil {
		return n, l.broken(l.path(prefix+"root.crt"), "not a root: "+oneLine(err))
	}
	// A token that has the root's key is not asked: it may well be in a safe.
	path, err := l.find(prefix + "root.key")
	var k keyFile
	if err == nil {
		k, err = l.keyAt(path, n.root, false)
	}
	switch {
	case err == nil:
		n.rootKey = keyState{path: k.path, sealed: k.sealed}
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
		return n, err
	}
	for k := range kinds {
		if !l.has(prefix + k.file() + ".crt") {
			continue
		}
		if n.issuers[k], err = l.issuer(prefix+k.file(), k, n.root, open); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (l *loader) issuer(name string, k Kind, root *x509.Certificate, open bool) (iss issuer, err error) {
	certs, err := l.certs(name)
	if err != nil {
		return iss, err
	}
	key, err := l.key(name, certs[0], open)
	if err != nil {
		return iss, err
	}
	iss = newIssuer(certs, root)
	iss.key, iss.keyState = key.signer, keyState{path: key.path, sealed: key.sealed, elsewhere: key.path == ""}
	if problem := iss.check(k, root, l.at(iss.cert)); problem != "" {
		return iss, l.broken(l.path(name+".crt"), problem)
	}
	return iss, nil
}

// at is the time by which an issuer is judged.
func (l *loader) at(cert *x509.Certificate) time.Time {
	if l.dates {
		return l.now
	}
	return cert.NotBefore
}

func (l *loader) path(name string) string { return filepath.Join(l.dir, name) }

// shown is the path by which people know a file: that in dir, wherever the file is for now.
func (l *loader) shown(path string) string {
	for _, layer := range l.layers {
		if filepath.Dir(path) == filepath.Clean(layer) {
			return l.path(filepath.Base(path))
		}
	}
	return path
}

// find returns where a file is; the error is an *Error that wraps fs.ErrNotExist if it is nowhere.
func (l *loader) find(name string) (string, error) {
	for i, layer := range l.layers {
		path := filepath.Join(layer, name)
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return "", accessError(path, err)
		case info.Size() == 0 && i < len(l.layers)-1:
			return "", accessError(l.path(name), fs.ErrNotExist)
		}
		return path, nil
	}
	return "", accessError(l.path(name), fs.ErrNotExist)
}

func (l *loader) has(name string) bool {
	_, err := l.find(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// complete tells an absent authority from one of which a part is missing. One of the two issuers
// may be absent, as an enterprise may sign for one algorithm alone. The key of a certificate may
// be in another place than a file.
func (l *loader) complete(prefix string) error {
	present := 0
	missing := ""
	for _, name := range files {
		if l.has(prefix + name) {
			present++
			continue
		}
		base := strings.TrimSuffix(strings.TrimSuffix(name, ".key"), ".crt")
		switch {
		case name == "root.key":
		case name == "root.crt":
			missing = name
		case strings.HasSuffix(name, ".crt") && l.has(prefix+base+".key"),
			strings.HasSuffix(name, ".key") && l.has(prefix+base+".crt") && l.o.Signer == nil:
			missing = name
		}
	}
	switch {
	case present == 0 && l.has(requestFiles[0]), present == 0 && l.has(requestFiles[2]):
		return &Error{
			Path:    l.dir,
			Problem: "a request waits for its certificate",
			Hint:    "framegate ca import --dir " + shellWord(l.dir) + " FILE..., or remove " + shellWord(l.path("request-*")),
		}
	case present == 0:
		return noAuthority(l.dir)
	case missing == "" && !l.has(prefix+"issuing-ecdsa.crt") && !l.has(prefix+"issuing-rsa.crt"):
		missing = "issuing-rsa.key"
	}
	if missing != "" {
		return l.lost(l.path(prefix+missing), "missing, though other files of the authority are there")
	}
	return nil
}

// broken is a fault that no change of modes mends.
func (l *loader) broken(path, problem string) *Error {
	return &Error{Path: path, Problem: problem, Hint: "restore it from a backup, or begin anew: " + anew(l.dir)}
}

// lost is a file that is missing or of no use. An issuer's can be made anew where the root's key is.
func (l *loader) lost(path, problem string) *Error {
	e := l.broken(path, problem)
	if strings.HasPrefix(filepath.Base(path), "issuing-") {
		e.Hint = "restore it from a backup, or framegate ca rotate --dir " + shellWord(l.dir) + "; devices need nothing new"
	}
	return e
}

// anew is the command that replaces an authority, keeping the old one.
func anew(dir string) string {
	dir = filepath.Clean(dir)
	d := shellWord(dir)
	return fmt.Sprintf("mv %s %s && framegate ca init --dir %s", d, shellWord(dir+".old"), d)
}

// minute is how these errors print a time.
const minute = "2006-01-02 15:04 MST"

// expired says that the certificate of a name without prefix has ended, and what to do.
func expired(dir, name string, cert *x509.Certificate) *Error {
	e := &Error{
		Path:    filepath.Join(dir, name+".crt"),
		Problem: "expired on " + cert.NotAfter.Format(minute),
		Hint:    "framegate ca rotate --dir " + shellWord(dir) + "; devices need nothing new",
	}
	if name == "root" {
		e.Hint = anew(dir) + ", then install the new root on the devices"
	}
	return e
}

// certs reads a CA certificate, and those between it and the root if there are any.
func (l *loader) certs(name string) ([]*x509.Certificate, error) {
	shown := l.path(name + ".crt")
	path, err := l.find(name + ".crt")
	if err != nil {
		return nil, err
	}
	data, err := readFile(path, false, l.owner)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for rest := data; len(certs) == 0 || strings.TrimSpace(string(rest)) != ""; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && len(certs) == 0:
			return nil, l.lost(shown, "not PEM")
		case block == nil || len(certs) > maxBetween:
			return nil, l.broken(shown, "something follows the first PEM block")
		case block.Type != certBlock:
			return nil, l.lost(shown, fmt.Sprintf("holds a %.40q, want a %q", block.Type, certBlock))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, l.lost(shown, oneLine(err))
		}
		certs = append(certs, cert)
	}
	for _, cert := range certs {
		switch {
		case l.dates && l.now.Before(cert.NotBefore):
			return nil, &Error{
				Path:    shown,
				Problem: fmt.Sprintf("not valid before %s, and it is %s", cert.NotBefore.Format(minute), l.now.UTC().Format(minute)),
				Hint:    "set the clock, see timedatectl status",
			}
		case l.dates && l.now.After(cert.NotAfter):
			return nil, expired(l.dir, name, cert)
		}
		if problem := notCA(cert); problem != "" {
			return nil, l.broken(shown, problem)
		}
	}
	return certs, nil
}

// notCA says why cert cannot be the certificate of an authority, or "".
func notCA(cert *x509.Certificate) string {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return "not a CA certificate"
	case cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return "not a CA certificate: its key usage does not allow to sign certificates"
	case len(cert.SubjectKeyId) == 0:
		// RFC 5280 section 4.2.1.2: "this extension MUST appear in all conforming CA
		// certificates"
		return "no subject key identifier"
	}
	return ""
}

// onlyBlock returns the content of the one PEM block in data, which is in the file at path.
func (l *loader) onlyBlock(path, blockType string, data []byte) ([]byte, error) {
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, l.lost(path, "not PEM")
	case block.Type != blockType:
		return nil, l.broken(path, fmt.Sprintf("holds a %.40q, want a %q", block.Type, blockType))
	case strings.TrimSpace(string(rest)) != "":
		return nil, l.lost(path, "something follows the first PEM block")
	}
	return block.Bytes, nil
}
