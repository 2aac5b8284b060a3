package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
)

// TestMain lets the tests run this binary again as a gateway that can be killed.
func TestMain(m *testing.M) {
	if child := os.Getenv("AUDIT_TEST_CHILD"); child != "" {
		os.Exit(children[child](os.Args[1]))
	}
	os.Exit(m.Run())
}

var children = map[string]func(dir string) int{"crash": crashChild, "full": fullChild, "steps": stepsChild, "keep": keepChild,
	"hold": holdChild, "succeed": succeedChild, "precede": precedeChild}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func mustOpen(t *testing.T, o Options) *Log {
	t.Helper()
	tries := 0
	if o.Logger == nil {
		o.Logger = quiet()
	}
	l, err := Open(o)
	// A process that a parallel test is about to start has the locks of this one
	// until its exec.
	for held := new(HeldError); errors.As(err, &held) && tries < 100; tries++ {
		time.Sleep(10 * time.Millisecond)
		l, err = Open(o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustClose(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// mustRead reads a whole log and checks that seq has no hole.
func mustRead(t *testing.T, dir string, f Filter) []Record {
	t.Helper()
	r, err := NewReader(dir, f)
	if err != nil {
		t.Fatal(err)
	}
	var recs []Record
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if f == (Filter{}) && rec.Seq != uint64(len(recs)+1) {
			t.Fatalf("record %d has seq %d", len(recs)+1, rec.Seq)
		}
		recs = append(recs, rec)
	}
	return recs
}

// zstdcat is what a person without framegate sees.
func zstdcat(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "seg", "*.jsonl.zst"))
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d, err := zstd.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&all, d); err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	if path, err := exec.LookPath("zstdcat"); err == nil {
		out, err := exec.Command(path, names...).CombinedOutput()
		if err != nil || !bytes.Equal(out, all.Bytes()) {
			t.Fatalf("zstdcat: %v, %d bytes, want %d", err, len(out), all.Len())
		}
	}
	return all.String()
}

func segmentFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, Options{Dir: dir})
	e := benchEvent(1)
	for i := range 3 {
		if err := l.Record(Event{Time: testTime, Event: ConnOpen, Conn: fmt.Sprint(i)}, e); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)

	var want strings.Builder
	for i := range 3 {
		open := Event{Time: testTime, Event: ConnOpen, Conn: fmt.Sprint(i)}
		fmt.Fprintf(&want, "%s\n%s\n", open.AppendJSON(nil, uint64(2*i+1)), e.AppendJSON(nil, uint64(2*i+2)))
	}
	if got := zstdcat(t, dir); got != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got, want.String())
	}
	for path, mode := range map[string]os.FileMode{
		".": 0o700, "seg": 0o700, "log-id": 0o600, "seg/000000000000.jsonl.zst": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if err := l.Record(e); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// Everyone records at once: nothing is lost, and each one's order is kept.
func TestRecordConcurrently(t *testing.T) {
	const callers, calls = 8, 400
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 32 << 10})
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			batch := make([]Event, 3) // reused, as a relay does
			for i := range calls {
				for j := range batch {
					batch[j] = Event{Event: WSOpen, Conn: fmt.Sprint(c), Code: 1 + i*len(batch) + j}
				}
				if err := l.Record(batch...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustClose(t, l)
	next := map[string]int{}
	for _, rec := range mustRead(t, dir, Filter{}) {
		if rec.Code != next[rec.Conn]+1 {
			t.Fatalf("caller %s: %d after %d", rec.Conn, rec.Code, next[rec.Conn])
		}
		next[rec.Conn] = rec.Code
	}
	for c := range callers {
		if next[fmt.Sprint(c)] != 3*calls {
			t.Errorf("caller %d: %d records", c, next[fmt.Sprint(c)])
		}
	}
	if n := len(segmentFiles(t, dir)); n < 2 {
		t.Errorf("%d segments", n)
	}
	zstdcat(t, dir)
}

// What was accepted before Close is in the file, whoever calls it and when.
func TestCloseWhileRecording(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	accepted := make([]int, 4)
	started := make(chan bool, len(accepted))
	var wg sync.WaitGroup
	for c := range accepted {
		wg.Go(func() {
			for i := 0; ; i++ {
				if err := l.Record(Event{Event: ConnOpen, Conn: fmt.Sprint(c)}); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
				accepted[c]++
				if i == 100 {
					started <- true
				}
			}
		})
	}
	for range accepted {
		<-started
	}
	mustClose(t, l)
	wg.Wait()
	want := 0
	for _, n := range accepted {
		want += n
	}
	if got := len(mustRead(t, dir, Filter{})); got != want {
		t.Errorf("%d records, accepted were %d", got, want)
	}
}

func TestRecordLevels(t *testing.T) {
	for l := Connections; l <= Frames; l++ {
		dir := t.TempDir()
		log := mustOpen(t, Options{Dir: dir, Level: l})
		if err := log.Record(Event{Event: WSControl}, Event{Event: WSMessage}, Event{Event: WSViolation}, Event{Event: WSClose}); err != nil {
			t.Fatal(err)
		}
		if err := log.Record(Event{Event: WSControl}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, log)
		want := map[Level]int{Connections: 1, Violations: 2, Messages: 3, Frames: 5}[l]
		if got := len(mustRead(t, dir, Filter{})); got != want {
			t.Errorf("%v: %d records, want %d", l, got, want)
		}
	}
}

func TestFlushAfter50ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := mustOpen(t, Options{Dir: dir})
		defer mustClose(t, l)
		record := func() {
			if err := l.Record(Event{Event: ConnOpen}); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(after time.Duration, want int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := len(mustRead(t, dir, Filter{})); got != want {
				t.Fatalf("%d records in the file, want %d", got, want)
			}
		}
		record()
		expect(30*time.Millisecond, 0)
		record() // does not put the first one off
		expect(19*time.Millisecond, 0)
		expect(2*time.Millisecond, 2)
		expect(time.Hour, 2)
		record()
		expect(49*time.Millisecond, 2)
		expect(2*time.Millisecond, 3)
	})
}

