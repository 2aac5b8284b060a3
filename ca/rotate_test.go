package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func equalContents(a, b map[string]string) bool { return maps.Equal(a, b) }

// wantProblem asserts an error of one line that says text.
func wantProblem(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("error %v, want one line with %q", err, text)
	}
}

func TestRotate(t *testing.T) {
	dir := authorityDir(t, 0)
	old, err := Load(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := Rotate(dir, Options{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if a.Fingerprint() != old.Fingerprint() || a.Version() == old.Version() {
		t.Errorf("root %s, before %s; version %s, before %s", a.Fingerprint(), old.Fingerprint(), a.Version(), old.Version())
	}
	o := origin(t, nil, "example.com")
	for k := range kinds {
		if a.issuers[k].cert.Equal(old.issuers[k].cert) || samePublic(a.issuers[k].cert.PublicKey, old.issuers[k].cert.PublicKey) {
			t.Errorf("%v: the old issuer", k)
		}
		if life := a.issuers[k].cert.NotAfter.Sub(a.issuers[k].cert.NotBefore); life > 366*24*time.Hour {
			t.Errorf("%v: lives %v", k, life)
		}
	}
	// A device that knows the root from before.
	for _, hello := range []*tls.ClientHelloInfo{nil, rsaHello("")} {
		cert, err := a.Leaf(context.Background(), "example.com", o, hello)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, old, cert, "example.com", time.Now())
	}
	// The one that is in use goes on.
	mustLeaf(t, old, "example.com", o, nil)
	again, err := Load(dir, Options{})
	if err != nil || again.Version() != a.Version() {
		t.Errorf("loaded: %v", err)
	}
	if got := contents(t, dir); len(got) != len(files) {
		t.Errorf("%d files", len(got))
	}
}

func TestRotateRootKey(t *testing.T) {
	safe := filepath.Join(t.TempDir(), "root.key")
	dir := authorityDir(t, 0)
	if err := os.Rename(filepath.Join(dir, "root.key"), safe); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	refused := func(t *testing.T, o Options, key, path, problem, hint string) {
		t.Helper()
		_, err := Rotate(dir, o, key)
		wantError(t, err, path, problem, hint)
		if !equalContents(before, contents(t, dir)) {
			t.Error("files have changed")
		}
	}
	refused(t, Options{}, "", filepath.Join(dir, "root.key"), "not here", "--root-key FILE")
	other := filepath.Join(authorityDir(t, 1), "root.key")
	refused(t, Options{}, other, other, "not the key of root.crt", "")
	if err := os.Chmod(safe, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, Options{}, safe, safe, "mode 0644", "chmod 600")
	if err := os.Chmod(safe, 0o600); err != nil {
		t.Fatal(err)
	}
	late := Options{Now: func() time.Time { return time.Now().AddDate(11, 0, 0) }}
	refused(t, late, safe, filepath.Join(dir, "root.crt"), "expired", "install the new root")

	if _, err := Rotate(dir, Options{}, safe); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "root.key")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the root's key was brought back")
	}
	offline(t, dir)
}

// TestRotateMends: what would keep the gateway from starting, with the remedy that is hinted at.
func TestRotateMends(t *testing.T) {
	later := Options{Now: func() time.Time { return time.Now().AddDate(2, 0, 0) }}
	t.Run("expired", func(t *testing.T) {
		dir := authorityDir(t, 0)
		if _, err := Load(dir, later); err == nil {
			t.Fatal("expired issuers are accepted")
		}
		a, err := Rotate(dir, later, "")
		if err != nil {
			t.Fatal(err)
		}
		if end := a.issuers[RSA].cert.NotAfter; end.Before(later.Now()) {
			t.Errorf("new issuer ends %v", end)
		}
	})
	for _, name := range []string{"issuing-rsa.key", "issuing-ecdsa.crt"} {
		t.Run("lost "+name, func(t *testing.T) {
			dir := authorityDir(t, 0)
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			if _, err := Rotate(dir, Options{}, ""); err != nil {
				t.Fatal(err)
			}
			if got := contents(t, dir); len(got) != len(files) {
				t.Errorf("%d files", len(got))
			}
		})
	}
	t.Run("an issuer does not outlive the root", func(t *testing.T) {
		o := Options{Now: func() time.Time { return time.Now().AddDate(9, 6, 0) }}
		a, err := Rotate(authorityDir(t, 0), o, "")
		if err != nil {
			t.Fatal(err)
		}
		if !a.issuers[ECDSA].cert.NotAfter.Equal(a.root.NotAfter) {
			t.Errorf("issuer ends %v, root %v", a.issuers[ECDSA].cert.NotAfter, a.root.NotAfter)
		}
	})
}

