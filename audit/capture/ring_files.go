package capture

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ringFiles are the files of a Ring: FILE is the time at which it was made, so
// that names sort.
type ringFiles struct {
	dir         string
	most        int64
	application string

	old     []ringOld // closed, oldest first
	written *ringFile // the newest; nil: none
	before  *ringFile // the one before it, while connections finish a frame in it
	retry   time.Time // no sooner than this
	failing bool
}

type ringOld struct {
	path string
	size int64
}

// A ringFile is a file that is being written.
type ringFile struct {
	path    string
	f       *os.File
	w       *bufio.Writer
	packets *PacketWriter
	sound   int64 // bytes of it that are on their way to the disk, whole blocks
	open    bool
}

func (f *ringFile) size() int64 { return f.packets.Size() }

const (
	ringPrefix, ringSuffix = "framegate-", ".pcapng"
	ringStamp              = "20060102T150405.000000000Z"
)

// retryEvery is how long after a failure the next file is tried.
const retryEvery = time.Second

// each is the size of a file, a tenth of all: of those, six are full, one is
// being filled, and the one before it may have grown to twice its size.
func (r *ringFiles) each() int64 { return r.most / 10 }

// open looks for files that are there, and makes the first.
func (r *ringFiles) open() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(r.dir)
	if err != nil {
		return err
	}
	// What is in there was encrypted on the wire.
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %#o: expected 0700, since it holds what was encrypted", r.dir, mode)
	}
	entries, err := os.ReadDir(r.dir) // sorted
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		stamp, ours := strings.CutPrefix(strings.TrimSuffix(name, ringSuffix), ringPrefix)
		if _, err := time.Parse(ringStamp, stamp); !ours || err != nil || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone by now
		}
		r.old = append(r.old, ringOld{filepath.Join(r.dir, name), info.Size()})
	}
	_, _, err = r.current(func() (uint64, uint64) { return 0, 0 })
	return err
}

// current returns the file to write to, and whether it is a new one. counts are
// asked for when one ends.
func (r *ringFiles) current(counts func() (received, missed uint64)) (_ *ringFile, fresh bool, err error) {
	if r.written != nil && r.written.open && r.written.size() < r.each() {
		return r.written, false, nil
	}
	if r.failing && time.Now().Before(r.retry) {
		return nil, false, errNotNow
	}
	if r.before != nil {
		if err := r.end(r.before, nil); err != nil {
			return nil, false, err
		}
		r.before = nil
	}
	if r.written != nil && r.written.open {
		received, missed := counts()
		if err := r.written.packets.Statistics(time.Now(), received, missed); err != nil {
			return nil, false, err
		}
		r.before = r.written
		r.written = nil
	}
	if err := r.makeRoom(); err != nil {
		return nil, false, err
	}
	r.written, err = r.create()
	if err == nil {
		r.failing = false
	}
	return r.written, err == nil, err
}

// makeRoom removes the oldest files until two may be filled and one overfilled.
func (r *ringFiles) makeRoom() error {
	var total int64
	for _, o := range r.old {
		total += o.size
	}
	for len(r.old) > 0 && total > r.most-4*r.each() {
		if err := os.Remove(r.old[0].path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		total -= r.old[0].size
		r.old = r.old[1:]
	}
	return nil
}

func (r *ringFiles) create() (*ringFile, error) {
	path := filepath.Join(r.dir, ringPrefix+time.Now().UTC().Format(ringStamp)+ringSuffix)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	file := &ringFile{path: path, f: f, w: bufio.NewWriterSize(f, 256<<10), open: true}
	file.packets, err = NewPacketWriter(file.w, r.application, "decrypted by "+r.application+": handle as what it holds")
	if err == nil {
		err = file.flush()
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return file, nil
}

func (f *ringFile) flush() error {
	if err := f.w.Flush(); err != nil {
		return err
	}
	f.sound = f.size()
	return nil
}

func (r *ringFiles) flush() error {
	var err error
	for _, f := range []*ringFile{r.before, r.written} {
		if f != nil && f.open {
			err = errors.Join(err, f.flush())
		}
	}
	return err
}

// end closes a file, without the torn block that a failure has left.
func (r *ringFiles) end(f *ringFile, broken error) error {
	if !f.open {
		return nil
	}
	f.open = false
	if broken == nil {
		broken = f.flush()
	}
	if broken != nil {
		broken = errors.Join(broken, f.f.Truncate(f.sound))
	}
	r.old = append(r.old, ringOld{f.path, f.sound})
	slices.SortFunc(r.old, func(a, b ringOld) int { return strings.Compare(a.path, b.path) })
	return errors.Join(broken, f.f.Close())
}

// fail gives up the files that are open, and says whether that is news.
func (r *ringFiles) fail() bool {
	for _, f := range []*ringFile{r.before, r.written} {
		if f != nil {
			_ = r.end(f, os.ErrInvalid) // the failure has been seen
		}
	}
	r.before, r.written = nil, nil
	news := !r.failing
	r.failing, r.retry = true, time.Now().Add(retryEvery)
	return news
}

// close ends what is open.
func (r *ringFiles) close(received, missed uint64) error {
	var err error
	if f := r.written; f != nil && f.open {
		err = f.packets.Statistics(time.Now(), received, missed)
		err = errors.Join(err, r.end(f, err))
	}
	if f := r.before; f != nil {
		err = errors.Join(err, r.end(f, nil))
	}
	return err
}
