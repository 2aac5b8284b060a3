package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// ErrPassphrase: the passphrase does not open the key.
var ErrPassphrase = errors.New("wrong passphrase")

// workFactor of scrypt for new files: 2^17, which is 128 MiB and some tenths of a second for each
// key, and what the OWASP password storage guide asks for. A gateway opens two at its start.
var workFactor = 17

// maxWorkFactor bounds what opening a file may cost: 2^20 are 1 GiB.
const maxWorkFactor = 20

// encodeKey returns the file of a key: PKCS#8 PEM, inside an armored age file if there is a
// passphrase, so that `age -d` opens it without this program.
func encodeKey(key crypto.Signer, passphrase []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	plain := pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})
	if passphrase == nil {
		return plain, nil
	}
	return seal(plain, passphrase)
}

func seal(plain, passphrase []byte) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(workFactor)
	var b bytes.Buffer
	lines := armor.NewWriter(&b)
	w, err := age.Encrypt(lines, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), lines.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func sealed(data []byte) bool { return bytes.HasPrefix(data, []byte(armor.Header)) }

func unseal(data, passphrase []byte) ([]byte, error) {
	identity, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(data)), identity)
	var no *age.NoIdentityMatchError
	if errors.As(err, &no) {
		return nil, ErrPassphrase
	} else if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, 64<<10))
}

// A keyFile is the file of a key, opened or not.
type keyFile struct {
	path   string // as people know it
	sealed bool
	signer crypto.Signer // nil: not opened
}

// key reads the private key of cert and sees to it that it is the one. Without a passphrase, or
// with open false, a sealed one stays closed.
func (l *loader) key(name string, cert *x509.Certificate, open bool) (k keyFile, err error) {
	if l.o.Signer != nil {
		if k.signer, err = l.o.Signer(name, cert); err != nil {
			return k, &Error{Path: l.path(name + ".crt"), Problem: "its key cannot be opened: " + oneLine(err), Hint: "look at the token that holds it", Err: err}
		} else if k.signer != nil {
			return k, l.belongs(k.signer, l.path(name+".crt"), cert)
		}
	}
	path, err := l.find(name + ".key")
	if err != nil {
		return k, err
	}
	return l.keyAt(path, cert, open)
}

// keyAt reads the key of cert from the file at path; cert nil: of any.
func (l *loader) keyAt(path string, cert *x509.Certificate, open bool) (k keyFile, err error) {
	k.path = l.shown(path)
	data, err := readFile(path, true, l.owner)
	if err != nil {
		return k, err
	}
	if k.sealed = sealed(data); k.sealed {
		if !open || l.o.Passphrase == nil {
			return k, nil
		}
		passphrase, err := l.o.Passphrase(k.path)
		if err != nil {
			return k, err
		}
		if data, err = unseal(data, passphrase); err != nil {
			return k, &Error{Path: k.path, Problem: "cannot be opened: " + oneLine(err), Hint: "give the passphrase that it was encrypted with, see ca.passphrase_file", Err: err}
		}
	}
	der, err := l.onlyBlock(k.path, keyBlock, data)
	if err != nil {
		return k, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return k, l.lost(k.path, oneLine(err))
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return k, l.broken(k.path, fmt.Sprintf("a %T cannot sign", parsed))
	}
	k.signer = signer
	return k, l.belongs(signer, k.path, cert)
}

// belongs sees to it that key, which is at path, is that of cert; nil is any certificate.
func (l *loader) belongs(key crypto.Signer, path string, cert *x509.Certificate) error {
	if cert != nil && !samePublic(key.Public(), cert.PublicKey) {
		return l.lost(path, "not the key of "+strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))+".crt")
	}
	return nil
}

func samePublic(a, b crypto.PublicKey) bool {
	eq, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && eq.Equal(b)
}

// rootSigner opens the key of the root: in the file elsewhere, or in the directory if that is "".
func (l *loader) rootSigner(root *x509.Certificate, elsewhere string) (crypto.Signer, error) {
	var k keyFile
	var err error
	if elsewhere == "" {
		k, err = l.key("root", root, true)
	} else {
		k, err = l.keyAt(elsewhere, root, true)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && elsewhere == "":
		return nil, &Error{
			Path:    l.path("root.key"),
			Problem: "not here, and only the root's key can make new issuers",
			Hint: fmt.Sprintf("framegate ca rotate --dir %s --root-key FILE, or framegate ca csr --dir %s if the root is another authority's",
				shellWord(l.dir), shellWord(l.dir)),
			Err: err,
		}
	case err != nil:
		return nil, err
	case k.signer == nil:
		return nil, sealedError(k.path)
	}
	return k.signer, nil
}

func sealedError(path string) *Error {
	return &Error{Path: path, Problem: "encrypted, and there is no passphrase", Hint: "set ca.passphrase_file, or LoadCredential=framegate-ca:FILE in the unit"}
}

// Reseal encrypts the keys of the authority in dir with passphrase, or with nil leaves them in the
// clear. Those that are encrypted already are opened with o.Passphrase first. A root key that
// only the superuser may read stays as it is.
func Reseal(dir string, o Options, passphrase []byte) (*Authority, error) {
	return changed(dir, o, func(c *change, l *loader) error {
		if err := l.complete(""); err != nil {
			return err
		}
		for _, name := range ownedFiles() {
			path, err := l.find(name)
			if filepath.Ext(name) != ".key" || err != nil {
				continue
			}
			k, err := l.keyAt(path, nil, true)
			switch {
			case errors.Is(err, fs.ErrPermission) && strings.HasSuffix(name, "root.key"):
				continue
			case err != nil:
				return err
			case k.signer == nil:
				return sealedError(k.path)
			}
			if err := c.writeKey(strings.TrimSuffix(name, ".key"), k.signer, passphrase); err != nil {
				return err
			}
		}
		c.proof.Passphrase = func(string) ([]byte, error) { return passphrase, nil }
		return nil
	})
}