// TestNewRoot is the whole change of roots.
func TestNewRoot(t *testing.T) {
	dir := authorityDir(t, 0)
	old, err := Load(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := origin(t, nil, "example.com")
	trusts := func(t *testing.T, a, device *Authority) {
		t.Helper()
		cert, err := a.Leaf(context.Background(), "example.com", o, nil)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, device, cert, "example.com", time.Now())
	}
	for name, f := range map[string]func() error{
		"activate": func() error { _, err := Activate(dir, Options{}); return err },
		"drop":     func() error { _, _, err := DropRoot(dir, Options{}); return err },
	} {
		before := contents(t, dir)
		wantProblem(t, f(), "there is no second root")
		if !equalContents(before, contents(t, dir)) {
			t.Errorf("%s: files have changed", name)
		}
	}

	both, err := NewRoot(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if both.Version() != old.Version() || len(both.Roots()) != 2 || len(both.Describe()) != 6 {
		t.Errorf("version %s, before %s; %d roots, %d certificates", both.Version(), old.Version(), len(both.Roots()), len(both.Describe()))
	}
	pool := x509.NewCertPool()
	if pool.AppendCertsFromPEM(both.RootPEM()); len(both.Signers()) != 6 || pool.Equal(x509.NewCertPool()) {
		t.Errorf("%d signers", len(both.Signers()))
	}
	trusts(t, both, old) // a device that has heard of nothing
	_, err = NewRoot(dir, Options{})
	if wantProblem(t, err, "under way"); !errors.Is(err, ErrTwoRoots) {
		t.Error(err)
	}

	// The keys of both roots go to the safe; activating takes neither.
	safe := t.TempDir()
	for _, name := range []string{"root.key", "standby-root.key"} {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(safe, name)); err != nil {
			t.Fatal(err)
		}
	}
	now, err := Activate(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if now.Fingerprint() == old.Fingerprint() || now.Version() == old.Version() || len(now.Roots()) != 2 {
		t.Error("the old root is in force")
	}
	trusts(t, now, both) // a device that has both

	// Too early: back, and forth again.
	if a, err := Activate(dir, Options{}); err != nil || a.Version() != old.Version() {
		t.Errorf("not undone: %v", err)
	}
	if _, err := Activate(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	last, gone, err := DropRoot(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if Fingerprint(gone) != old.Fingerprint() || len(last.Roots()) != 1 || last.Version() != now.Version() {
		t.Errorf("dropped %s", Fingerprint(gone))
	}
	trusts(t, last, now)
	names := slices.Sorted(maps.Keys(contents(t, dir)))
	if len(names) != len(files)-1 { // root.key is in the safe
		t.Errorf("left: %q", names)
	}
	if _, err := Rotate(dir, Options{}, filepath.Join(safe, "standby-root.key")); err != nil {
		t.Errorf("the new root's key from the safe: %v", err)
	}
}

// TestStandbyExpires: the old root ends while it waits to be taken away.
func TestStandbyExpires(t *testing.T) {
	dir := authorityDir(t, 0)
	clk := newClock()
	if _, err := NewRoot(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	clk.Advance(9*365*24*time.Hour + 200*24*time.Hour)
	o := Options{Now: clk.Now}
	if _, err := Rotate(dir, o, ""); err != nil {
		t.Fatal(err)
	}
	a, err := Load(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if w := strings.Join(a.Warnings(), "\n"); !strings.Contains(w, "standby-issuing-ecdsa expires on") {
		t.Errorf("warnings %q", w)
	}
}

func TestWarnings(t *testing.T) {
	const day = 24 * time.Hour
	clk := newClock()
	a := authority(t, Options{Now: clk.Now})
	end := a.issuers[ECDSA].cert.NotAfter
	if w := a.Warnings(); len(w) != 0 {
		t.Errorf("a new authority: %q", w)
	}
	clk.Advance(end.Sub(clk.Now()) - 30*day - time.Minute)
	if w := a.Warnings(); len(w) != 0 {
		t.Errorf("31 days before: %q", w)
	}
	clk.Advance(2 * time.Minute)
	w := a.Warnings()
	if len(w) != 2 || !strings.HasPrefix(w[0], "issuing-ecdsa expires on "+end.Format(minute)+", in 29 days: framegate ca rotate") {
		t.Errorf("30 days before: %q", w)
	}
	clk.Advance(a.root.NotAfter.Sub(clk.Now()) - 10*day)
	if w := a.Warnings(); len(w) != 3 || !strings.HasPrefix(w[0], "root expires on ") || !strings.Contains(w[0], "in 10 days") || !strings.Contains(w[1], "in 0 days") {
		t.Errorf("10 days before the root: %q", w)
	}
}
