package ca

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// TestLoadUnreadable is about a service user that may not read the file at hand. Root becomes
// one for the file system alone and on this thread alone, see setfsuid(2).
func TestLoadUnreadable(t *testing.T) {
	asService := func(t *testing.T, dir string) {
		const service = 4321
		if os.Geteuid() != 0 {
			return // chmod 0 below is enough
		}
		for _, path := range []string{dir, filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} {
			if err := os.Chown(path, service, -1); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range files {
			if name != "root.key" {
				if err := os.Chown(filepath.Join(dir, name), service, -1); err != nil {
					t.Fatal(err)
				}
			}
		}
		runtime.LockOSThread()
		syscall.RawSyscall(syscall.SYS_SETFSUID, service, 0, 0)
		t.Cleanup(func() {
			syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
			runtime.UnlockOSThread()
		})
	}

	t.Run("root key", func(t *testing.T) {
		dir := authorityDir(t, 0)
		if err := os.Chmod(filepath.Join(dir, "root.key"), 0); err != nil {
			t.Fatal(err)
		}
		asService(t, dir)
		offline(t, dir)
	})
	t.Run("issuing key", func(t *testing.T) {
		dir := authorityDir(t, 0)
		path := filepath.Join(dir, "issuing-ecdsa.key")
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		asService(t, dir)
		_, err := Load(dir, Options{})
		wantError(t, err, path, "permission denied", "chown -R")
	})
}
