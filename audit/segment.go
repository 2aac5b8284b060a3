package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The layout of the directory.
const (
	segmentDir    = "seg"
	segmentSuffix = ".jsonl.zst"
	logIDFile     = "log-id"
	openFile      = "open" // there from Open to a complete Close
)

// segmentName names a segment by the number of its first block, so that the
// names sort in the order of the log.
func segmentName(number uint64) string {
	return fmt.Sprintf("%012d%s", number, segmentSuffix)
}

// segments lists the segments of the log in order.
func segments(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, segmentDir)) // sorted
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if ok && len(digits) == 12 && strings.Trim(digits, "0123456789") == "" {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func readLogID(dir string) (id logID, err error) {
	b, err := os.ReadFile(filepath.Join(dir, logIDFile))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return id, fmt.Errorf("%s holds no audit log: no file %s", dir, logIDFile)
	}
	if err != nil {
		return id, err
	}
	s := strings.TrimSpace(string(b))
	if n, err := hex.Decode(id[:], []byte(s[:min(len(s), 2*len(id))])); err != nil || 2*n != len(s) || n != len(id) {
		return id, fmt.Errorf("%s: expected %d hexadecimal digits", filepath.Join(dir, logIDFile), 2*len(id))
	}
	return id, nil
}

// file is what the writer needs of a segment's file.
type file interface {
	Write(b []byte) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// openSegment opens a segment to append to, and makes it if it is not there.
func openSegment(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		f.Close()
		return nil, err
	}
	return dataFile{f}, nil
}

// dataFile syncs the data and the length of a file, not its times.
type dataFile struct{ *os.File }

func (f dataFile) Sync() error { return fdatasync(f.File) }

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// A stepFunc hears of each step of writing a file before it is taken, and may
// fail it. It is nil but in tests.
type stepFunc func(step, path string) error

func (f stepFunc) before(step, path string) error {
	if f == nil {
		return nil
	}
	return f(step, path)
}

// writeFile writes a file of mode 0600 that is there whole or not at all.
func writeFile(step stepFunc, path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	return fill(step, f, path, data)
}

// tempFile is the name under which the writer of the log writes a file that it
// writes often. One name is enough for it in each directory, so that nothing
// piles up, whenever it is killed.
const tempFile = ".tmp"

// replaceFile is writeFile for the holder of the lock.
func replaceFile(step stepFunc, path string, data []byte) error {
	if err := step.before("create", path); err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(path), tempFile)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return fill(step, f, path, data)
}

// fill writes a temporary file and gives it its name.
func fill(step stepFunc, f *os.File, path string, data []byte) error {
	defer os.Remove(f.Name()) // fails once renamed
	_, err := f.Write(data)
	if err == nil {
		err = step.before("sync", path)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := step.before("rename", path); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err := step.before("syncdir", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// makeDirs makes a directory, and those above it, so that they last.
func makeDirs(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDirs(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// errUnsynced: what was written since the last sync may be lost even if a later
// sync succeeds, for the kernel tells of such an error once.
var errUnsynced = errors.New("written records may not be on the disk")

// A segment is the file that the writer appends to.
type segment struct {
	f        file      // nil: not made yet
	size     int64     // of the whole blocks in it
	torn     bool      // there is more in the file than size
	began    time.Time // when its first record was made, about
	unsynced bool
}

// append writes one block, whole or not at all: the bytes of a failed write
// are cut off, at once or before the next one.
func (s *segment) append(b []byte) error {
	if err := s.mend(); err != nil {
		return err
	}
	n, err := s.f.Write(b)
	if err != nil {
		s.torn = n > 0
		if e := s.mend(); e != nil {
			return fmt.Errorf("%w; %w", err, e)
		}
		return err
	}
	s.size += int64(n)
	s.unsynced = true
	return nil
}

func (s *segment) mend() error {
	if !s.torn {
		return nil
	}
	if err := s.f.Truncate(s.size); err != nil {
		return err
	}
	s.torn = false
	s.unsynced = true
	return nil
}

// close gives the file back; all of it has been synced.
func (s *segment) close() {
	if s.f != nil {
		s.f.Close()
	}
}

func (s *segment) sync() error {
	if err := s.mend(); err != nil {
		return err
	}
	if !s.unsynced {
		return nil
	}
	if err := s.f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errUnsynced, err)
	}
	s.unsynced = false
	return nil
}
