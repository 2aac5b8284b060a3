package audit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// socketPair is what an old and a new process have between them.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return connOf(t, fds[0]), connOf(t, fds[1])
}

func connOf(t testing.TB, fd int) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "hand-over")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A load records from many goroutines, each its own numbers, until it is stopped.
type load struct {
	work  sync.WaitGroup
	stop  chan struct{}
	count []int // accepted, of each
	warm  sync.WaitGroup
}

func startLoad(t testing.TB, l *Log, name string, callers int) *load {
	ld := &load{stop: make(chan struct{}), count: make([]int, callers)}
	ld.warm.Add(callers)
	for c := range callers {
		ld.work.Go(func() {
			batch := make([]Event, 3)
			warm := sync.OnceFunc(ld.warm.Done)
			defer warm()
			for {
				select {
				case <-ld.stop:
					return
				default:
				}
				for j := range batch {
					batch[j] = Event{Event: ConnOpen, Conn: fmt.Sprintf("%s-%d", name, c), Code: ld.count[c] + 1 + j}
				}
				if err := l.Record(batch...); err != nil {
					t.Error(err)
					return
				}
				if ld.count[c] += len(batch); ld.count[c] > 100 {
					warm()
				}
				if ld.count[c]%64 == 0 { // in bursts
					time.Sleep(2 * time.Millisecond)
				}
			}
		})
	}
	return ld
}

// end ends it when all have recorded something.
func (ld *load) end() {
	ld.warm.Wait()
	close(ld.stop)
	ld.work.Wait()
}

// check says whether the log has each record of the loads once and in order.
func checkLoad(t *testing.T, dir string, loads map[string]*load) {
	t.Helper()
	next := map[string]int{}
	for _, rec := range mustRead(t, dir, Filter{}) {
		if rec.Event != ConnOpen {
			continue
		}
		if rec.Code != next[rec.Conn]+1 {
			t.Fatalf("%s: %d after %d", rec.Conn, rec.Code, next[rec.Conn])
		}
		next[rec.Conn] = rec.Code
	}
	for name, ld := range loads {
		for c, n := range ld.count {
			if got := next[fmt.Sprintf("%s-%d", name, c)]; got != n || n == 0 {
				t.Errorf("%s-%d: %d records of %d", name, c, got, n)
			}
		}
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" {
		t.Errorf("%+v", r)
	}
}

// accept has l accept conn, and returns how it ends.
func accept(l *Log, conn net.Conn) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := l.Accept(conn)
		done <- err
	}()
	return done
}

// The log goes from hand to hand: old to middle to new, each of which has
// connections of its own, and then back.
func TestHandOver(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, SegmentSize: 256 << 10}
	old := mustOpen(t, o)
	loads := map[string]*load{"old": startLoad(t, old, "old", 4)}
	give := func(from *Log, name string) (*Log, <-chan error) {
		t.Helper()
		loads[name+"-before"] = startLoad(t, from, name+"-before", 2)
		if err := from.Yield(); err != nil {
			t.Fatal(err)
		}
		to := mustOpen(t, o)
		a, b := socketPair(t)
		accepted := accept(to, b)
		if err := from.Forward(a); err != nil {
			t.Fatal(err)
		}
		loads[name] = startLoad(t, to, name, 2)
		return to, accepted
	}
	middle, fromOld := give(old, "middle")
	young, fromMiddle := give(middle, "new")
	for _, ld := range loads {
		ld.end()
	}
	if s := old.Status(); !s.Elsewhere || s.Failing != nil {
		t.Errorf("the old one: %+v", s)
	}
	mustClose(t, old)
	if err := <-fromOld; err != nil {
		t.Errorf("from the old one: %v", err)
	}
	mustClose(t, middle)
	if err := <-fromMiddle; err != nil {
		t.Errorf("from the middle one: %v", err)
	}
	mustClose(t, young)
	checkLoad(t, dir, loads)
	if recs := mustRead(t, dir, Filter{Event: AuditGap}); len(recs) > 0 {
		t.Errorf("%s", recs[0].Raw)
	}
}

// The new process cannot open the log, or ends: the old one goes on.
func TestRetake(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir}
	old := mustOpen(t, o)
	ld := startLoad(t, old, "old", 4)
	if err := old.Yield(); err != nil {
		t.Fatal(err)
	}
	if err := old.Reopen(o); !errors.Is(err, ErrElsewhere) {
		t.Errorf("Reopen of a log that is given up: %v", err)
	}
	if err := old.Retake(); err != nil {
		t.Fatal(err)
	}
	if err := old.Yield(); err != nil {
		t.Fatal(err)
	}
	young := mustOpen(t, o)
	a, b := socketPair(t)
	accepted := accept(young, b)
	if err := old.Forward(a); err != nil {
		t.Fatal(err)
	}
	mustClose(t, young)
	if err := <-accepted; !errors.Is(err, ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	ld.end()
	mustClose(t, old)
	checkLoad(t, dir, map[string]*load{"old": ld})
	if recs := mustRead(t, dir, Filter{Event: AuditGap}); len(recs) > 0 {
		t.Errorf("%s", recs[0].Raw)
	}
}

// A reload under load: the same directory with other options, another one, one
// that cannot be had.
func TestReopenUnderLoad(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	ld := startLoad(t, l, "a", 4)
	for _, size := range []int64{16 << 10, 32 << 10, 0} {
		if err := l.Reopen(Options{Dir: dir, SegmentSize: size, OnFailure: "gap", Logger: quiet()}); err != nil {
			t.Fatal(err)
		}
	}
	held := mustOpen(t, Options{Dir: other})
	if err := l.Reopen(Options{Dir: other, Logger: quiet()}); err == nil {
		t.Error("a directory that another log has")
	}
	mustClose(t, held)
	ld.end()
	origin := l.Origin()
	if err := l.Reopen(Options{Dir: other, Level: Connections, Logger: quiet()}); err != nil {
		t.Fatal(err)
	}
	checkLoad(t, dir, map[string]*load{"a": ld})
	if l.Origin() == origin {
		t.Error("the other log has the same origin")
	}
	ld = startLoad(t, l, "b", 2)
	if err := l.Record(Event{Event: WSMessage}); err != nil {
		t.Fatal(err)
	}
	ld.end()
	mustClose(t, l)
	checkLoad(t, other, map[string]*load{"b": ld})
	if n := len(mustRead(t, other, Filter{Event: WSMessage})); n > 0 {
		t.Errorf("%d records that the level does not want", n)
	}
}
