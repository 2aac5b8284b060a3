package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A filePusher appends checkpoints to a file, each with an empty line behind it,
// which is the form of the history. Appending is what gives evidence: a file
// that is replaced shows one state, one that grows (and that its file system
// only lets grow) shows each. The file is opened each time, so that it may be
// rotated, and its directory must be there: a mount that is missing is to be
// told, not written beneath.
type filePusher string

func (p filePusher) push(_ context.Context, checkpoints [][]byte) (int, error) {
	var b []byte
	for _, msg := range checkpoints {
		b = append(append(b, msg...), '\n')
	}
	_, statErr := os.Lstat(string(p))
	f, err := os.OpenFile(string(p), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, &os.PathError{Op: "append", Path: string(p), Err: errors.New("not a regular file")}
	}
	size := info.Size()
	if whole, err := wholeSize(f, size); err != nil {
		return 0, err
	} else if whole < size {
		if err := f.Truncate(whole); err != nil {
			return 0, fmt.Errorf("%w: it ends with an unfinished checkpoint, so move it to another name", err)
		}
		size = whole
	}
	if _, err := f.Write(b); err != nil {
		return 0, errors.Join(err, f.Truncate(size)) // a full disk takes a part
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if errors.Is(statErr, os.ErrNotExist) {
		d, err := os.Open(filepath.Dir(string(p)))
		if err != nil {
			return 0, err
		}
		defer d.Close()
		if err := d.Sync(); err != nil {
			return 0, err
		}
	}
	return len(checkpoints), nil
}

// longestCheckpoint is more than a checkpoint of ours has.
const longestCheckpoint = 4096

// wholeSize returns the size without what a crash has left of a checkpoint. It
// refuses a file with something else at its end: that is not for us to cut.
func wholeSize(f *os.File, size int64) (int64, error) {
	tail := make([]byte, min(size, longestCheckpoint))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0, err
	}
	whole := 0 // behind the last empty line that follows a signature
	for i := 0; i < len(tail); {
		n := bytes.Index(tail[i:], []byte("\n\n"))
		if n < 0 {
			break
		}
		line := tail[:i+n]
		line = line[bytes.LastIndexByte(line, '\n')+1:]
		if i += n + 2; bytes.HasPrefix(line, []byte("— ")) {
			whole = i
		}
	}
	const begin = "framegate/"
	rest := tail[whole:]
	if !bytes.HasPrefix(rest, []byte(begin)[:min(len(rest), len(begin))]) {
		return 0, fmt.Errorf("%s is not a file of checkpoints", f.Name())
	}
	return size - int64(len(rest)), nil
}

func (p filePusher) close() {}
