package audit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReadLatest(t *testing.T) {
	dir := smallLog(t, 3)
	l, err := ReadLatest(dir)
	if err != nil {
		t.Fatal(err)
	}
	whole := mustVerify(t, dir, VerifyOptions{})
	if l.Checkpoint != *whole.Checkpoint || l.Unclosed || l.Size == 0 {
		t.Errorf("%+v, and the whole log says %+v", l, whole)
	}
	if now := time.Now(); l.Signed.After(now) || l.Written.After(now) || l.Oldest.IsZero() || l.Oldest.After(l.Written) {
		t.Errorf("times of %+v", l)
	}

	log := mustOpen(t, Options{Dir: dir, Level: Frames})
	if l, err := ReadLatest(dir); err != nil || !l.Unclosed {
		t.Errorf("while it is written: %+v, %v", l, err)
	}
	mustClose(t, log)

	// Not one byte of it may be another.
	msg := read(t, dir, checkpointFile)
	for i := range msg {
		msg[i] ^= 1
		write(t, msg, dir, checkpointFile)
		if l, err := ReadLatest(dir); err == nil {
			t.Fatalf("byte %d was changed: %+v", i, l)
		}
		msg[i] ^= 1
	}
	write(t, msg, dir, checkpointFile)
	if err := os.Rename(filepath.Join(dir, checkpointFile), filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	if l, err := ReadLatest(dir); !errors.Is(err, fs.ErrNotExist) || l.Size == 0 {
		t.Errorf("without a checkpoint: %+v, %v", l, err)
	}
	if _, err := ReadLatest(t.TempDir()); err == nil || !strings.Contains(err.Error(), pubKeyFile) {
		t.Errorf("no log: %v", err)
	}
}
