package audit

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// eventsOf is what a log has, in short.
func eventsOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, rec := range mustRead(t, dir, Filter{}) {
		fmt.Fprintf(&b, "%s %d", rec.Event, rec.Code)
		if rec.Gap != nil {
			fmt.Fprintf(&b, " lost %d", rec.Gap.Count)
		}
		b.WriteString("; ")
	}
	return b.String()
}

// The disk of the new process is full: the old one refuses as if it were its own,
// counts, and records what was lost.
func TestForwardToFullDisk(t *testing.T) {
	for _, mode := range []string{"block", "gap"} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				d := &fakeDisk{}
				old := mustOpen(t, Options{Dir: dir, OnFailure: mode})
				if err := old.Yield(); err != nil {
					t.Fatal(err)
				}
				young := mustOpen(t, Options{Dir: dir, openSegment: d.open})
				a, b := net.Pipe()
				accepted := accept(young, b)
				if err := old.Forward(a); err != nil {
					t.Fatal(err)
				}
				code := 0
				record := func(want error) {
					t.Helper()
					code++
					if err := old.Record(Event{Event: ConnOpen, Code: code}); !errors.Is(err, want) {
						t.Fatalf("record %d: %v, want %v", code, err, want)
					}
				}
				settle := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
				record(nil) // 1: in the file
				settle(3 * tickAfter)
				if s := old.Status(); s.Written != 1 || s.Behind != 0 {
					t.Errorf("one record written: %+v", s)
				}
				d.set(func() { d.writeErr = syscall.ENOSPC })
				record(nil) // 2: accepted, and waits in the new process
				settle(3 * tickAfter)
				for range 3 { // 3, 4, 5: refused
					if err := old.Failed(); !errors.Is(err, ErrUnwritable) || !strings.Contains(err.Error(), "no space left on device") {
						t.Fatalf("state: %v", err)
					}
					record(map[string]error{"block": ErrUnwritable}[mode])
				}
				if s := old.Status(); s.Lost != 3 || s.Behind < 2*tickAfter {
					t.Errorf("while it fails: %+v", s)
				}
				d.set(func() { d.writeErr = nil })
				settle(3 * tickAfter)
				if err := old.Failed(); err != nil {
					t.Fatalf("still failing: %v", err)
				}
				record(nil) // 6
				settle(tickAfter)
				mustClose(t, old)
				if err := <-accepted; err != nil {
					t.Error(err)
				}
				mustClose(t, young)
				if got, want := eventsOf(t, dir), "conn.open 1; conn.open 2; audit.gap 0 lost 3; conn.open 6; "; got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			})
		})
	}
}

// The new process ends while its disk is full: the old one has what that had not
// written, and says why it refused records meanwhile.
func TestFullDiskOfOneThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := &fakeDisk{writeErr: syscall.ENOSPC}
		old := mustOpen(t, Options{Dir: dir, OnFailure: "gap"})
		if err := old.Yield(); err != nil {
			t.Fatal(err)
		}
		young := mustOpen(t, Options{Dir: dir, openSegment: d.open})
		a, b := net.Pipe()
		accepted := accept(young, b)
		if err := old.Forward(a); err != nil {
			t.Fatal(err)
		}
		for code := range 3 { // two are refused
			if err := old.Record(Event{Event: ConnOpen, Code: code + 1}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * tickAfter)
		}
		if err := young.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Close: %v", err)
		}
		if err := <-accepted; !errors.Is(err, ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		time.Sleep(3 * tickAfter)
		if err := old.Record(Event{Event: ConnOpen, Code: 4}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, old)
		// Of the new one's end, of what may be there twice, and of what was refused.
		if got, want := eventsOf(t, dir), "audit.gap 0 lost 0; audit.gap 0 lost 0; conn.open 1; audit.gap 0 lost 2; conn.open 4; "; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if recs := mustRead(t, dir, Filter{}); !strings.Contains(recs[3].Reason, "no space left on device") {
			t.Errorf("%s", recs[3].Raw)
		}
	})
}

// Close does not wait for ever for a process that cannot write, and says what is
// not acknowledged.
func TestCloseWhileForwarding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := &fakeDisk{writeErr: syscall.ENOSPC}
		old := mustOpen(t, Options{Dir: dir})
		if err := old.Yield(); err != nil {
			t.Fatal(err)
		}
		young := mustOpen(t, Options{Dir: dir, openSegment: d.open})
		a, b := net.Pipe()
		accepted := accept(young, b)
		if err := old.Forward(a); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := old.Record(Event{Event: ConnOpen}); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		err := old.Close()
		if !errors.Is(err, ErrUnwritable) || !strings.Contains(err.Error(), "has not acknowledged 5 records") || time.Since(begin) != lastWait {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		d.set(func() { d.writeErr = nil })
		if err := <-accepted; err != nil {
			t.Error(err)
		}
		mustClose(t, young)
		if n := len(mustRead(t, dir, Filter{Event: ConnOpen})); n != 5 { // which were only late
			t.Errorf("%d records", n)
		}
	})
}

