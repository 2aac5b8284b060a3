package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

func phrase(s string) func(string) ([]byte, error) {
	return func(string) ([]byte, error) { return []byte(s), nil }
}

// wantSealed asserts that no key in dir is in the clear, and that age opens each.
func wantSealed(t *testing.T, dir, passphrase string, want int) {
	t.Helper()
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for path, text := range contents(t, dir) {
		if strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("%s is in the clear", path)
		}
		if filepath.Ext(path) != ".key" {
			continue
		}
		found++
		r, err := age.Decrypt(armor.NewReader(strings.NewReader(text)), identity)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		plain, _ := io.ReadAll(r)
		block, _ := pem.Decode(plain)
		if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if found != want {
		t.Errorf("%d keys, want %d", found, want)
	}
}

func TestEncryptedKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	const secret = "correct horse"
	o := Options{Encrypt: true, Passphrase: phrase(secret)}
	made, err := Create(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	wantSealed(t, dir, secret, 3)
	example := origin(t, nil, "example.com")
	a, err := Load(dir, Options{Passphrase: phrase(secret)})
	if err != nil || a.Version() != made.Version() {
		t.Fatal(err)
	}
	mustLeaf(t, a, "example.com", example, nil)
	mustLeaf(t, a, "example.com", example, rsaHello(""))

	_, err = Load(dir, Options{Passphrase: phrase("wrong")})
	if wantError(t, err, filepath.Join(dir, "issuing-ecdsa.key"), "wrong passphrase", "passphrase_file"); !errors.Is(err, ErrPassphrase) {
		t.Error(err)
	}
	broken := errors.New("no file")
	if _, err = Load(dir, Options{Passphrase: func(string) ([]byte, error) { return nil, broken }}); !errors.Is(err, broken) {
		t.Error(err)
	}

	// Without a passphrase: to be looked at, and nothing else.
	closed, err := Load(dir, Options{})
	if err != nil || closed.Version() != made.Version() {
		t.Fatal(err)
	}
	for _, d := range closed.Describe() {
		if d.KeyState != "encrypted" || d.KeyPath == "" {
			t.Errorf("%+v", d)
		}
	}
	_, err = closed.Leaf(context.Background(), "example.com", example, rsaHello(""))
	wantError(t, err, filepath.Join(dir, "issuing-ecdsa.key"), "encrypted", "passphrase_file")

	// Changes keep it so.
	before := contents(t, dir)
	for name, change := range map[string]func(Options) error{
		"rotate":   func(o Options) error { _, err := Rotate(dir, o, ""); return err },
		"new root": func(o Options) error { _, err := NewRoot(dir, o); return err },
		"request":  func(o Options) error { _, err := Request(dir, o, ECDSA); return err },
		"decrypt":  func(o Options) error { _, err := Reseal(dir, o, nil); return err },
	} {
		if err := change(Options{}); err == nil || !strings.Contains(err.Error(), "encrypted, and there is no passphrase") {
			t.Errorf("%s without a passphrase: %v", name, err)
		}
		if !equalContents(before, contents(t, dir)) {
			t.Fatalf("%s: files have changed", name)
		}
	}
	o = Options{Passphrase: phrase(secret)}
	if _, err := Rotate(dir, o, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := NewRoot(dir, o); err != nil {
		t.Fatal(err)
	}
	if _, err := Request(dir, o, ECDSA); err != nil {
		t.Fatal(err)
	}
	wantSealed(t, dir, secret, 7)
	if _, err := Activate(dir, Options{}); err != nil { // moves files, opens none
		t.Fatal(err)
	}

	if _, err := Reseal(dir, o, []byte("another")); err != nil {
		t.Fatal(err)
	}
	wantSealed(t, dir, "another", 7)
	if _, err := Reseal(dir, Options{Passphrase: phrase("another")}, nil); err != nil {
		t.Fatal(err)
	}
	plain := 0
	for path, text := range contents(t, dir) {
		if strings.Contains(text, "BEGIN AGE") {
			t.Errorf("%s is encrypted", path)
		}
		if strings.Contains(text, "PRIVATE KEY") {
			plain++
			if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v", path, info.Mode())
			}
		}
	}
	if _, err := Load(dir, Options{}); err != nil || plain != 7 {
		t.Errorf("%d keys in the clear, %v", plain, err)
	}
}

