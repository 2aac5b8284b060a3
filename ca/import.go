package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
)

// ErrImport: certificates do not make an authority of the keys that wait.
var ErrImport = errors.New("nothing is changed")

// ParseCertificates returns the certificates of a file: PEM, or one in DER.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := data
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != certBlock {
			return nil, fmt.Errorf("holds a %.40q, expected certificates only", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %s", len(certs)+1, oneLine(err))
		}
		certs = append(certs, cert)
	}
	if len(certs) > 0 {
		return certs, nil
	}
	cert, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, errors.New("no certificate in it, neither as PEM nor as DER")
	}
	return []*x509.Certificate{cert}, nil
}

// Import makes an authority of the keys that Request made and of certs: for each key its
// certificate, those between them and the root, and the root, which may be absent if it is that in
// force. All of it is checked as a client would, and the error says what does not fit.
//
// Under the root in force the new issuers replace the old ones at once. Another root becomes the
// second one, so that devices can get it before Activate. Where there was no authority, it is the
// one in force.
func Import(dir string, o Options, certs []*x509.Certificate) (*Authority, error) {
	return changed(dir, o, func(c *change, l *loader) error {
		present, err := l.presentRoot()
		if err != nil {
			return err
		}
		root, err := rootOf(certs, present)
		if err != nil {
			return err
		}
		prefix := ""
		if present != nil && !root.Equal(present) {
			if l.has(standby + "root.crt") {
				return errTwoRoots(dir)
			}
			prefix = standby
		}
		used := map[*x509.Certificate]bool{root: true}
		found := 0
		for k := range kinds {
			chain, key, err := l.requested(k, certs, root)
			if err != nil {
				return err
			}
			if chain == nil {
				continue
			}
			found++
			for _, cert := range chain {
				used[cert] = true
				if problem := importable(cert, l.now.Before(cert.NotBefore), l.now.After(cert.NotAfter)); problem != "" {
					return importError("%s: %s", shortSubject(cert), problem)
				}
			}
			iss := newIssuer(chain, root)
			iss.key = key
			if problem := iss.check(k, root, l.now); problem != "" {
				return importError("%s: %s", shortSubject(iss.cert), problem)
			}
			if err := c.writeCerts(prefix+k.file(), chain...); err != nil {
				return err
			}
			if err := c.move(l, k.request()+".key", prefix+k.file()+".key"); err != nil {
				return err
			}
		}
		if found == 0 {
			return &Error{Path: dir, Problem: "no request waits here", Hint: "framegate ca csr --dir " + shellWord(dir) + " makes the keys and the requests"}
		}
		for i, cert := range certs {
			if !used[cert] && !root.Equal(cert) {
				return importError("certificate %d, %s, is no part of the chain of any request", i+1, shortSubject(cert))
			}
		}
		if prefix != "" || present == nil {
			if err := c.writeCerts(prefix+"root", root); err != nil {
				return err
			}
		}
		for _, name := range requestFiles {
			if err := c.remove(name); err != nil {
				return err
			}
		}
		return nil
	})
}

func importError(format string, args ...any) error {
	return fmt.Errorf("ca: %w: "+format, append([]any{ErrImport}, args...)...)
}

func shortSubject(c *x509.Certificate) string { return fmt.Sprintf("%.200q", c.Subject.String()) }

// importable says why a certificate of the chain cannot be taken, or "".
func importable(cert *x509.Certificate, early, late bool) string {
	switch {
	case early:
		return "not valid before " + cert.NotBefore.UTC().Format(minute)
	case late:
		return "expired on " + cert.NotAfter.UTC().Format(minute)
	}
	return notCA(cert)
}

// presentRoot is the root in force, nil if there is none.
func (l *loader) presentRoot() (*x509.Certificate, error) {
	if !l.has("root.crt") {
		return nil, nil
	}
	certs, err := l.certs("root")
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// rootOf finds the one root among certs; without one it is that in force.
func rootOf(certs []*x509.Certificate, present *x509.Certificate) (*x509.Certificate, error) {
	var root *x509.Certificate
	for _, c := range certs {
		if !bytes.Equal(c.RawSubject, c.RawIssuer) || c.CheckSignatureFrom(c) != nil {
			continue
		}
		if root != nil && !root.Equal(c) {
			return nil, importError("two roots: %s and %s", shortSubject(root), shortSubject(c))
		}
		root = c
	}
	switch {
	case root != nil:
		return root, nil
	case present != nil:
		return present, nil
	}
	return nil, importError("the root is not among the certificates; devices trust it, so it has to be known")
}

// requested returns the key of kind k that waits, and its chain up to root without it: nil, nil
// if none waits.
func (l *loader) requested(k Kind, certs []*x509.Certificate, root *x509.Certificate) (chain []*x509.Certificate, _ crypto.Signer, _ error) {
	path, err := l.find(k.request() + ".key")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	key, err := l.keyAt(path, nil, true)
	if err != nil {
		return nil, nil, err
	}
	if key.signer == nil {
		return nil, nil, sealedError(key.path)
	}
	var own *x509.Certificate
	for _, c := range certs {
		if !samePublic(key.signer.Public(), c.PublicKey) {
			continue
		}
		if own != nil && !own.Equal(c) {
			return nil, nil, importError("two certificates for %s", k.request()+".key")
		}
		own = c
	}
	if own == nil {
		return nil, nil, importError("no certificate is for %s", k.request()+".key")
	}
	chain = []*x509.Certificate{own}
	for last := own; last.CheckSignatureFrom(root) != nil; {
		i := next(certs, last, chain)
		switch {
		case i == nil:
			return nil, nil, importError("%s: its issuer %.200q is not among the certificates, and not the root", shortSubject(last), last.Issuer.String())
		case len(chain) > maxBetween:
			return nil, nil, importError("%s: more than %d certificates between it and the root", shortSubject(own), maxBetween)
		}
		chain = append(chain, i)
		last = i
	}
	return chain, key.signer, nil
}

// next returns the certificate that signed c, if it is not in the chain yet.
func next(certs []*x509.Certificate, c *x509.Certificate, chain []*x509.Certificate) *x509.Certificate {
	for _, p := range certs {
		if !bytes.Equal(p.RawSubject, c.RawIssuer) || c.CheckSignatureFrom(p) != nil {
			continue
		}
		again := false
		for _, q := range chain {
			again = again || q.Equal(p)
		}
		if !again {
			return p
		}
	}
	return nil
}