// An fdatasync a second while there is something to sync, none after.
func TestSyncEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{}
		l := mustOpen(t, Options{Dir: t.TempDir(), openSegment: d.open})
		for i := range 30 {
			if err := l.Record(Event{Event: ConnOpen}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if n := d.count(&d.syncs); n > i/10+1 || n < (i-1)/10 {
				t.Fatalf("%d syncs after %d ms", n, (i+1)*100)
			}
		}
		time.Sleep(10 * time.Second)
		n := d.count(&d.syncs)
		time.Sleep(time.Hour)
		if d.count(&d.syncs) != n {
			t.Error("an idle log is synced")
		}
		mustClose(t, l)
	})
}

func TestBlocksStayInTheirLimits(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 1 << 20})
	small := slices.Repeat([]Event{{Event: "e"}}, 2*maxCount)
	wide := slices.Repeat([]Event{{Event: "e", Reason: strings.Repeat("x", 10<<10)}}, 100)
	huge := Event{Event: "e", Msg: &Message{Payload: bytes.Repeat([]byte("\x00"), 1<<20)}}
	for _, batch := range [][]Event{small, wide, {huge}, small, {huge, huge}, wide} {
		if err := l.Record(batch...); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
	if got, want := len(mustRead(t, dir, Filter{})), 2*len(small)+2*len(wide)+3; got != want {
		t.Errorf("%d records, want %d", got, want)
	}
	id, err := readLogID(dir)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := newDecoder()
	if err != nil {
		t.Fatal(err)
	}
	number, alone := uint64(0), 0
	for _, name := range segmentFiles(t, dir) {
		s, err := openSource(dir, name, id)
		if err != nil {
			t.Fatal(err)
		}
		if name != segmentName(number) {
			t.Errorf("%s begins with block %d", name, number)
		}
		for b, err := range s.blocks(0) {
			if err != nil {
				t.Fatal(err)
			}
			if b.Number != number {
				t.Errorf("block %d where %d should be", b.Number, number)
			}
			number++
			if b.RawLen > maxRaw {
				alone++
				if b.Count != 1 {
					t.Errorf("%d bytes in %d records", b.RawLen, b.Count)
				}
			}
			raw, err := s.lines(b, dec)
			if err != nil {
				t.Fatal(err)
			}
			if b.Root != recordsRoot(raw) {
				t.Errorf("block %d has a wrong root", b.Number)
			}
		}
		s.close()
	}
	if alone != 3 {
		t.Errorf("%d blocks of one long record", alone)
	}
}

// A time that a header cannot hold widens the block, and is still found.
func TestTimesOutOfRange(t *testing.T) {
	dir := t.TempDir()
	early, late := time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)
	writeEvents(t, Options{Dir: dir}, []Event{{Time: early, Event: "early"}}, []Event{{Time: late, Event: "late"}})
	for _, tt := range []struct {
		f    Filter
		want string
	}{
		{Filter{To: early.AddDate(1, 0, 0)}, "early"},
		{Filter{From: late}, "late"},
	} {
		if recs := mustRead(t, dir, tt.f); len(recs) != 1 || recs[0].Event != tt.want {
			t.Errorf("%v: got %v", tt.f, recs)
		}
	}
}

func TestOneWriter(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir+" is being written by another gateway") {
		t.Errorf("second writer: %v", err)
	}
	mustClose(t, l)
	mustClose(t, mustOpen(t, Options{Dir: dir}))
}

func TestOpenRefuses(t *testing.T) {
	under := func(name, content string) string {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	tests := []struct {
		name, want string
		o          Options
	}{
		{"level", "unknown audit level", Options{Dir: t.TempDir(), Level: 9}},
		{"on_failure", `unknown audit on_failure "ignore": expected block or gap`, Options{Dir: t.TempDir(), OnFailure: "ignore"}},
		{"segment size", "negative segment size", Options{Dir: t.TempDir(), SegmentSize: -1}},
		{"a file", "not a directory", Options{Dir: filepath.Join(under("f", ""), "f")}},
		{"segments without log-id", "has segments but no file log-id", Options{Dir: under("seg/000000000000.jsonl.zst", "")}},
		{"empty log-id", "expected 32 hexadecimal digits", Options{Dir: under("log-id", "")}},
		{"bad log-id", "expected 32 hexadecimal digits", Options{Dir: under("log-id", strings.Repeat("x", 32))}},
		{"long log-id", "expected 32 hexadecimal digits", Options{Dir: under("log-id", strings.Repeat("a", 34))}},
	}
	for _, tt := range tests {
		l, err := Open(tt.o)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Open, close, open: one log goes on, and a clean end leaves no gap record.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, Options{Dir: dir}))
	if names := segmentFiles(t, dir); names != nil {
		t.Errorf("segments with nothing in them: %v", names) // zstdcat would refuse them
	}
	for i := range 5 {
		l := mustOpen(t, Options{Dir: dir, SegmentSize: 1})
		if i != 2 { // a log that nothing was written to
			if err := l.Record(Event{Event: GatewayStart, Code: i + 1}); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, l)
	}
	var codes []int
	for _, rec := range mustRead(t, dir, Filter{}) {
		codes = append(codes, rec.Code)
	}
	if !slices.Equal(codes, []int{1, 2, 4, 5}) {
		t.Errorf("got %v", codes)
	}
}
