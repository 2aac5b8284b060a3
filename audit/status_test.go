package audit

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// What a log says of itself: of records on their way to the disk, of a failure, and
// of its last checkpoint, which it also knows after it is opened again.
func TestStatus(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := &fakeDisk{}
		l := mustOpen(t, Options{Dir: dir, OnFailure: "gap", Logger: quiet(), openSegment: disk.open})
		begin := time.Now()
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		if s := l.Status(); s.Failing != nil || s.Written != 0 || s.Behind != 0 || s.QueueSize != queueLength {
			t.Errorf("a new log: %+v", s)
		}
		for range 3 {
			if err := l.Record(Event{Event: ConnOpen}); err != nil {
				t.Fatal(err)
			}
		}
		pass(30 * time.Millisecond)
		if s := l.Status(); s.Written != 0 || s.Behind != 30*time.Millisecond {
			t.Errorf("records in memory: %+v", s)
		}
		pass(570 * time.Millisecond)
		if s := l.Status(); s.Written != 3 || s.Behind != 600*time.Millisecond {
			t.Errorf("records in a file, not synced: %+v", s)
		}
		pass(600 * time.Millisecond)
		s := l.Status()
		if s.Behind != 0 {
			t.Errorf("records on the disk: %+v", s)
		}
		if s.Checkpoint.Before(begin) || s.Checkpoint.After(time.Now()) {
			t.Errorf("the checkpoint is of %v", s.Checkpoint)
		}

		disk.set(func() { disk.syncErr = syscall.EIO })
		l.Record(Event{Event: ConnOpen})
		pass(3 * time.Second)
		l.Record(Event{Event: ConnOpen}, Event{Event: ConnOpen})
		if s := l.Status(); s.Failing == nil || s.Lost != 2 || s.Behind != 3*time.Second || s.Gaps != 0 {
			t.Errorf("while it fails: %+v", s)
		}
		disk.set(func() { disk.syncErr = nil })
		pass(5 * time.Second)
		if s := l.Status(); s.Failing != nil || s.Lost != 2 || s.Behind != 0 || s.Gaps != 1 || s.Written != 5 {
			t.Errorf("after a failure: %+v", s)
		}
		mustClose(t, l)
	})
	info, err := os.Stat(dir + "/" + checkpointFile)
	if err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, Options{Dir: dir, Logger: quiet()})
	if at := l.Status().Checkpoint; !at.Equal(info.ModTime()) {
		t.Errorf("opened again: the checkpoint is of %v, its file of %v", at, info.ModTime())
	}
	mustClose(t, l)
}
