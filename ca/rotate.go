package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Rotate replaces the issuers of the authority in dir by new ones under the same root: devices
// need nothing. rootKey is the file of the root's key; "" is root.key in dir. The old issuers may
// have expired, or a file of theirs be lost; their keys are deleted. Name constraints stay as the old issuers have them, but
// for those that o has.
func Rotate(dir string, o Options, rootKey string) (*Authority, error) {
	return changed(dir, o, func(c *change, l *loader) error {
		if !l.has("root.crt") {
			return l.complete("")
		}
		l.dates = true
		roots, err := l.certs("root")
		if err != nil {
			return err
		}
		l.dates = false
		key, err := l.rootSigner(roots[0], rootKey)
		if err != nil {
			return err
		}
		present, seal, err := l.heritage(&l.o, roots[0])
		if err != nil {
			return err
		}
		for k := range kinds {
			if !present[k] {
				continue
			}
			if err := c.newIssuer("", k, l.o, roots[0], key, seal); err != nil {
				return err
			}
		}
		return nil
	})
}

// heritage is what new issuers take over from the old ones, of which any part may be missing: the
// kinds, whether keys are encrypted, and the name constraints, where o has none.
func (l *loader) heritage(o *Options, root *x509.Certificate) (present [kinds]bool, seal []byte, err error) {
	encrypt := false
	model := root
	for k := range kinds {
		if l.has(k.file() + ".crt") {
			certs, err := l.certs(k.file())
			if err != nil {
				return present, nil, err
			}
			present[k], model = true, certs[0]
		}
		if path, err := l.find(k.file() + ".key"); err == nil {
			data, err := readFile(path, true, l.owner)
			if err != nil {
				return present, nil, err
			}
			present[k] = true
			encrypt = encrypt || sealed(data)
		}
	}
	if present == [kinds]bool{} {
		present = [kinds]bool{true, true}
	}
	if o.PermitDNS == nil {
		o.PermitDNS = model.PermittedDNSDomains
	}
	if o.ExcludeDNS == nil {
		o.ExcludeDNS = model.ExcludedDNSDomains
	}
	seal, err = o.sealWith(l.path(ECDSA.file()+".key"), encrypt)
	return present, seal, err
}

// ErrTwoRoots: a change of roots is under way.
var ErrTwoRoots = errors.New("a change of roots is under way")

// errOneRoot is the same for a change that needs one under way.
func errOneRoot(dir string) error {
	return &Error{Path: dir, Problem: "there is no second root", Hint: "framegate ca rotate --root --dir " + shellWord(dir) + " makes one"}
}

func errTwoRoots(dir string) error {
	d := shellWord(dir)
	return &Error{
		Path:    dir,
		Problem: ErrTwoRoots.Error(),
		Hint:    fmt.Sprintf("framegate ca show --dir %s, then ca rotate --root with --activate or --drop", d),
		Err:     ErrTwoRoots,
	}
}

// NewRoot makes a second root, with issuers under it, beside the one in force. Roots has both from
// here on, for devices to get; nothing is issued under the new one before Activate. Its key can go
// to a safe at once, since Activate does not need it. Name constraints are as with Rotate.
func NewRoot(dir string, o Options) (*Authority, error) {
	return changed(dir, o, func(c *change, l *loader) error {
		if err := l.complete(""); err != nil {
			return err
		}
		if l.has(standby + "root.crt") {
			return errTwoRoots(dir)
		}
		certs, err := l.certs("root")
		if err != nil {
			return err
		}
		_, seal, err := l.heritage(&l.o, certs[0])
		if err != nil {
			return err
		}
		return c.newLine(standby, l.o, seal)
	})
}

// Activate exchanges the root in force and the second one. It can be undone by another Activate,
// until DropRoot.
func Activate(dir string, o Options) (*Authority, error) {
	return changed(dir, o, func(c *change, l *loader) error {
		if !l.has(standby + "root.crt") {
			return errOneRoot(dir)
		}
		for _, name := range files {
			for _, pair := range [][2]string{{name, standby + name}, {standby + name, name}} {
				if err := c.move(l, pair[0], pair[1]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// move stages the file from under the name to, or the absence of it.
func (c *change) move(l *loader, from, to string) error {
	path, err := l.find(from)
	if errors.Is(err, fs.ErrNotExist) {
		return c.remove(to)
	}
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return accessError(path, err)
	}
	return c.write(to, data)
}

// DropRoot ends the time of two roots: the one that is not in force goes, and its keys with it. It
// returns the certificate, for what remains to be done: to take it off the devices.
func DropRoot(dir string, o Options) (*Authority, *x509.Certificate, error) {
	var gone *x509.Certificate
	a, err := changed(dir, o, func(c *change, l *loader) error {
		if !l.has(standby + "root.crt") {
			return errOneRoot(dir)
		}
		certs, err := l.certs(standby + "root")
		if err != nil {
			return err
		}
		gone = certs[0]
		for _, name := range files {
			if err := c.remove(standby + name); err != nil {
				return err
			}
		}
		return nil
	})
	return a, gone, err
}