// Nobody takes what waits: Close takes the directory back for it, and everybody
// who waits in Record comes out.
func TestCloseGivenUp(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	if err := l.Yield(); err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for range queueLength + 20 {
		callers.Go(func() {
			if err := l.Record(Event{Event: ConnOpen}); err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
	}
	for l.Status().Queued < queueLength {
		time.Sleep(time.Millisecond)
	}
	mustClose(t, l)
	callers.Wait()
	if n := len(mustRead(t, dir, Filter{})); n < queueLength {
		t.Errorf("%d records", n)
	}

	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := mustOpen(t, Options{Dir: dir})
		if err := l.Yield(); err != nil {
			t.Fatal(err)
		}
		if err := l.Record(Event{Event: ConnOpen}, Event{Event: ConnClose}); err != nil {
			t.Fatal(err)
		}
		held := mustOpen(t, Options{Dir: dir})
		var by *HeldError
		if err := l.Close(); !errors.Is(err, ErrUnwritable) || !errors.As(err, &by) || !strings.Contains(err.Error(), "2 records are lost") {
			t.Error(err)
		}
		mustClose(t, held)
	})
}

// Another process has the directory when it is to be taken back: the log fails,
// as on a disk that cannot be written, until it has it.
func TestRetakeLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := mustOpen(t, Options{Dir: dir})
		record := func(code int, want error) {
			t.Helper()
			if err := l.Record(Event{Event: ConnOpen, Code: code}); !errors.Is(err, want) {
				t.Fatalf("record %d: %v", code, err)
			}
		}
		if err := l.Yield(); err != nil {
			t.Fatal(err)
		}
		record(1, nil)
		other := mustOpen(t, Options{Dir: dir})
		if err := l.Retake(); !errors.Is(err, ErrUnwritable) || !strings.Contains(err.Error(), "another gateway") {
			t.Errorf("Retake: %v", err)
		}
		record(2, ErrUnwritable)
		if err := l.Reopen(Options{Dir: dir, Logger: quiet()}); !errors.Is(err, ErrUnwritable) {
			t.Errorf("Reopen: %v", err)
		}
		mustClose(t, other)
		time.Sleep(2 * tickAfter)
		synctest.Wait()
		record(3, nil)
		time.Sleep(tickAfter)
		mustClose(t, l)
		if got, want := eventsOf(t, dir), "conn.open 1; audit.gap 0 lost 1; conn.open 3; "; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// A log that cannot be written is not given up, but it can go on elsewhere, and
// takes with it what it could not write.
func TestReopenFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, other := t.TempDir(), t.TempDir()
		d := &fakeDisk{}
		l := mustOpen(t, Options{Dir: dir, openSegment: d.open})
		record := func(code int, want error) {
			t.Helper()
			if err := l.Record(Event{Event: ConnOpen, Code: code, Time: time.Unix(int64(code), 5)}); !errors.Is(err, want) {
				t.Fatalf("record %d: %v", code, err)
			}
		}
		record(1, nil)
		time.Sleep(2 * tickAfter)
		d.set(func() { d.writeErr, d.short = syscall.ENOSPC, 30 })
		record(2, nil)
		record(3, nil)
		time.Sleep(2 * flushAfter)
		synctest.Wait()
		record(4, ErrUnwritable)
		if err := l.Yield(); !errors.Is(err, ErrUnwritable) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Yield: %v", err)
		}
		if err := l.Reopen(Options{Dir: other, Logger: quiet()}); err != nil {
			t.Fatal(err)
		}
		record(5, nil)
		time.Sleep(2 * tickAfter)
		mustClose(t, l)
		if got, want := eventsOf(t, dir), "conn.open 1; "; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got, want := eventsOf(t, other), "conn.open 2; conn.open 3; conn.open 5; audit.gap 0 lost 1; "; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if recs := mustRead(t, other, Filter{To: time.Unix(100, 0)}); len(recs) != 3 || recs[0].Time != time.Unix(2, 5).UTC() {
			t.Errorf("times: %v", recs)
		}
	})
}
