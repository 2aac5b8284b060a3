package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An otherProcess is this binary, run again, with the log in a directory.
type otherProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startOther starts a child; conn, if there is one, is its descriptor 3.
func startOther(t *testing.T, child, dir string, conn net.Conn) *otherProcess {
	t.Helper()
	p := &otherProcess{cmd: exec.Command(os.Args[0], dir)}
	p.cmd.Env = append(os.Environ(), "AUDIT_TEST_CHILD="+child)
	p.cmd.Stderr = os.Stderr
	if conn != nil {
		f, err := conn.(*net.UnixConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		conn.Close()
		p.cmd.ExtraFiles = []*os.File{f}
	}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	return p
}

// says waits for the next line of the child.
func (p *otherProcess) says(t *testing.T, want string) {
	t.Helper()
	if !p.out.Scan() || want != "" && p.out.Text() != want {
		t.Fatalf("the child says %q, want %q", p.out.Text(), want)
	}
}

func (p *otherProcess) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// succeedChild opens the log, accepts what comes over descriptor 3 and records from
// goroutines of its own, until its standard input ends.
func succeedChild(dir string) int {
	l, err := Open(Options{Dir: dir, Logger: quiet()})
	if err != nil {
		return complain(err)
	}
	fmt.Println("open")
	conn, err := net.FileConn(os.NewFile(3, "hand-over"))
	if err != nil {
		return complain(err)
	}
	var accepted error
	var work sync.WaitGroup
	work.Go(func() { _, accepted = l.Accept(conn) })
	counts := make([]int, 4)
	stop := make(chan struct{})
	for c := range counts {
		work.Go(func() {
			for err == nil {
				select {
				case <-stop:
					return
				default:
				}
				if e := l.Record(Event{Event: ConnOpen, Conn: fmt.Sprintf("new-%d", c), Code: counts[c] + 1}); e != nil {
					complain(e)
					return
				}
				if counts[c]++; counts[c]%64 == 0 {
					time.Sleep(2 * time.Millisecond)
				}
			}
		})
	}
	io.Copy(io.Discard, os.Stdin)
	close(stop)
	work.Wait()
	if err := errors.Join(accepted, l.Close()); err != nil {
		return complain(err)
	}
	return complain(json.NewEncoder(os.Stdout).Encode(counts))
}

// precedeChild opens the log, and gives it up over descriptor 3 when it is told
// to, while it records for ever.
func precedeChild(dir string) int {
	l, err := Open(Options{Dir: dir, Logger: quiet()})
	if err != nil {
		return complain(err)
	}
	for c := range 4 {
		go func() {
			for i := 1; ; i++ {
				if i%64 == 0 {
					time.Sleep(2 * time.Millisecond)
				}
				if l.Record(Event{Event: ConnOpen, Conn: fmt.Sprintf("old-%d", c), Code: i}) != nil {
					return
				}
			}
		}()
	}
	conn, err := net.FileConn(os.NewFile(3, "hand-over"))
	if err == nil {
		err = l.Yield()
	}
	if err != nil {
		return complain(err)
	}
	fmt.Println("given up")
	if err := l.Forward(conn); err != nil {
		return complain(err)
	}
	io.Copy(io.Discard, os.Stdin)
	return complain(l.Close())
}

// holdChild has the log open until its standard input ends.
func holdChild(dir string) int {
	l, err := Open(Options{Dir: dir, Logger: quiet()})
	if err != nil {
		return complain(err)
	}
	fmt.Println("open")
	io.Copy(io.Discard, os.Stdin)
	return complain(l.Close())
}

func complain(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// Two processes, each with goroutines that record all the time: one log, each
// record once.
func TestHandOverToProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := mustOpen(t, Options{Dir: dir})
	ld := startLoad(t, old, "old", 8)
	ld.warm.Wait()
	if err := old.Yield(); err != nil {
		t.Fatal(err)
	}
	a, b := socketPair(t)
	young := startOther(t, "succeed", dir, b)
	young.says(t, "open")
	if err := old.Forward(a); err != nil {
		t.Fatal(err)
	}
	for begin := old.Status().Written; old.Status().Written < begin+5_000; {
		time.Sleep(time.Millisecond)
	}
	ld.end()
	mustClose(t, old)
	young.in.Close()
	young.says(t, "")
	fromYoung := &load{}
	if err := json.Unmarshal(young.out.Bytes(), &fromYoung.count); err != nil {
		t.Fatal(err)
	}
	if err := young.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	checkLoad(t, dir, map[string]*load{"old": ld, "new": fromYoung})
	if recs := mustRead(t, dir, Filter{Event: AuditGap}); len(recs) > 0 {
		t.Errorf("%s", recs[0].Raw)
	}
}

// The new process is killed in the middle, three times over: the old one goes on,
// and nothing that it was asked to record is missing.
func TestSuccessorKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := mustOpen(t, Options{Dir: dir})
	ld := startLoad(t, old, "old", 4)
	for range 3 {
		if err := old.Yield(); err != nil {
			t.Fatal(err)
		}
		a, b := socketPair(t)
		young := startOther(t, "succeed", dir, b)
		young.says(t, "open")
		if err := old.Forward(a); err != nil {
			t.Fatal(err)
		}
		for begin := old.Status().Written; old.Status().Written < begin+5_000; {
			time.Sleep(time.Millisecond)
		}
		young.kill()
		for old.Status().Elsewhere {
			time.Sleep(time.Millisecond)
		}
	}
	ld.end()
	mustClose(t, old)

	next, twice, mayBe := map[string]int{}, 0, 0
	for _, rec := range mustRead(t, dir, Filter{}) {
		switch {
		case rec.Event == AuditGap:
			var n int
			if i := strings.Index(rec.Reason, "has ended: "); i >= 0 {
				fmt.Sscanf(rec.Reason[i:], "has ended: %d records", &n)
			}
			mayBe += n
		case !strings.HasPrefix(rec.Conn, "old-"):
		case rec.Code == next[rec.Conn]+1:
			next[rec.Conn]++
		case rec.Code <= next[rec.Conn]:
			twice++
		default:
			t.Fatalf("%s: %d after %d", rec.Conn, rec.Code, next[rec.Conn])
		}
	}
	for c, n := range ld.count {
		if got := next[fmt.Sprintf("old-%d", c)]; got != n {
			t.Errorf("old-%d: %d records of %d", c, got, n)
		}
	}
	if twice > mayBe {
		t.Errorf("%d records twice, and %d were said to be", twice, mayBe)
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" {
		t.Errorf("%+v", r)
	}
}

