package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeDisk fails when it is told to, after a part of the bytes.
type fakeDisk struct {
	mu       sync.Mutex
	writeErr error
	short    int // bytes of a failing write that get through
	cutErr   error
	syncErr  error
	openErr  error
	syncs    int
	gate     chan bool // not nil: a write waits until it is closed
}

type fakeFile struct {
	d *fakeDisk
	f file
}

func (d *fakeDisk) open(path string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.openErr != nil {
		return nil, d.openErr
	}
	f, err := openSegment(path)
	return fakeFile{d, f}, err
}

func (d *fakeDisk) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *fakeDisk) count(n *int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *n
}

func (f fakeFile) Write(b []byte) (int, error) {
	if f.d.gate != nil {
		<-f.d.gate
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.writeErr != nil {
		n, _ := f.f.Write(b[:min(f.d.short, len(b))])
		return n, f.d.writeErr
	}
	return f.f.Write(b)
}

func (f fakeFile) Truncate(n int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.cutErr != nil {
		return f.d.cutErr
	}
	return f.f.Truncate(n)
}

func (f fakeFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.syncs++
	if f.d.syncErr != nil {
		return f.d.syncErr
	}
	return f.f.Sync()
}

func (f fakeFile) Close() error { return f.f.Close() }

// Each way to fail, in both modes: what was accepted before is kept in order,
// what came meanwhile is refused and counted, and the log says so.
func TestFailure(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "seg", Err: syscall.ENOSPC}
	tests := []struct {
		name string
		fail func(d *fakeDisk)
		opt  Options
	}{
		{"disk full", func(d *fakeDisk) { d.writeErr = full }, Options{}},
		{"disk full in the middle of a block", func(d *fakeDisk) { d.writeErr, d.short = full, 200 }, Options{}},
		{"what was torn cannot be cut", func(d *fakeDisk) { d.writeErr, d.short, d.cutErr = full, 200, syscall.EROFS }, Options{}},
		{"no new segment", func(d *fakeDisk) { d.openErr = full }, Options{SegmentSize: 1}},
		{"no sync", func(d *fakeDisk) { d.syncErr = full }, Options{SegmentSize: 1}},
	}
	for _, tt := range tests {
		for _, mode := range []string{"block", "gap"} {
			t.Run(tt.name+"/"+mode, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var logged bytes.Buffer
					d, o := &fakeDisk{}, tt.opt
					o.Dir, o.OnFailure, o.openSegment = t.TempDir(), mode, d.open
					o.Logger = slog.New(slog.NewTextHandler(&logged, nil))
					l := mustOpen(t, o)
					code := 0
					record := func(want error) {
						t.Helper()
						code++
						if err := l.Record(Event{Event: ConnOpen, Code: code}, Event{Event: WSControl}); !errors.Is(err, want) {
							t.Fatalf("record %d: %v, want %v", code, err, want)
						}
					}
					settle := func(d time.Duration) { time.Sleep(d); synctest.Wait() }

					record(nil) // 1: in the file
					settle(flushAfter)
					settle(2 * tickAfter) // and synced
					d.set(func() { tt.fail(d) })
					record(nil) // 2: accepted, the write fails or the sync behind it
					settle(flushAfter + tickAfter)
					for range 3 { // 3, 4, 5: refused
						if err := l.Failed(); !errors.Is(err, ErrUnwritable) || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, d.cutErr) {
							t.Fatalf("state: %v", err)
						}
						if mode == "block" {
							record(ErrUnwritable)
						} else {
							record(nil)
						}
						settle(3 * tickAfter)
					}
					if l.Lost() != 3 {
						t.Errorf("lost %d", l.Lost())
					}
					d.set(func() { d.writeErr, d.cutErr, d.syncErr, d.openErr = nil, nil, nil, nil })
					settle(tickAfter)
					if err := l.Failed(); err != nil {
						t.Fatalf("still failing: %v", err)
					}
					record(nil) // 6
					mustClose(t, l)

					var got strings.Builder
					for _, rec := range mustRead(t, o.Dir, Filter{}) {
						fmt.Fprintf(&got, "%s %d;", rec.Event, rec.Code)
						if rec.Event == AuditGap {
							if !bytes.Contains(rec.Raw, []byte(`"gap":{"count":3,"since":"2000-01-01T00:00:0`)) ||
								!strings.Contains(rec.Reason, "no space left on device") {
								t.Errorf("gap record: %s", rec.Raw)
							}
						}
					}
					if want := "conn.open 1;conn.open 2;audit.gap 0;conn.open 6;"; got.String() != want {
						t.Errorf("got  %s\nwant %s", got.String(), want)
					}
					zstdcat(t, o.Dir)
					if n := strings.Count(logged.String(), "\n"); n != 2 {
						t.Errorf("%d log lines:\n%s", n, logged.String())
					}
				})
			})
		}
	}
}

