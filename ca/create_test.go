package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "ca")
	now := time.Now()
	a, err := Create(dir, Options{Organization: "Acme Ärzte GmbH"})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(e.Name(), ".key") && info.Mode() != 0o600 {
			t.Errorf("%s: mode %v", e.Name(), info.Mode())
		}
	}
	if want := slices.Sorted(slices.Values(files)); !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}

	root := a.root
	if root.SignatureAlgorithm != x509.SHA256WithRSA || root.MaxPathLen != 1 || len(root.ExtKeyUsage) != 0 {
		t.Errorf("root: %v, path length %d, %v", root.SignatureAlgorithm, root.MaxPathLen, root.ExtKeyUsage)
	}
	if end := now.AddDate(10, 0, 0); root.NotAfter.Sub(end).Abs() > time.Minute {
		t.Errorf("root ends %v, want %v", root.NotAfter, end)
	}
	seen := map[string]bool{}
	for _, c := range []*x509.Certificate{root, a.issuers[ECDSA].cert, a.issuers[RSA].cert} {
		name := c.Subject.CommonName
		if seen[name] || seen[c.SerialNumber.String()] {
			t.Errorf("%s: subject or serial used twice", name)
		}
		seen[name], seen[c.SerialNumber.String()] = true, true
		if c.Version != 3 || !c.IsCA || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
			t.Errorf("%s: v%d, CA %v, usage %b", name, c.Version, c.IsCA, c.KeyUsage)
		}
		if bits := c.SerialNumber.BitLen(); bits > 128 || bits < 64 {
			t.Errorf("%s: serial of %d bits", name, bits)
		}
		if got := c.Subject.Organization; len(got) != 1 || got[0] != "Acme Ärzte GmbH" {
			t.Errorf("%s: organization %q", name, got)
		}
		for _, ext := range c.Extensions {
			// RFC 5280: basicConstraints MUST, keyUsage SHOULD be critical in a CA certificate;
			// 2.5.29.19 and .15.
			if id := ext.Id.String(); ext.Critical != (id == "2.5.29.19" || id == "2.5.29.15") {
				t.Errorf("%s: extension %s critical: %v", name, id, ext.Critical)
			}
		}
		if c == root {
			continue
		}
		if c.MaxPathLen != 0 || !c.MaxPathLenZero {
			t.Errorf("%s: path length %d", name, c.MaxPathLen)
		}
		if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
			t.Errorf("%s: extended usage %v", name, c.ExtKeyUsage)
		}
		if !bytes.Equal(c.AuthorityKeyId, root.SubjectKeyId) {
			t.Errorf("%s: authority key %x, root has %x", name, c.AuthorityKeyId, root.SubjectKeyId)
		}
		if c.NotAfter.After(c.NotBefore.AddDate(1, 0, 0)) {
			t.Errorf("%s: valid to %v, longer than a year", name, c.NotAfter)
		}
	}
}

func TestTwoRootsDiffer(t *testing.T) {
	a := authority(t, Options{})
	b, err := Load(authorityDir(t, 1), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if a.root.Subject.String() == b.root.Subject.String() || a.Fingerprint() == b.Fingerprint() {
		t.Errorf("two roots have one subject or key: %s", a.root.Subject)
	}
}

// contents maps the files below dir to what they hold.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		m[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCreateNeverOverwrites(t *testing.T) {
	for _, name := range files {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Create(dir, Options{})
			if !errors.Is(err, ErrExists) {
				t.Errorf("error %v", err)
			}
			if got := contents(t, dir); len(got) != 1 || got[path] != "precious" {
				t.Errorf("directory now holds %d files", len(got))
			}
		})
	}
}

func TestCreateRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = Create(dir, Options{}) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, ErrExists) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d calls made an authority", won)
	}
	if _, err := Load(dir, Options{}); err != nil {
		t.Error(err)
	}
	if got := contents(t, dir); len(got) != len(files) {
		t.Errorf("%d files", len(got))
	}
}

func TestCreateDirectory(t *testing.T) {
	t.Run("empty is made private", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := Create(dir, Options{}); err != nil {
			t.Fatal(err)
		}
		if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
			t.Errorf("mode %v", info.Mode())
		}
	})
	t.Run("foreign is left alone", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "notes"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Create(dir, Options{})
		wantError(t, err, dir, "mode 0755", "chmod 700 "+dir)
		if info, _ := os.Stat(dir); info.Mode().Perm() != 0o755 {
			t.Errorf("mode %v", info.Mode())
		}
	})
	t.Run("a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(path, Options{}); err == nil {
			t.Error("no error")
		}
		_, err := Create(filepath.Join(path, "ca"), Options{})
		wantError(t, err, filepath.Join(path, "ca"), "not a directory", "")
	})
	t.Run("a failure takes the directory back", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "ca")
		// A clock at which the new certificates cannot be valid when they are read back.
		calls := 0
		_, err := Create(dir, Options{Now: func() time.Time {
			calls++
			return time.Now().AddDate(0, -3*calls, 0)
		}})
		if err == nil {
			t.Fatal("no error")
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("directory is still there: %v", err)
		}
	})
	t.Run("no name", func(t *testing.T) {
		if _, err := Create("", Options{}); err == nil {
			t.Error("no error")
		}
	})
}

func TestOptions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	for _, o := range []Options{
		{LeafValidity: -time.Hour},
		{LeafValidity: time.Second},
		{LeafValidity: 24 * time.Hour},
		{CacheSize: -1},
		{Organization: strings.Repeat("x", 65)},
		{Organization: "a\nb"},
		{Organization: "\xff"},
	} {
		_, err := Create(dir, o)
		if err == nil {
			t.Errorf("%+v: no error", o)
			continue
		}
		if msg := err.Error(); !strings.HasPrefix(msg, "ca: ") || strings.Contains(msg, "\n") {
			t.Errorf("error %q", msg)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory made all the same: %v", err)
	}
}

func TestExport(t *testing.T) {
	a := authority(t, Options{})
	block, rest := pem.Decode(a.RootPEM())
	if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 || !bytes.Equal(block.Bytes, a.RootDER()) {
		t.Error("RootPEM is not the one block of RootDER")
	}
	a.RootDER()[0]++
	a.IssuerSKI(RSA)[0]++
	if !bytes.Equal(a.RootDER(), block.Bytes) || !bytes.Equal(a.IssuerSKI(RSA), a.issuers[RSA].cert.SubjectKeyId) {
		t.Error("a caller can change what the authority holds")
	}

	list := a.Describe()
	if len(list) != 3 {
		t.Fatalf("%d descriptions", len(list))
	}
	for i, want := range []struct{ role, key string }{{"root", "RSA 3072"}, {"issuing-ecdsa", "ECDSA P-256"}, {"issuing-rsa", "RSA 3072"}} {
		d := list[i]
		if d.Role != want.role || d.Key != want.key || d.Path != filepath.Join(a.dir, want.role+".crt") || d.KeyPath != filepath.Join(a.dir, want.role+".key") {
			t.Errorf("description %+v", d)
		}
		if len(d.Serial) != 32 || !strings.Contains(d.Subject, "O=framegate") || !d.NotAfter.After(d.NotBefore) {
			t.Errorf("description %+v", d)
		}
	}
	if list[0].Fingerprint != a.Fingerprint() || len(a.Fingerprint()) != 32*3-1 {
		t.Errorf("fingerprint %q", a.Fingerprint())
	}
}
