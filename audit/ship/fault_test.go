package ship

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"framegate/audit"
)

// A receiver takes connections and gives each to serve.
func receiver(t *testing.T, serve func(c net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	var conns sync.WaitGroup
	t.Cleanup(func() { ln.Close(); conns.Wait() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { defer c.Close(); serve(c) })
		}
	}()
	return ln.Addr().String()
}

// messages reads framed messages and hands on the seq of each.
func messages(c net.Conn, each func(seq int)) {
	r := bufio.NewReader(c)
	for {
		digits, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, _ := strconv.Atoi(strings.TrimSpace(digits))
		msg := make([]byte, n)
		if _, err := io.ReadFull(r, msg); err != nil {
			return
		}
		_, rest, _ := strings.Cut(string(msg), ` seq="`)
		digits, _, _ = strings.Cut(rest, `"`)
		seq, _ := strconv.Atoi(digits)
		each(seq)
	}
}

// Connections that are refused, reset in the middle and ended between two
// batches: what the socket had not taken is sent again, in order.
func TestReceiverComesAndGoes(t *testing.T) {
	var mu sync.Mutex
	got := make(map[int]bool)
	conns := 0
	addr := receiver(t, func(c net.Conn) {
		mu.Lock()
		conns++
		turn := conns
		mu.Unlock()
		if turn == 1 { // takes a little and resets
			io.CopyN(io.Discard, c, 1000)
			c.(*net.TCPConn).SetLinger(0)
			return
		}
		messages(c, func(seq int) {
			mu.Lock()
			defer mu.Unlock()
			got[seq] = true
		})
	})
	f := start(t, Config{Records: []Target{record(t, "syslog+tcp://"+addr)}})
	const n = 30000 // more than the sockets' buffers
	for range n / 1000 {
		f.record(events(1000)...)
	}
	f.wait("the last", func() bool { mu.Lock(); defer mu.Unlock(); return got[n] })
	st := f.shipper.Status()[0]
	mu.Lock()
	defer mu.Unlock()
	if st.Lost != 0 || conns != 2 {
		t.Errorf("%d connections, status %+v", conns, st)
	}
	// The first connection may have taken batches whole: those are gone, and
	// their numbers show it. Behind the first that has arrived nothing is missing.
	first := 1
	for !got[first] {
		first++
	}
	for seq := first; seq <= n; seq++ {
		if !got[seq] {
			t.Fatalf("seq %d is missing, the first was %d", seq, first)
		}
	}
}

// A peer that ends an idle connection is noticed before the next batch.
func TestReceiverEndsIdleConnection(t *testing.T) {
	seqs := make(chan int, 10)
	addr := receiver(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		once := &oneMessage{Conn: c, r: r}
		messages(once, func(seq int) { seqs <- seq })
	})
	f := start(t, Config{Records: []Target{record(t, "syslog+tcp://"+addr)}})
	for want := 1; want <= 3; want++ {
		f.record(events(1)...)
		if got := <-seqs; got != want {
			t.Fatalf("seq %d, want %d", got, want)
		}
		time.Sleep(50 * time.Millisecond) // for the end to arrive
	}
}

// A oneMessage ends behind the first read.
type oneMessage struct {
	net.Conn
	r    *bufio.Reader
	read bool
}

func (o *oneMessage) Read(b []byte) (int, error) {
	if o.read {
		return 0, io.EOF
	}
	o.read = true
	return o.r.Read(b)
}

// A target that takes nothing, with ten times as much as the queue holds: the
// memory is bounded, the loss is counted to the record, and the log has all.
func TestOverload(t *testing.T) {
	over := make(chan struct{})
	hung := receiver(t, func(net.Conn) { <-over }) // reads nothing
	t.Cleanup(func() { close(over) })
	const queue = 1 << 20
	for name, addr := range map[string]string{"refuses": freePort(t), "hangs": hung} {
		t.Run(name, func(t *testing.T) {
			f := start(t, Config{Queue: queue, reportEvery: time.Hour, Records: []Target{record(t, "syslog+tcp://"+addr)}})
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			const n = 40000 // of about 330 bytes
			for range n / 1000 {
				f.record(events(1000)...)
			}
			f.wait("the last record", func() bool { return f.accounted() == n })
			runtime.GC()
			runtime.ReadMemStats(&after)
			st := f.shipper.Status()[0]
			if st.Queued > queue || st.Lost == 0 {
				t.Errorf("status %+v", st)
			}
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16*queue {
				t.Errorf("the heap has grown by %d bytes", grown)
			}
			f.stop(200 * time.Millisecond)
			f.verify(audit.VerifyOptions{})
			lines := f.lines()
			st = f.shipper.Status()[0]
			// All but what the socket took are lost. The record of that may be one more,
			// or the last that it took.
			unshipped := func(count int64) string {
				return fmt.Sprintf(`"unshipped":{"target":%q,"count":%d,`, "syslog+tcp://"+addr, count)
			}
			last := lines[len(lines)-1]
			told := strings.Contains(last, unshipped(st.Lost-1)) || strings.Contains(last, unshipped(st.Lost))
			if len(lines) != n+1 || !told || st.Sent+st.Lost != int64(n)+1 {
				t.Errorf("%d records, the last %s; status %+v", len(lines), last, st)
			}
			if c := strings.Count(f.console.String(), "queue is full"); c != 1 {
				t.Errorf("told %d times:\n%s", c, f.console)
			}
		})
	}
}

// accounted is how many records have been sent, lost or wait.
func (f *fixture) accounted() int64 {
	st := f.shipper.Status()[0]
	n := st.Sent + st.Lost
	q := f.shipper.sinks[0].queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.batches {
		n += int64(b.count)
	}
	return n
}

// A loss is recorded as soon as the target takes records again, once.
func TestLossIsRecorded(t *testing.T) {
	addr := freePort(t)
	f := start(t, Config{Queue: 1000, Records: []Target{record(t, "syslog+tcp://"+addr)}})
	f.record(events(1)...)
	f.wait("a failure", func() bool { return f.shipper.Status()[0].Failures > 0 })
	f.record(events(100)...)
	f.wait("a loss", func() bool { return f.shipper.Status()[0].Lost == 100 })
	time.Sleep(100 * time.Millisecond)
	if lines := f.lines(); len(lines) != 101 {
		t.Errorf("%d records while nothing is taken: each record of a loss would be lost, too", len(lines))
	}
	ln, err := net.Listen("tcp", addr)
	check(t, err)
	defer ln.Close()
	f.wait("the record of the loss", func() bool { return len(f.lines()) > 101 })
	if last := f.lines()[101]; !strings.Contains(last, `"count":100,"from":2,"to":101}`) {
		t.Errorf("it is %s", last)
	}
	f.wait("its arrival", func() bool { return f.shipper.Status()[0].Sent == 2 })
	f.stop(time.Second)
	if n := len(f.lines()); n != 102 {
		t.Errorf("%d records at the end", n)
	}
}
