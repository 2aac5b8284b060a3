package audit

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// The spool takes records from programs that do not hold the log while a
// gateway does. Each is a file of its own, which the holder takes in: it records
// it, waits until that is on the disk, and then removes the file. A kill between
// the two makes it come twice, never not at all.
const (
	spoolDir    = "spool"
	spoolSuffix = ".json"
	maxSpooled  = 64 << 10
)

// A spooled is what a file of the spool has.
type spooled struct {
	Time   time.Time `json:"time"`
	Event  string    `json:"event"`
	Conn   string    `json:"conn,omitempty"`
	Reason string    `json:"reason"`
}

// spool leaves e for the holder of the log, and returns the name of the file.
// When it returns, the file is on the disk.
func spool(dir string, e *Event) (string, error) {
	b, err := json.Marshal(spooled{e.Time, e.Event, e.Conn, e.Reason})
	if err != nil {
		return "", err
	}
	var unique [4]byte
	rand.Read(unique[:])
	path := filepath.Join(dir, spoolDir, fmt.Sprintf("%020d-%x%s", e.Time.UnixNano(), unique, spoolSuffix))
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return "", err
	}
	return path, writeFile(nil, path, b)
}

// readSpooled reads a file of the spool. Only what an administrator does may
// come in this way.
func readSpooled(path string) (*Event, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSpooled {
		return nil, errors.New("not a file of a few bytes")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s spooled
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(s.Event, "admin.") || s.Time.IsZero() {
		return nil, fmt.Errorf("the event %q, expected admin.*, and a time", s.Event)
	}
	return &Event{Time: s.Time, Event: s.Event, Conn: s.Conn, Reason: s.Reason}, nil
}

// An intake takes in the spool of a log that is open.
type intake struct {
	log  *Log
	dir  string
	bad  map[string]bool // files that were complained of
	told *slog.Logger
	once sync.Once
	stop chan struct{}
	done chan struct{}
}

// intakeEvery is how long a record may lie in the spool of a log that is open.
const intakeEvery = 5 * time.Second

func newIntake(l *Log, o *Options) *intake {
	return &intake{
		log: l, dir: filepath.Join(o.Dir, spoolDir), bad: map[string]bool{}, told: o.Logger,
		stop: make(chan struct{}), done: make(chan struct{}),
	}
}

func (in *intake) run() {
	defer close(in.done)
	t := time.NewTicker(intakeEvery)
	defer t.Stop()
	for {
		in.take()
		select {
		case <-in.stop:
			return
		case <-t.C:
		}
	}
}

// end waits until nothing more comes from the spool.
func (in *intake) end() {
	in.once.Do(func() { close(in.stop) })
	<-in.done
}

// take records what lies in the spool, in the order of the names, which is that
// of the times.
func (in *intake) take() {
	entries, err := os.ReadDir(in.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		in.complain(in.dir, err)
	}
	for _, f := range entries {
		if !strings.HasSuffix(f.Name(), spoolSuffix) {
			continue
		}
		path := filepath.Join(in.dir, f.Name())
		if in.bad[path] {
			continue
		}
		e, err := readSpooled(path)
		if err != nil {
			in.complain(path, err)
			continue
		}
		if !in.record(e) {
			return
		}
		if err := os.Remove(path); err != nil {
			in.complain(path, err) // and not record it again
		}
	}
}

func (in *intake) complain(path string, err error) {
	if !in.bad[path] {
		in.bad[path] = true
		in.told.Error("spool of the audit log", "path", path, "error", err)
	}
}

// record reports whether e is on the disk.
func (in *intake) record(e *Event) bool {
	done := make(chan struct{})
	if in.log.Failed() != nil || in.log.recordDurably(e, done) != nil {
		return false
	}
	for {
		wait := intakeEvery
		select {
		case <-in.stop:
			if in.log.Failed() != nil {
				return false
			}
			wait = flushAfter
		default:
		}
		select {
		case <-done:
			return true
		case <-time.After(wait):
		}
	}
}

// recordDurably has e recorded and signed, and done closed when it is on the disk.
func (l *Log) recordDurably(e *Event, done chan struct{}) error {
	c := chunks.Get().(*chunk)
	c.add(e)
	c.sign, c.durable = true, done
	return l.put(c)
}

// settled tells those who wait for it that all that was taken is on the disk.
func (w *writer) settled() {
	for _, done := range w.unsettled {
		close(done)
	}
	w.unsettled = nil
}