// The old process is killed in the middle: what came of it is the beginning of
// what it recorded, and the new one goes on.
func TestForwarderKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := socketPair(t)
	old := startOther(t, "precede", dir, a)
	old.says(t, "given up")
	l := mustOpen(t, Options{Dir: dir})
	type end struct {
		n   int64
		err error
	}
	accepted := make(chan end, 1)
	go func() {
		n, err := l.Accept(b)
		accepted <- end{n, err}
	}()
	for begin := l.Status().Written; l.Status().Written < begin+5_000; {
		time.Sleep(time.Millisecond)
	}
	old.kill()
	e := <-accepted
	if !errors.Is(e.err, io.ErrUnexpectedEOF) || !strings.Contains(e.err.Error(), fmt.Sprintf("process %d", old.cmd.Process.Pid)) {
		t.Errorf("Accept: %v", e.err)
	}
	if err := l.Record(Event{Event: GatewayStop}); err != nil {
		t.Error(err)
	}
	mustClose(t, l)
	next := map[string]int{}
	recs := mustRead(t, dir, Filter{})
	n := len(recs) - 2
	for _, rec := range recs[:n] {
		if next[rec.Conn]++; rec.Code != next[rec.Conn] {
			t.Fatalf("%s: %d where %d should be", rec.Conn, rec.Code, next[rec.Conn])
		}
	}
	if int64(n) < e.n || recs[n].Event != AuditGap || !strings.Contains(recs[n].Reason, "was killed") || recs[n+1].Event != GatewayStop {
		t.Errorf("%d records accepted, %d in the log, the last are %s %s", e.n, n, recs[n].Raw, recs[n+1].Raw)
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" {
		t.Errorf("%+v", r)
	}
}

// A second gateway on a directory is told who has it. What a killed one has left
// is not taken for a gateway.
func TestDoubleStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startOther(t, "hold", dir, nil)
	first.says(t, "open")
	_, err := Open(Options{Dir: dir})
	want := fmt.Sprintf("%s is being written by another gateway (process %d): stop that one, or give each a directory of its own", dir, first.cmd.Process.Pid)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	first.kill()
	l := mustOpen(t, Options{Dir: dir})
	if recs := mustRead(t, dir, Filter{}); len(recs) > 1 {
		t.Errorf("%s", recs[0].Raw)
	}
	// A mark that is not of who holds the lock: of the killed one, of a process
	// that has its number since, of an older version, of nobody.
	for _, mark := range []string{
		fmt.Sprintf(`{"pid":%d,"start":1}`, first.cmd.Process.Pid), `{"pid":1,"start":18446744073709551615}`, "", `{"pid":-1}`, "{",
	} {
		write(t, []byte(mark), dir, openFile)
		var held *HeldError
		if _, err := Open(Options{Dir: dir}); !errors.As(err, &held) || held.PID != 0 || strings.Contains(err.Error(), "process") {
			t.Errorf("%q: %v", mark, err)
		}
	}
	mustClose(t, l)
	if _, err := os.Stat(filepath.Join(dir, openFile)); err == nil {
		t.Error("the mark is still there")
	}
	recs := mustRead(t, dir, Filter{})
	if len(recs) != 1 || recs[0].Event != AuditGap || !strings.Contains(recs[0].Reason, "was not closed") {
		t.Errorf("%v", recs)
	}
}
