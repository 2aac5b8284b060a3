package audit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A Latest is how far a log is signed, seen without reading the log.
type Latest struct {
	Checkpoint Checkpoint
	Signed     time.Time // when the checkpoint was written
	Written    time.Time // when the newest segment was written to; zero: there is none
	Unclosed   bool      // a writer has the log, or had it and was killed
	Size       int64     // bytes of all segments
	Oldest     time.Time // when the oldest segment was last written to; zero: there is none
}

// ReadLatest reads the newest checkpoint of the log in dir and checks its
// signature by the key that lies there. It takes no lock and says nothing of the
// records: that is for [Verify].
func ReadLatest(dir string) (l Latest, err error) {
	vkey, err := ReadKey(dir)
	if err != nil {
		return l, err
	}
	v, err := newVerifier(vkey)
	if err != nil {
		return l, err
	}
	names, err := segments(dir)
	if err != nil {
		return l, err
	}
	for i, name := range names {
		info, err := os.Stat(filepath.Join(dir, segmentDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed for its age meanwhile
		}
		if err != nil {
			return l, err
		}
		l.Size += info.Size()
		if l.Written = info.ModTime(); i == 0 {
			l.Oldest = info.ModTime()
		}
	}
	_, err = os.Stat(filepath.Join(dir, openFile))
	l.Unclosed = err == nil
	info, err := os.Stat(filepath.Join(dir, checkpointFile))
	if err != nil {
		return l, err
	}
	l.Signed = info.ModTime()
	_, l.Checkpoint, err = readCheckpoint(dir, v)
	return l, err
}