// The kernel tells of a failed sync once; the log must not forget it.
func TestFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{}
		dir := t.TempDir()
		l := mustOpen(t, Options{Dir: dir, openSegment: d.open})
		d.set(func() { d.syncErr = syscall.EIO })
		if err := l.Record(Event{Event: ConnOpen}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * tickAfter)
		synctest.Wait()
		if err := l.Record(Event{Event: ConnOpen}); !errors.Is(err, ErrUnwritable) || !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		d.set(func() { d.syncErr = nil })
		mustClose(t, l)
		recs := mustRead(t, dir, Filter{})
		if len(recs) != 2 || recs[1].Event != AuditGap || !strings.Contains(recs[1].Reason, "written records may not be on the disk") {
			t.Errorf("got %v", recs)
		}
	})
}

// A failure that lasts to the end: Close says what is lost, and so does the
// next Open.
func TestFailureUntilClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{writeErr: syscall.ENOSPC, short: 10, gate: make(chan bool)}
		dir := t.TempDir()
		l := mustOpen(t, Options{Dir: dir, OnFailure: "gap", openSegment: d.open})
		record := func() {
			t.Helper()
			if err := l.Record(Event{Event: ConnOpen}, Event{Event: ConnOpen}); err != nil {
				t.Fatal(err)
			}
		}
		record() // in the block that is about to fail
		time.Sleep(2 * flushAfter)
		record() // accepted while the write is under way
		close(d.gate)
		synctest.Wait()
		record() // refused
		err := l.Close()
		if !errors.Is(err, ErrUnwritable) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "6 records are lost") {
			t.Fatalf("Close: %v", err)
		}
		mustClose(t, mustOpen(t, Options{Dir: dir}))
		recs := mustRead(t, dir, Filter{})
		if len(recs) != 1 || recs[0].Event != AuditGap || !strings.Contains(recs[0].Reason, "was not closed") {
			t.Errorf("got %v", recs)
		}
	})
}

// When the disk stands still, what is accepted waits in bounded room and the
// callers wait with it.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{gate: make(chan bool)}
		dir := t.TempDir()
		l := mustOpen(t, Options{Dir: dir, openSegment: d.open})
		// More than a block: the writer goes to the disk at once, and stays there.
		full := slices.Repeat([]Event{{Event: "e"}}, maxCount+1)
		if err := l.Record(full...); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		accepted := 0
		go func() {
			for range queueLength + 10 {
				if err := l.Record(Event{Event: "e"}); err != nil {
					t.Error(err)
				}
				accepted++
			}
		}()
		synctest.Wait()
		if accepted != queueLength {
			t.Errorf("%d hand-overs without a wait, want %d", accepted, queueLength)
		}
		close(d.gate)
		synctest.Wait()
		mustClose(t, l)
		if n := len(mustRead(t, dir, Filter{})); n != len(full)+queueLength+10 {
			t.Errorf("%d records", n)
		}
	})
}

// A real kernel and a real limit: RLIMIT_FSIZE lets a part of a write through
// and then refuses, as a full disk does.
func TestFileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), "AUDIT_TEST_CHILD=full")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	recs := mustRead(t, dir, Filter{})
	if last := recs[len(recs)-1]; last.Event != GatewayStop || recs[len(recs)-2].Event != AuditGap {
		t.Errorf("the log ends with %s", last.Raw)
	}
	zstdcat(t, dir)
}

func fullChild(dir string) int {
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		fmt.Println(err)
		return 1
	}
	l, err := Open(Options{Dir: dir, Logger: quiet()})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 100 << 10, Max: old.Max}); err != nil {
		fmt.Println(err)
		return 1
	}
	for i := 0; err == nil; i++ {
		err = l.Record(benchEvent(i))
	}
	if !errors.Is(err, ErrUnwritable) || !errors.Is(err, syscall.EFBIG) {
		fmt.Println("not the error of a full disk:", err)
		return 1
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		fmt.Println(err)
		return 1
	}
	for l.Failed() != nil {
		time.Sleep(10 * time.Millisecond)
	}
	if err := errors.Join(l.Record(Event{Event: GatewayStop}), l.Close()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