// TestSealedGarbage: files that begin as age files do.
func TestSealedGarbage(t *testing.T) {
	good, err := seal([]byte("text"), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{
		string(good[:len(good)/2]),
		armor.Header + "\n" + armor.Footer + "\n",
		string(good),
	} {
		dir := authorityDir(t, 0)
		if err := os.WriteFile(filepath.Join(dir, "issuing-rsa.key"), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(dir, Options{Passphrase: phrase("x")})
		wantError(t, err, filepath.Join(dir, "issuing-rsa.key"), "", "")
	}
}

// A token holds keys that never leave it: all one can do is have it sign. It is what a PKCS #11
// module looks like from here, and has nothing of *rsa.PrivateKey or *ecdsa.PrivateKey.
type token struct {
	keys   map[string]crypto.Signer
	signed map[string]int
}

type tokenKey struct {
	t    *token
	name string
}

func (k tokenKey) Public() crypto.PublicKey { return k.t.keys[k.name].Public() }

func (k tokenKey) Sign(rand io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if o.HashFunc() != crypto.SHA256 {
		return nil, errors.New("token: SHA-256 alone")
	}
	k.t.signed[k.name]++
	return k.t.keys[k.name].Sign(rand, digest, o)
}

// signer is Options.Signer: it finds the key of a certificate in the token.
func (t *token) signer(name string, cert *x509.Certificate) (crypto.Signer, error) {
	if _, ok := t.keys[name]; !ok {
		return nil, nil
	}
	return tokenKey{t, name}, nil
}

func newToken(t *testing.T, dir string, names ...string) *token {
	t.Helper()
	tok := &token{map[string]crypto.Signer{}, map[string]int{}}
	o, _ := Options{}.withDefaults()
	l := &loader{dir: dir, layers: []string{dir}, o: o}
	for _, name := range names {
		k, err := l.keyAt(filepath.Join(dir, name+".key"), nil, true)
		if err != nil {
			t.Fatal(err)
		}
		tok.keys[name] = k.signer
		if err := os.Remove(filepath.Join(dir, name+".key")); err != nil {
			t.Fatal(err)
		}
	}
	return tok
}

func TestExternalSigner(t *testing.T) {
	dir := authorityDir(t, 0)
	tok := newToken(t, dir, "root", "issuing-ecdsa", "issuing-rsa")
	o := Options{Signer: tok.signer}
	a, err := Load(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if tok.signed["issuing-ecdsa"] != 1 || tok.signed["issuing-rsa"] != 1 || tok.signed["root"] != 0 {
		t.Errorf("signatures when it was loaded, as a proof: %v", tok.signed)
	}
	for _, d := range a.Describe()[1:] {
		if d.KeyState != "external" || d.KeyPath != "" {
			t.Errorf("%+v", d)
		}
	}
	example := origin(t, nil, "example.com")
	for k, h := range []*x509.Certificate{mustLeaf(t, a, "example.com", example, nil), mustLeaf(t, a, "example.com", example, rsaHello(""))} {
		if err := h.CheckSignatureFrom(a.issuers[k].cert); err != nil {
			t.Error(err)
		}
	}
	if tok.signed["issuing-ecdsa"] != 2 || tok.signed["issuing-rsa"] != 2 {
		t.Errorf("signatures: %v", tok.signed)
	}
	// The root's key signs in the token, too; the new issuers' are in files, and so they have to
	// be moved into the token before it is asked for them again.
	delete(tok.keys, "issuing-ecdsa")
	delete(tok.keys, "issuing-rsa")
	if _, err := Rotate(dir, o, ""); err != nil || tok.signed["root"] != 2 {
		t.Errorf("rotated: %v, %v", err, tok.signed)
	}

	// Without the token there is no authority; with a wrong or broken one, neither.
	dir = authorityDir(t, 0)
	tok = newToken(t, dir, "issuing-ecdsa", "issuing-rsa")
	if _, err := Load(dir, Options{}); err == nil {
		t.Error("loaded without keys")
	}
	tok.keys["issuing-ecdsa"] = tok.keys["issuing-rsa"]
	_, err = Load(dir, Options{Signer: tok.signer})
	wantError(t, err, filepath.Join(dir, "issuing-ecdsa.crt"), "not the key of issuing-ecdsa.crt", "")
	_, err = Load(dir, Options{Signer: func(string, *x509.Certificate) (crypto.Signer, error) { return nil, errors.New("no\nslot") }})
	wantError(t, err, filepath.Join(dir, "issuing-ecdsa.crt"), "no slot", "token")
	_, err = Load(dir, Options{Signer: func(_ string, c *x509.Certificate) (crypto.Signer, error) { return deadKey{c.PublicKey}, nil }})
	wantError(t, err, filepath.Join(dir, "issuing-ecdsa.crt"), "its key does not sign: token is locked", "")
}

type deadKey struct{ pub crypto.PublicKey }

func (k deadKey) Public() crypto.PublicKey { return k.pub }
func (deadKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("token is locked")
}

func TestIssued(t *testing.T) {
	var got []*Issuance
	full := errors.New("log is full")
	var fail error
	a := authority(t, Options{Issued: func(i *Issuance) error { got = append(got, i); return fail }})
	o := origin(t, nil, "www.example.com", "192.0.2.7")
	for range 2 {
		mustLeaf(t, a, "www.example.com", o, nil)
	}
	if len(got) != 1 {
		t.Fatalf("%d reports of one leaf", len(got))
	}
	l := mustLeaf(t, a, "", o, rsaHello(""))
	i := got[1]
	if i.Leaf != sum(l.Raw) || i.Origin != sum(o.Raw) || i.Issuer != sum(a.issuers[RSA].cert.Raw) || i.Serial != serial(l) ||
		strings.Join(i.Names, " ") != "www.example.com 192.0.2.7" || !i.NotAfter.Equal(l.NotAfter) || !i.NotBefore.Equal(l.NotBefore) {
		t.Errorf("%+v", i)
	}
	// What cannot be reported is not shown, now or later.
	fail = full
	a.Purge()
	for range 2 {
		if _, err := a.Leaf(context.Background(), "www.example.com", o, nil); !errors.Is(err, full) {
			t.Errorf("error %v", err)
		}
	}
	if bytes.Equal(got[2].Leaf[:], got[3].Leaf[:]) {
		t.Error("kept all the same")
	}
}

func sum(b []byte) [32]byte { return sha256.Sum256(b) }
