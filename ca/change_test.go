package ca

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// present is what a directory says to those who read it.
func present(t *testing.T, dir string) string {
	t.Helper()
	a, err := Load(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := a.Version()
	for _, d := range a.Describe() {
		s += "\n" + d.Role + " " + d.Fingerprint + " " + d.KeyState
	}
	return s
}

// crashed stages what change does, and makes it hold, and no more: the process is gone before the
// first file has moved.
func crashed(t *testing.T, dir string, stage func(*change, *loader) error) (after string) {
	t.Helper()
	c, err := begin(dir)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := Options{}.withDefaults()
	if err := stage(c, &loader{dir: dir, layers: []string{dir}, owner: c.owner, now: o.Now(), o: o}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(c.staging, filepath.Join(dir, pendingDir)); err != nil {
		t.Fatal(err)
	}
	c.staging = ""
	c.end()
	return present(t, dir)
}

// exchange is the change with the most kinds of steps: files replaced, made and removed.
func exchange(c *change, l *loader) error {
	for _, name := range files {
		if err := errors.Join(c.move(l, name, standby+name), c.move(l, standby+name, name)); err != nil {
			return err
		}
	}
	return nil
}

// TestCrash cuts a change short after each of its steps: what is read is the old authority until
// the rename that makes the change, the new one from then on, and never a mixture.
func TestCrash(t *testing.T) {
	make := func(t *testing.T) string {
		dir := authorityDir(t, 0)
		for _, name := range files { // of another authority, as a second root
			copyFile(t, filepath.Join(made.dir, "1", name), filepath.Join(dir, standby+name))
		}
		if err := os.Remove(filepath.Join(dir, "root.key")); err != nil { // so that one file has to go
			t.Fatal(err)
		}
		return dir
	}
	t.Run("before it holds", func(t *testing.T) {
		dir := make(t)
		before := present(t, dir)
		c, err := begin(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.write("root.crt", []byte("half")); err != nil {
			t.Fatal(err)
		}
		left := c.staging
		c.lock.Close() // and no end
		if got := present(t, dir); got != before {
			t.Errorf("%s\nbefore\n%s", got, before)
		}
		if c, err = begin(dir); err != nil {
			t.Fatal(err)
		}
		c.end()
		if _, err := os.Stat(left); !os.IsNotExist(err) {
			t.Error("what the crash left is still there, with its keys")
		}
	})
	steps := 0
	for done := 0; done <= 2*len(files)+2; done++ {
		dir := make(t)
		before := present(t, dir)
		after := crashed(t, dir, exchange)
		if before == after {
			t.Fatal("no change")
		}
		// finish goes on from any of its steps, so each of them is a crash.
		pending := filepath.Join(dir, pendingDir)
		entries, err := os.ReadDir(pending)
		if err != nil {
			t.Fatal(err)
		}
		steps = len(entries)
		for _, e := range entries[:min(done, len(entries))] {
			from, to := filepath.Join(pending, e.Name()), filepath.Join(dir, e.Name())
			if info, _ := e.Info(); info.Size() > 0 {
				err = os.Rename(from, to)
			} else {
				err = os.Remove(to)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := present(t, dir); got != after {
				t.Fatalf("in the middle of the change:\n%s\nwant\n%s", got, after)
			}
		}
		c, err := begin(dir)
		if err != nil {
			t.Fatal(err)
		}
		c.end()
		if _, err := os.Stat(pending); !os.IsNotExist(err) {
			t.Error("the next change has not finished this one")
		}
		if got := present(t, dir); got != after {
			t.Errorf("%s\nwant\n%s", got, after)
		}
	}
	if steps != 2*len(files) {
		t.Errorf("%d steps", steps)
	}
}

// TestReadersAndChanges: a gateway that reloads while the authority changes gets one state or
// the other.
func TestReadersAndChanges(t *testing.T) {
	dir := authorityDir(t, 0)
	for _, name := range files {
		copyFile(t, filepath.Join(made.dir, "1", name), filepath.Join(dir, standby+name))
	}
	var seen []string
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			a, err := Load(dir, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if !slices.Contains(seen, a.Version()) {
				seen = append(seen, a.Version())
			}
		}
	})
	for range 10 {
		if _, err := Activate(dir, Options{}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if len(seen) > 2 {
		t.Errorf("%d authorities were seen", len(seen))
	}
}

func TestNothingChangesOnFailure(t *testing.T) {
	dir := authorityDir(t, 0)
	before := contents(t, dir)
	_, err := changed(dir, Options{}, func(c *change, l *loader) error {
		return c.write("issuing-rsa.crt", []byte("not a certificate"))
	})
	wantProblem(t, err, "nothing is changed")
	if after := contents(t, dir); !equalContents(before, after) {
		t.Error("files have changed")
	}
}

// TestOwner: what the superuser makes in the directory of a service's user is that user's, but for
// the root's key.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const service = 4321
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, service, service)); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		for path := range contents(t, dir) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			want := uint32(service)
			if filepath.Ext(path) == ".key" && strings.HasSuffix(filepath.Base(path), "root.key") {
				want = 0
			}
			if got := fileOwner(info); got != want {
				t.Errorf("%s: %s belongs to %d, want %d", what, path, got, want)
			}
		}
	}
	if _, err := Create(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	check("made")
	if _, err := Rotate(dir, Options{}, ""); err != nil {
		t.Fatal(err)
	}
	check("rotated")
	if _, err := NewRoot(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Activate(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	check("activated")
}
