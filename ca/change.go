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
)

// A change brings a set of files into the directory of an authority, all of them or none.
//
// They are written and synced in a directory .change-* inside it, the authority is loaded as it
// will be, as a proof, and then that directory is renamed to "pending": from this moment the
// change holds, since whoever reads looks for each file in pending first. What is left is to move
// the files to their places, one by one; a crash on the way leaves a directory that reads the
// same, and the next change, or the end of this one, finishes it. An empty file stands for one
// that is to go.
//
// A lock on the directory keeps changes apart from each other and from readers.
type change struct {
	dir, staging string
	lock         *os.File
	owner        uint32  // of dir
	proof        Options // by which the new state is loaded before it becomes the state
}

// changed brings about what f stages, and returns the authority as it then is. f gets a reader of
// the present state.
func changed(dir string, o Options, f func(*change, *loader) error) (*Authority, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c, err := begin(dir)
	if err != nil {
		return nil, err
	}
	defer c.end()
	c.proof = o
	if err := f(c, &loader{dir: dir, layers: []string{dir}, owner: c.owner, now: o.Now(), o: o}); err != nil {
		return nil, err
	}
	a, err := c.prove()
	if err != nil {
		return nil, fmt.Errorf("ca: nothing is changed, what would be new failed its first check: %w", err)
	}
	return a, c.commit()
}

// prove loads the authority as it will be.
func (c *change) prove() (*Authority, error) {
	l := &loader{dir: c.dir, layers: []string{c.staging, c.dir}, owner: c.owner, now: c.proof.Now(), o: c.proof, dates: true}
	return l.authority()
}

const (
	pendingDir    = "pending"
	changePattern = ".change-*"
)

// begin takes the lock and sets up a directory for the new files. A change that a crash
// interrupted is finished first if it was made, and swept away if not.
func begin(dir string) (_ *change, err error) {
	c := &change{dir: dir}
	if c.owner, err = checkDir(dir); err != nil {
		return nil, err
	}
	if c.lock, err = openLocked(dir, true); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.end()
		}
	}()
	if err := finish(dir); err != nil {
		return nil, accessError(dir, err)
	}
	stale, err := filepath.Glob(filepath.Join(escapeGlob(dir), changePattern))
	if err != nil {
		return nil, accessError(dir, err)
	}
	for _, old := range stale {
		os.RemoveAll(old)
	}
	if c.staging, err = os.MkdirTemp(dir, changePattern); err != nil {
		return nil, accessError(dir, err)
	}
	return c, nil
}

func openLocked(dir string, exclusive bool) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, accessError(dir, err)
	}
	if err := lock(f, exclusive); err != nil {
		f.Close()
		e := accessError(dir, err)
		e.Problem, e.Hint = "another process is changing it, or it cannot be locked", "wait until the other framegate ca command has ended"
		return nil, e
	}
	return f, nil
}

// escapeGlob takes the meaning from what is special in a pattern.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// end gives the lock back; what was not committed is gone.
func (c *change) end() {
	if c.staging != "" {
		os.RemoveAll(c.staging)
	}
	c.lock.Close()
}

// write stages a file. Keys are for the owner alone.
func (c *change) write(name string, data []byte) error {
	perm := os.FileMode(0o600)
	if !strings.HasSuffix(name, ".key") {
		perm = 0o644
	}
	path := filepath.Join(c.staging, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	// What the superuser makes in the directory of a service user is that user's, or it could
	// not read its own keys. The root's key is not for the service.
	if os.Geteuid() == 0 && c.owner != 0 && !strings.HasSuffix(name, "root.key") {
		if err := f.Chown(int(c.owner), -1); err != nil {
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// remove makes the file go, if it is there.
func (c *change) remove(name string) error {
	if _, err := os.Lstat(filepath.Join(c.dir, name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return c.write(name, nil)
}

func (c *change) writeCerts(name string, certs ...*x509.Certificate) error {
	return c.write(name+".crt", encodeCerts(certs...))
}

func (c *change) writeKey(name string, key crypto.Signer, seal []byte) error {
	data, err := encodeKey(key, seal)
	if err != nil {
		return err
	}
	return c.write(name+".key", data)
}

// commit makes the change. An error means that nothing has changed, or, if the moving of the
// files failed after it, that the next change will finish that.
func (c *change) commit() error {
	if os.Geteuid() == 0 && c.owner != 0 {
		if err := os.Chown(c.staging, int(c.owner), -1); err != nil {
			return accessError(c.dir, err)
		}
	}
	if err := syncDir(c.staging); err != nil {
		return err
	}
	if err := os.Rename(c.staging, filepath.Join(c.dir, pendingDir)); err != nil {
		return accessError(c.dir, err)
	}
	c.staging = ""
	if err := syncDir(c.dir); err != nil {
		return err
	}
	if err := finish(c.dir); err != nil {
		return accessError(c.dir, err)
	}
	return nil
}

// finish moves the files of a change that was made to their places. It may be interrupted
// anywhere: the order is such that pending and dir together read the same after each step.
func finish(dir string) error {
	pending := filepath.Join(dir, pendingDir)
	entries, err := os.ReadDir(pending)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var gone []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		from, to := filepath.Join(pending, e.Name()), filepath.Join(dir, e.Name())
		if info.Size() > 0 {
			err = os.Rename(from, to)
		} else if err = os.Remove(to); err == nil || errors.Is(err, fs.ErrNotExist) {
			gone, err = append(gone, from), nil
		}
		if err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	for _, from := range gone {
		if err := os.Remove(from); err != nil {
			return err
		}
	}
	if err := os.Remove(pending); err != nil {
		return err
	}
	return syncDir(dir)
}

func encodeCerts(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: c.Raw})...)
	}
	return b
}
