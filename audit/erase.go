package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// AdminErase is the event of keys that are removed.
const AdminErase = "admin.erase"

// An Erasure says which payloads are to be erased: those of one connection, or
// of all whose key was made before a time, and so all from before it. One of the
// two is set.
type Erasure struct {
	Conn   string
	Before time.Time
	By     string // who does it, for the record

	// Logger hears of repairs if the log has to be opened for the record. Nil:
	// slog.Default().
	Logger *slog.Logger
}

// An Erased is what came of an Erasure.
type Erased struct {
	Keys    int    // that were removed
	Spooled string // the file that has the record, which a gateway is to take in; "": it is in the log
}

// Erase removes the keys of sealed payloads from the log in dir, so that nobody
// can read these any more. It is recorded before: no key is gone without a
// record, though after a kill there may be a record of a key that is still
// there. Nothing else of the log changes, and it verifies as before.
func Erase(dir string, e Erasure) (done Erased, err error) {
	if _, err := readLogID(dir); err != nil {
		return done, err
	}
	if err := checkOwner(dir); err != nil {
		return done, err
	}
	paths, err := e.paths(dir)
	if err != nil || len(paths) == 0 {
		return done, err
	}
	what := fmt.Sprintf("the keys made before %s, %d of them", e.Before.UTC().Format(time.RFC3339), len(paths))
	if e.Conn != "" {
		what = fmt.Sprintf("the keys of the connection, %d of them", len(paths))
	}
	if done.Spooled, err = e.record(dir, fmt.Sprintf("payloads erased by %s: %s", e.By, what)); err != nil {
		return done, err
	}
	var failed []error
	days := map[string]bool{}
	for _, path := range paths {
		err := os.Remove(path)
		if err == nil {
			done.Keys++
			days[filepath.Dir(path)] = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	today := time.Now().UTC().Format(time.DateOnly)
	for day := range days {
		if err := syncDir(day); err != nil {
			failed = append(failed, err)
		}
		if filepath.Base(day) < today {
			removeDay(day)
		}
	}
	if len(failed) > 0 {
		_, err := e.record(dir, fmt.Sprintf("payloads not erased: of %s, %d could not be removed: %v", what, len(failed), failed[0]))
		return done, fmt.Errorf("%d of %d keys are still there: %w", len(failed), len(paths), errors.Join(failed[0], err))
	}
	return done, nil
}

// removeDay removes a directory of keys if it has none any more, with what a
// kill has left of one.
func removeDay(day string) {
	unfinished, _ := filepath.Glob(filepath.Join(day, ".tmp-*"))
	for _, path := range unfinished {
		os.Remove(path)
	}
	os.Remove(day) // which fails if it is not empty
}

// paths lists the key files that the erasure is about.
func (e *Erasure) paths(dir string) ([]string, error) {
	if e.Conn != "" {
		return findKeys(dir, e.Conn)
	}
	days, err := keyDays(dir)
	if err != nil {
		return nil, err
	}
	last := e.Before.UTC().Format(time.DateOnly)
	var paths []string
	for _, day := range days {
		if day > last {
			break
		}
		entries, err := os.ReadDir(filepath.Join(dir, keysDir, day))
		if err != nil {
			return nil, err
		}
		for _, f := range entries {
			if day == last {
				info, err := f.Info()
				if errors.Is(err, fs.ErrNotExist) || err == nil && !info.ModTime().Before(e.Before) {
					continue
				}
				if err != nil {
					return nil, err
				}
			}
			if validConn(f.Name()) {
				paths = append(paths, filepath.Join(dir, keysDir, day, f.Name()))
			}
		}
	}
	return paths, nil
}

// record brings the record into the log, or to the gateway that holds it.
func (e *Erasure) record(dir, reason string) (spooled string, err error) {
	event := Event{Time: time.Now(), Event: AdminErase, Conn: e.Conn, Reason: reason}
	l, err := Open(Options{Dir: dir, Logger: e.Logger})
	var held *HeldError
	if errors.As(err, &held) {
		return spool(dir, &event)
	}
	if err != nil {
		return "", err
	}
	err = l.Record(event)
	return "", errors.Join(err, l.Close())
}
