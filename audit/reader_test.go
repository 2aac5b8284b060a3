package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
)

// at is a time on the clock of the reader's tests.
func at(second int) time.Time { return testTime.Add(time.Duration(second) * time.Second) }

// writeEvents writes one block for each list of events.
func writeEvents(t *testing.T, o Options, blocks ...[]Event) {
	t.Helper()
	for _, events := range blocks {
		l := mustOpen(t, o)
		if err := l.Record(events...); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
	}
}

func TestFilter(t *testing.T) {
	dir := t.TempDir()
	writeEvents(t, Options{Dir: dir, Level: Frames}, []Event{
		{Time: at(1), Event: ConnOpen, Conn: "a", Client: netip.MustParseAddrPort("10.0.0.1:1000"), SNI: "Chat.Example.com"},
		{Time: at(2), Event: WSOpen, Conn: "a", Client: netip.MustParseAddrPort("[::ffff:10.0.0.1]:1000"), Host: "chat.example.com:8443"},
		{Time: at(3), Event: WSMessage, Conn: "a", Rules: []string{"r1", "r2"}, Action: "log", Host: "chat.example.com"},
	}, []Event{
		{Time: at(4), Event: WSMessage, Conn: "b\n", Shadow: []string{"r2"}, Action: "allow", Host: "example.com."},
		{Time: at(5), Event: WSClose, Conn: "b\n", Client: netip.MustParseAddrPort("[2001:db8::7]:9"), Host: "[2001:db8::1]:443"},
		{Time: at(6), Event: HTTPRequest, Conn: "c", Reason: `"action":"log" a b r1`, Host: "deep.chat.example.com"},
	})
	tests := []struct {
		f    Filter
		want []uint64
	}{
		{Filter{}, []uint64{1, 2, 3, 4, 5, 6}},
		{Filter{From: at(3)}, []uint64{3, 4, 5, 6}},
		{Filter{To: at(3)}, []uint64{1, 2}},
		{Filter{From: at(3), To: at(5)}, []uint64{3, 4}},
		{Filter{From: at(9)}, nil},
		{Filter{Host: "chat.example.com"}, []uint64{1, 2, 3}},
		{Filter{Host: "CHAT.example.COM"}, []uint64{1, 2, 3}},
		{Filter{Host: "*.example.com"}, []uint64{1, 2, 3, 6}},
		{Filter{Host: "**.example.com"}, []uint64{1, 2, 3, 6}},
		{Filter{Host: "*.chat.example.com"}, []uint64{6}},
		{Filter{Host: "example.com"}, []uint64{4}},
		{Filter{Host: "2001:db8::1"}, []uint64{5}},
		{Filter{Host: "*"}, []uint64{1, 2, 3, 4, 5, 6}},
		{Filter{Client: "10.0.0.1"}, []uint64{1, 2}},
		{Filter{Client: "10.0.0.0/8"}, []uint64{1, 2}},
		{Filter{Client: "2001:db8::/32"}, []uint64{5}},
		{Filter{Client: "::ffff:10.0.0.1"}, []uint64{1, 2}},
		{Filter{Rule: "r1"}, []uint64{3}},
		{Filter{Rule: "r2"}, []uint64{3, 4}},
		{Filter{Rule: "r"}, nil},
		{Filter{Event: "ws.*"}, []uint64{2, 3, 4, 5}},
		{Filter{Event: "ws.message"}, []uint64{3, 4}},
		{Filter{Event: "*.open"}, []uint64{1, 2}},
		{Filter{Action: "log"}, []uint64{3}},
		{Filter{Conn: "b\n"}, []uint64{4, 5}},
		{Filter{Conn: "b"}, nil},
		{Filter{Conn: "a", Event: "ws.*", Rule: "r2"}, []uint64{3}},
	}
	for _, tt := range tests {
		var got []uint64
		for _, rec := range mustRead(t, dir, tt.f) {
			got = append(got, rec.Seq)
			if !bytes.HasPrefix(rec.Raw, fmt.Appendf(nil, `{"seq":%d,`, rec.Seq)) || rec.Raw[len(rec.Raw)-1] != '}' {
				t.Errorf("raw record %s", rec.Raw)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v: got %v, want %v", tt.f, got, tt.want)
		}
	}
}

func TestNewReaderRefuses(t *testing.T) {
	dir := t.TempDir()
	writeEvents(t, Options{Dir: dir}, []Event{{Event: "e"}})
	tests := []struct {
		dir, want string
		f         Filter
	}{
		{dir, `bad event pattern "ws.["`, Filter{Event: "ws.["}},
		{dir, `bad client "10.0.0.1:80"`, Filter{Client: "10.0.0.1:80"}},
		{dir, `bad host "*ample.com"`, Filter{Host: "*ample.com"}},
		{dir, `bad host "a.*.com"`, Filter{Host: "a.*.com"}},
		{t.TempDir(), "holds no audit log: no file log-id", Filter{}},
		{filepath.Join(dir, "no"), "holds no audit log", Filter{}},
	}
	for _, tt := range tests {
		if _, err := NewReader(tt.dir, tt.f); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.f, err)
		}
	}
}

