package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// The key of a log, in the encodings of https://c2sp.org/signed-note and
// golang.org/x/mod/sumdb/note.
const (
	keyFile    = "key"     // PRIVATE+KEY+<name>+<hash>+<data>, mode 0600
	pubKeyFile = "key.pub" // <name>+<hash>+<data>
)

// origin names the log in its checkpoints, and its key. C2SP tlog-checkpoint:
// "a unique identifier for the log identity which issued the checkpoint"; "the
// log's key name in its signature line SHOULD match the origin line".
func (id logID) origin() string { return fmt.Sprintf("%s%x", originPrefix, id) }

const originPrefix = "framegate/"

// readKey reads the private key, or returns nil if there is none.
func readKey(dir string, id logID) (note.Signer, string, error) {
	path := filepath.Join(dir, keyFile)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, "", fmt.Errorf("%s has mode %v: whoever else reads the key can forge the log; expected a file of mode 0600", path, info.Mode())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	skey := strings.TrimSuffix(string(b), "\n")
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, "", fmt.Errorf("%s: not a signing key", path) // and no word of what it holds
	}
	if signer.Name() != id.origin() {
		return nil, "", fmt.Errorf("%s is the key of %s, not of %s", path, signer.Name(), id.origin())
	}
	vkey, err := publicKey(skey)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return signer, vkey, nil
}

// publicKey returns the public half of a signing key: its data are a byte that
// says Ed25519 and the seed of RFC 8032 section 5.1.5.
func publicKey(skey string) (string, error) {
	parts := strings.SplitN(skey, "+", 5)
	if len(parts) != 5 {
		return "", errors.New("not a signing key")
	}
	data, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(data) != 1+ed25519.SeedSize {
		return "", errors.New("not an Ed25519 key")
	}
	public := ed25519.NewKeyFromSeed(data[1:]).Public().(ed25519.PublicKey)
	return note.NewEd25519VerifierKey(parts[2], public)
}

// ensureKey reads the key of the log, or makes it. A log that was signed before
// never gets another one: what would it prove?
func ensureKey(dir string, id logID, step stepFunc) (note.Signer, error) {
	signer, vkey, err := readKey(dir, id)
	if err != nil {
		return nil, err
	}
	public := filepath.Join(dir, pubKeyFile)
	b, err := os.ReadFile(public)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if signer != nil && err == nil {
		if string(b) != vkey+"\n" {
			return nil, fmt.Errorf("%s is not the public half of %s", public, filepath.Join(dir, keyFile))
		}
		return signer, nil
	}
	if signer == nil {
		for _, name := range []string{pubKeyFile, checkpointFile, historyFile} {
			if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("%s is missing, and %s says that the log was signed: bring the key back, or begin a log in another directory",
					filepath.Join(dir, keyFile), name)
			}
		}
		skey, _, err := note.GenerateKey(rand.Reader, id.origin())
		if err != nil {
			return nil, err
		}
		if err := replaceFile(step, filepath.Join(dir, keyFile), []byte(skey+"\n")); err != nil {
			return nil, err
		}
		if signer, vkey, err = readKey(dir, id); err != nil {
			return nil, err
		}
	}
	return signer, replaceFile(step, public, []byte(vkey+"\n"))
}

// CheckKey says whether vkey is a public key of a log.
func CheckKey(vkey string) error {
	_, err := newVerifier(vkey)
	return err
}

// ReadKey returns the public key that lies with a log.
func ReadKey(dir string) (string, error) {
	path := filepath.Join(dir, pubKeyFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	vkey, ok := strings.CutSuffix(string(b), "\n")
	if err = CheckKey(vkey); err == nil && !ok {
		err = errors.New("no newline at the end")
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return vkey, nil
}

// newVerifier parses a public key. There is one way to write each, so that no
// byte of it can be changed unseen.
func newVerifier(vkey string) (note.Verifier, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("not a public key of a log: %w", err)
	}
	_, data, _ := strings.Cut(strings.TrimPrefix(vkey, v.Name()+"+"), "+")
	if vkey != fmt.Sprintf("%s+%08x+%s", v.Name(), v.KeyHash(), data) {
		return nil, errors.New("not a public key of a log: not in its shortest form")
	}
	return v, nil
}
