package audit

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// bytesRead is what this process has read by system calls so far.
func bytesRead(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if _, err := fmt.Sscanf(string(b), "rchar: %d\n", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A dayLog is a log of a hundred days that are alike, but for a host, a client,
// a rule and the connections that one day alone has.
type dayLog struct {
	dir  string
	size int64 // of the segments
	n    int   // records
}

const theDay = 42

func day(i int) time.Time { return testTime.Add(time.Duration(i) * 24 * time.Hour) }

func dayEvent(i, n int) Event {
	perDay := n / 100
	d, k := i/perDay, i%perDay
	e := benchEvent(i)
	e.Time = day(d).Add(24 * time.Hour / time.Duration(perDay) * time.Duration(k))
	e.Conn = fmt.Sprintf("d%d-%d", d, k/10)
	if d == theDay && k%50 == 0 {
		e.Host, e.SNI = "rare.example.net", "rare.example.net"
		e.Client = netip.MustParseAddrPort("192.0.2.77:1000")
		e.Rules = []string{"rare"}
	}
	return e
}

func (l *dayLog) measure(t testing.TB) {
	t.Helper()
	names, err := segments(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(l.dir, segmentDir, name))
		if err != nil {
			t.Fatal(err)
		}
		l.size += info.Size()
	}
}

// busyLog has full blocks.
func busyLog(t testing.TB, n int, segment int64) *dayLog {
	l := &dayLog{dir: t.TempDir(), n: n}
	log, err := Open(Options{Dir: l.dir, SegmentSize: segment})
	if err != nil {
		t.Fatal(err)
	}
	var batch []Event
	for i := range n {
		if batch = append(batch, dayEvent(i, n)); len(batch) == 64 || i == n-1 {
			if err := log.Record(batch...); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	l.measure(t)
	return l
}

// quietLog has one record in a block: the headers are a third of it.
func quietLog(t *testing.T, n int, segment int64) *dayLog {
	l := &dayLog{dir: t.TempDir(), n: n}
	synctest.Test(t, func(t *testing.T) {
		log := mustOpen(t, Options{Dir: l.dir, SegmentSize: segment})
		for i := range n {
			if err := log.Record(dayEvent(i, n)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(flushAfter + time.Millisecond)
		}
		mustClose(t, log)
	})
	l.measure(t)
	return l
}

// query counts the records and the bytes that were read for them.
func (l *dayLog) query(t testing.TB, f Filter, noIndex bool) (records int, read int64) {
	t.Helper()
	r, err := NewReader(l.dir, f)
	if err != nil {
		t.Fatal(err)
	}
	r.NoIndex = noIndex
	before := bytesRead(t)
	for _, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		records++
	}
	return records, bytesRead(t) - before
}

// One day out of a hundred costs about a hundredth of the log to read, and so
// does what only that day has.
func TestIndexReadsAHundredth(t *testing.T) {
	busy := 100_000
	if raceDetector { // it makes JSON five times as dear
		busy = 60_000
	}
	logs := map[string]*dayLog{
		"busy":  busyLog(t, busy, 256<<10),
		"quiet": quietLog(t, 2_000, 32<<10),
	}
	for name, l := range logs {
		full, all := l.query(t, Filter{}, true)
		if full != l.n || all < l.size {
			t.Fatalf("%s: %d records of %d, %d bytes of %d", name, full, l.n, all, l.size)
		}
		mustIndex(t, l.dir, false)
		perDay := l.n / 100
		rare := (perDay + 49) / 50
		for _, tt := range []struct {
			what string
			f    Filter
			want int
		}{
			{"a day", Filter{From: day(theDay), To: day(theDay + 1)}, perDay},
			{"a host", Filter{Host: "rare.example.net"}, rare},
			{"hosts", Filter{Host: "*.example.net"}, rare},
			{"a client", Filter{Client: "192.0.2.77"}, rare},
			{"a rule", Filter{Rule: "rare"}, rare},
			{"a connection", Filter{Conn: "d" + strconv.Itoa(theDay) + "-1"}, 10},
			{"a host of a day", Filter{Host: "rare.example.net", From: day(theDay), To: day(theDay + 1)}, rare},
		} {
			got, with := l.query(t, tt.f, false)
			if got != tt.want {
				t.Errorf("%s: %s: %d records, want %d", name, tt.what, got, tt.want)
			}
			t.Logf("%s: %s: %.2f%% of %d bytes", name, tt.what, 100*float64(with)/float64(l.size), l.size)
			if tt.want == perDay {
				_, without := l.query(t, tt.f, true)
				t.Logf("%s: %s: without the index %.2f%%", name, tt.what, 100*float64(without)/float64(l.size))
			}
			limit := l.size / 25
			if len(tt.f.Host+tt.f.Client+tt.f.Rule+tt.f.Conn) > 0 && tt.f.From.IsZero() {
				limit = l.size / 5 // all filters of all blocks
			}
			if with > limit {
				t.Errorf("%s: %s: read %d bytes of %d", name, tt.what, with, l.size)
			}
		}
	}
}

// A day of a hundred beside the whole log.
func BenchmarkQuery(b *testing.B) {
	l := busyLog(b, 1_000_000, 1<<20)
	mustIndex(b, l.dir, false)
	dayFilter := Filter{From: day(theDay), To: day(theDay + 1)}
	for _, bb := range []struct {
		name    string
		f       Filter
		noIndex bool
	}{
		{"all", Filter{}, true},
		{"day/headers", dayFilter, true},
		{"day/index", dayFilter, false},
		{"conn/scan", Filter{Conn: "d42-1"}, true},
		{"conn/index", Filter{Conn: "d42-1"}, false},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var records int
			var read int64
			for b.Loop() {
				records, read = l.query(b, bb.f, bb.noIndex)
			}
			b.ReportMetric(float64(read), "read-bytes")
			b.ReportMetric(100*float64(read)/float64(l.size), "%-of-log")
			b.ReportMetric(float64(records), "records")
		})
	}
}

func BenchmarkIndex(b *testing.B) {
	l := busyLog(b, 200_000, 1<<20)
	var index int64
	for b.Loop() {
		index = 0
		for _, s := range mustIndex(b, l.dir, true) {
			index += s.Index
		}
	}
	b.ReportMetric(float64(l.n*b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(100*float64(index)/float64(l.size), "%-of-log")
}
