package ca

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wantError asserts one line that says where, what, and how to mend it.
func wantError(t *testing.T, err error, path, problem, hint string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want an *Error", err)
	}
	msg := err.Error()
	if e.Path != path || !strings.Contains(e.Problem, problem) || !strings.Contains(e.Hint, hint) || e.Hint == "" {
		t.Errorf("error %q\nwant path %q, problem %q, hint %q", msg, path, problem, hint)
	}
	if strings.Contains(msg, "\n") || !strings.HasPrefix(msg, "ca: "+path+": ") || !strings.Contains(msg, "; hint: ") {
		t.Errorf("error %q is not one line of path, problem, hint", msg)
	}
}

func TestLoadRefuses(t *testing.T) {
	other := authorityDir(t, 1)
	chmod := func(name string, mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	swap := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				copyFile(t, filepath.Join(other, name), filepath.Join(dir, name))
			}
		}
	}
	rename := func(pairs ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for i := 0; i < len(pairs); i += 2 {
				copyFile(t, filepath.Join(dir, pairs[i]), filepath.Join(dir, pairs[i+1]))
			}
		}
	}
	garbage := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("garbage")}))
	garbageCert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("garbage")}))

	for _, tt := range []struct {
		name    string
		damage  func(*testing.T, string)
		later   time.Duration
		file    string // "": the directory
		problem string
		hint    string // DIR stands for the directory
	}{
		{name: "key readable by group", damage: chmod("issuing-ecdsa.key", 0o640), file: "issuing-ecdsa.key", problem: "mode 0640", hint: "chmod 600 DIR/issuing-ecdsa.key"},
		{name: "key readable by all", damage: chmod("issuing-rsa.key", 0o604), file: "issuing-rsa.key", problem: "mode 0604", hint: "chmod 600 DIR/issuing-rsa.key"},
		{name: "root key readable by all", damage: chmod("root.key", 0o644), file: "root.key", problem: "mode 0644", hint: "chmod 600 DIR/root.key"},
		{name: "directory open", damage: chmod("", 0o750), problem: "mode 0750", hint: "chmod 700 DIR"},

		{name: "issuer's key is another's", damage: swap("issuing-ecdsa.key"), file: "issuing-ecdsa.key", problem: "not the key of issuing-ecdsa.crt", hint: "framegate ca rotate --dir DIR; devices need nothing new"},
		{name: "root's key is another's", damage: swap("root.key"), file: "root.key", problem: "not the key of root.crt", hint: "ca init --dir DIR"},
		{name: "issuer of another root", damage: swap("issuing-ecdsa.key", "issuing-ecdsa.crt"), file: "issuing-ecdsa.crt", problem: "not an issuer under root.crt", hint: "ca init --dir DIR"},
		{name: "another root", damage: swap("root.crt", "root.key"), file: "issuing-ecdsa.crt", problem: "not an issuer under root.crt", hint: "mv DIR DIR.old && "},
		{name: "issuer in the root's place", damage: rename("issuing-rsa.crt", "root.crt"), file: "root.crt", problem: "not a root", hint: "backup"},
		{name: "kinds swapped", damage: rename("issuing-rsa.crt", "issuing-ecdsa.crt", "issuing-rsa.key", "issuing-ecdsa.key"), file: "issuing-ecdsa.crt", problem: "its key is RSA 3072, want ECDSA P-256", hint: "backup"},

		{name: "issuers expired", later: 366 * 24 * time.Hour, file: "issuing-ecdsa.crt", problem: "expired on", hint: "framegate ca rotate --dir DIR"},
		{name: "root expired", later: 3660 * 24 * time.Hour, file: "root.crt", problem: "expired on", hint: "install the new root"},
		{name: "clock before the root", later: -48 * time.Hour, file: "root.crt", problem: "not valid before", hint: "clock"},

		{name: "part missing", damage: remove("issuing-rsa.crt"), file: "issuing-rsa.crt", problem: "missing", hint: "framegate ca rotate --dir DIR"},
		{name: "root missing", damage: remove("root.crt"), file: "root.crt", problem: "missing", hint: "backup"},
		{name: "keys missing", damage: remove("issuing-rsa.key", "issuing-ecdsa.key", "root.key"), file: "issuing-rsa.key", problem: "missing", hint: "backup"},
		{name: "empty key", damage: write("issuing-ecdsa.key", ""), file: "issuing-ecdsa.key", problem: "not PEM", hint: "backup"},
		{name: "garbage key", damage: write("issuing-ecdsa.key", garbage), file: "issuing-ecdsa.key", problem: "asn1", hint: "backup"},
		{name: "key in a certificate's place", damage: write("root.crt", garbage), file: "root.crt", problem: `"PRIVATE KEY", want a "CERTIFICATE"`, hint: "backup"},
		{name: "garbage certificate", damage: write("issuing-rsa.crt", garbageCert), file: "issuing-rsa.crt", problem: "x509: malformed", hint: "backup"},
		{name: "two blocks", damage: write("issuing-rsa.key", garbage+garbage), file: "issuing-rsa.key", problem: "something follows", hint: "backup"},
		{name: "a pipe in place of a certificate", damage: func(t *testing.T, dir string) {
			path := filepath.Join(dir, "root.crt")
			if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, file: "root.crt", problem: "not a regular file", hint: "ls -l"},
		{name: "a directory in place of a key", damage: func(t *testing.T, dir string) {
			remove("issuing-ecdsa.key")(t, dir)
			if err := os.Mkdir(filepath.Join(dir, "issuing-ecdsa.key"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, file: "issuing-ecdsa.key", problem: "not a regular file", hint: "ls -l"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := authorityDir(t, 0)
			if tt.damage != nil {
				tt.damage(t, dir)
			}
			a, err := Load(dir, Options{Now: func() time.Time { return time.Now().Add(tt.later) }})
			if a != nil {
				t.Error("an authority all the same")
			}
			wantError(t, err, filepath.Join(dir, tt.file), tt.problem, strings.ReplaceAll(tt.hint, "DIR", dir))
			if errors.Is(err, ErrNoAuthority) {
				t.Error("taken for no authority at all")
			}
		})
	}
}

func TestLoadNothing(t *testing.T) {
	for _, dir := range []string{filepath.Join(t.TempDir(), "absent"), authorityDir(t, 0)} {
		for _, name := range files {
			os.Remove(filepath.Join(dir, name))
		}
		_, err := Load(dir, Options{})
		if !errors.Is(err, ErrNoAuthority) {
			t.Errorf("error %v", err)
		}
		wantError(t, err, dir, "no certification authority", "framegate ca init --dir "+dir)
	}
}

func TestLoadOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := authorityDir(t, 0)
	key := filepath.Join(dir, "issuing-ecdsa.key")
	if err := os.Chown(key, 4321, 4321); err != nil {
		t.Fatal(err)
	}
	_, err := Load(dir, Options{})
	wantError(t, err, key, "belongs to user 4321", "chown 0 "+key)

	// The authority of a service user, looked at by root.
	if err := os.Chown(dir, 4321, 4321); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, Options{}); err != nil {
		t.Error(err)
	}
}

// offline loads dir and mints, without the root's key.
func offline(t *testing.T, dir string) {
	t.Helper()
	a, err := Load(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d := a.Describe()[0]; d.KeyPath != "" {
		t.Errorf("root key said to be at %s", d.KeyPath)
	}
	if _, err := a.Leaf(context.Background(), "example.com", origin(t, nil, "example.com"), nil); err != nil {
		t.Error(err)
	}
}

func TestLoadWithoutRootKey(t *testing.T) {
	dir := authorityDir(t, 0)
	if err := os.Remove(filepath.Join(dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	offline(t, dir)
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"/var/lib/framegate/ca": "/var/lib/framegate/ca",
		"":                      "''",
		"my ca":                 "'my ca'",
		"it's":                  `'it'\''s'`,
		"$(reboot)":             "'$(reboot)'",
		"a\x1b[31m\nb":          `"a\x1b[31m\nb"`,
		"\xff":                  `"\xff"`,
		"ä":                     "'ä'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}