// A block outside the time asked for is passed over by its header: its bytes
// are not even looked at.
func TestTimeSkipsBlocks(t *testing.T) {
	dir := t.TempDir()
	_, offsets := makeLog(t, dir, 1)
	writeEvents(t, Options{Dir: dir}, []Event{{Time: at(100), Event: "later"}})
	b, err := os.ReadFile(filepath.Join(dir, "seg", segmentName(0)))
	if err != nil {
		t.Fatal(err)
	}
	b[offsets[0]+headerFrame+4] ^= 1
	writeSegment(t, dir, 0, b)
	if recs := mustRead(t, dir, Filter{From: at(50)}); len(recs) != 1 || recs[0].Event != "later" {
		t.Errorf("got %v", recs)
	}
}

// Damage is told with its place, once, and what is sound is still read.
func TestReadDamage(t *testing.T) {
	dir := t.TempDir()
	b, offsets := makeLog(t, dir, 3)
	reseal := func(b []byte, off int64, change func(h *header)) {
		h, _, err := consumeHeader(b[off:])
		if err != nil {
			t.Fatal(err)
		}
		change(&h)
		h.append(b[:off])
	}
	tests := []struct {
		name   string
		change func(b []byte) []byte
		want   string
	}{
		{"none", func(b []byte) []byte { return b }, "1 2 3"},
		{"stored bytes", func(b []byte) []byte { b[offsets[1]+headerFrame] ^= 1; return b },
			"1 seg/000000000000.jsonl.zst: offset %d: the stored bytes do not match their hash; 3"},
		{"header", func(b []byte) []byte { b[offsets[1]+headerFrame-1] ^= 1; return b },
			"1 seg/000000000000.jsonl.zst: offset %d: block header does not match its checksum; 3"},
		{"seq", func(b []byte) []byte { reseal(b, offsets[1], func(h *header) { h.FirstSeq = 9 }); return b },
			"1 seg/000000000000.jsonl.zst: offset %d: record 9 bears seq 2; 3"},
		{"count", func(b []byte) []byte { reseal(b, offsets[1], func(h *header) { h.Count = 2 }); return b },
			"1 seg/000000000000.jsonl.zst: offset %d: the records are not the 2 in 83 bytes of the header; 3"},
		{"length", func(b []byte) []byte { reseal(b, offsets[1], func(h *header) { h.RawLen++ }); return b },
			"1 seg/000000000000.jsonl.zst: offset %d: the records are not the 1 in 84 bytes of the header; 3"},
		{"bomb", func(b []byte) []byte { reseal(b, offsets[1], func(h *header) { h.RawLen-- }); return b },
			"1 seg/000000000000.jsonl.zst: offset %d: block that does not decompress: decompressed size exceeds configured limit; 3"},
		{"last block cut short", func(b []byte) []byte { return b[:len(b)-1] }, "1 2"},
		{"empty", func(b []byte) []byte { return nil }, ""},
		{"half a header", func(b []byte) []byte { return b[:70] }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			writeSegment(t, dir, 0, tt.change(bytes.Clone(b)))
			r, err := NewReader(dir, Filter{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for rec, err := range r.Records() {
				if err != nil {
					got = append(got, err.Error()+";")
				} else {
					got = append(got, fmt.Sprint(rec.Code))
				}
			}
			want := tt.want
			if strings.Contains(want, "%") {
				want = fmt.Sprintf(want, offsets[1])
			}
			if got := strings.Join(got, " "); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			// Backwards there is the same to be had.
			last, err := r.Last(10)
			if damaged := strings.Contains(want, ";"); damaged != (err != nil) || len(last)+strings.Count(want, ";") != len(got) {
				t.Errorf("Last: %d records, %v", len(last), err)
			}
		})
	}
	t.Run("cut short before the last segment", func(t *testing.T) {
		writeSegment(t, dir, 0, b[:len(b)-1])
		writeSegment(t, dir, 3, nil)
		r, err := NewReader(dir, Filter{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Last(10)
		var damage *DamageError
		if !errors.As(err, &damage) || damage.Offset != offsets[2] || !errors.Is(err, errShort) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		r, err := NewReader(dir, Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "seg")); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range r.Follow(t.Context()) {
			if n++; !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v", err)
			}
		}
		if n != 1 {
			t.Errorf("%d errors", n)
		}
	})
}

func TestLast(t *testing.T) {
	dir := t.TempDir()
	var blocks [][]Event
	for i := range 10 {
		blocks = append(blocks, []Event{{Time: at(i), Event: "a", Code: 2*i + 1}, {Time: at(i), Event: "b", Code: 2*i + 2}})
	}
	writeEvents(t, Options{Dir: dir, SegmentSize: 600}, blocks...)
	if n := len(segmentFiles(t, dir)); n < 3 {
		t.Fatalf("%d segments", n)
	}
	tests := []struct {
		n    int
		f    Filter
		want []int
	}{
		{0, Filter{}, nil},
		{1, Filter{}, []int{20}},
		{3, Filter{}, []int{18, 19, 20}},
		{3, Filter{Event: "a"}, []int{15, 17, 19}},
		{3, Filter{Event: "a", To: at(2)}, []int{1, 3}},
		{99, Filter{Event: "b", From: at(8)}, []int{18, 20}},
	}
	for _, tt := range tests {
		r, err := NewReader(dir, tt.f)
		if err != nil {
			t.Fatal(err)
		}
		last, err := r.Last(tt.n)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, rec := range last {
			got = append(got, rec.Code)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("last %d of %+v: got %v, want %v", tt.n, tt.f, got, tt.want)
		}
	}
}

// Last, then Follow: each record once, over blocks and segments, while the log
// is being written.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := mustOpen(t, Options{Dir: dir, SegmentSize: 1000})
		record := func(code int) {
			if err := l.Record(Event{Event: "a", Code: code}, Event{Event: "b", Code: code}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(flushAfter + time.Millisecond)
		}
		record(1)
		record(2)
		r, err := NewReader(dir, Filter{Event: "a"})
		if err != nil {
			t.Fatal(err)
		}
		last, err := r.Last(1)
		if err != nil || len(last) != 1 || last[0].Code != 2 {
			t.Fatalf("got %v, %v", last, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan int)
		go func() {
			defer close(got)
			for rec, err := range r.Follow(ctx) {
				if err != nil {
					t.Error(err)
				}
				got <- rec.Code
			}
		}()
		for code := 3; code < 20; code++ {
			record(code)
			if rec := <-got; rec != code {
				t.Fatalf("got %d, want %d", rec, code)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		cancel()
		if rec, ok := <-got; ok {
			t.Errorf("and %d", rec)
		}
		mustClose(t, l)
		if n := len(segmentFiles(t, dir)); n < 2 {
			t.Errorf("%d segments", n)
		}
	})
}

// A loop that breaks off may be followed by another from the beginning.
func TestRecordsStops(t *testing.T) {
	dir := t.TempDir()
	makeLog(t, dir, 3)
	r, err := NewReader(dir, Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for rec, err := range r.Records() {
			if err != nil || rec.Code != 1 {
				t.Fatalf("got %s, %v", rec.Raw, err)
			}
			break
		}
	}
}

// Whatever stands in a segment, reading ends, without a panic, and a record
// that comes out is one of ours.
func FuzzReader(f *testing.F) {
	id := logID{1, 2, 3} // each process of the fuzzer must have the same
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	c, blk := new(chunk), new(block)
	c.add(&Event{Time: testTime, Event: ConnOpen, Code: 1})
	c.add(&Event{Time: testTime, Event: ConnClose, Code: 2})
	for i := range c.recs {
		line, ns := c.peek(i)
		blk.add(uint64(i+1), line, ns)
	}
	b := blk.encode(nil, enc, id, 0)
	f.Add(b)
	f.Add(append(b[:200:200], b...))
	f.Add(slices.Concat(b, make([]byte, 50), b))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "seg"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, logIDFile), fmt.Appendf(nil, "%x\n", id), 0o600); err != nil {
			t.Fatal(err)
		}
		writeSegment(t, dir, 0, b)
		r, err := NewReader(dir, Filter{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rec, err := range r.Records() {
			if n++; n > 2*len(b)+2 {
				t.Fatal("no end")
			}
			if err == nil && rec.Event != ConnOpen && rec.Event != ConnClose {
				t.Fatalf("a record out of nothing: %s", rec.Raw)
			}
		}
	})
}
