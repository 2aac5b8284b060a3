package audit

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makeLog writes a closed log of n blocks, each with one record whose code is
// the number of the block plus one, and returns the bytes of its one segment
// and the offsets of the blocks. Its tree is as if the gateway had been killed
// before the first checkpoint over a block.
func makeLog(t *testing.T, dir string, n int) (b []byte, offsets []int64) {
	t.Helper()
	for i := range n {
		l := mustOpen(t, Options{Dir: dir})
		if err := l.Record(Event{Time: testTime, Event: GatewayStart, Code: i + 1}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
	}
	uncover(t, dir)
	b, err := os.ReadFile(filepath.Join(dir, "seg", segmentName(0)))
	if err != nil {
		t.Fatal(err)
	}
	id, err := readLogID(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSource(dir, segmentName(0), id)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for b, err := range s.blocks(0) {
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, b.off)
	}
	return b, append(offsets, s.size)
}

// uncover makes the tree as it was before the first block.
func uncover(t *testing.T, dir string) {
	t.Helper()
	id, err := readLogID(dir)
	if err != nil {
		t.Fatal(err)
	}
	signer, _, err := readKey(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := signCheckpoint(Checkpoint{Origin: id.origin(), Root: new(tree).root()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, checkpointFile), msg, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, historyFile)); err != nil {
		t.Fatal(err)
	}
}

func writeSegment(t *testing.T, dir string, number uint64, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "seg", segmentName(number)), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// reopen opens and closes the log with one more record and returns all codes,
// a gap record as its reason.
func reopen(t *testing.T, dir string) string {
	t.Helper()
	l := mustOpen(t, Options{Dir: dir})
	if err := l.Record(Event{Event: GatewayStop, Code: 99}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	var got []string
	r, err := NewReader(dir, Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range r.Records() {
		switch {
		case err != nil:
			got = append(got, "error")
		case rec.Event == AuditGap:
			got = append(got, rec.Reason)
		default:
			got = append(got, fmt.Sprint(rec.Code))
		}
	}
	return strings.Join(got, " ")
}

// A crash can leave any length of the last write.
func TestTornTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, offsets := makeLog(t, dir, 3)
	id, err := readLogID(dir)
	if err != nil {
		t.Fatal(err)
	}
	for size := offsets[1]; size <= offsets[3]; size++ {
		writeSegment(t, dir, 0, b[:size])
		uncover(t, dir)
		blocks, want := 1, "1"
		if size >= offsets[2] {
			blocks, want = 2, "1 2"
		}
		if size == offsets[3] {
			blocks, want = 3, "1 2 3"
		}
		torn := size - offsets[blocks]
		if size%50 > 0 && torn > 0 {
			r, err := resume(dir, id, 0, nil)
			if err != nil || r.number != uint64(blocks) || r.seq != uint64(blocks+1) || r.size != offsets[blocks] || r.cut != torn || r.left != nil {
				t.Fatalf("cut at %d: %+v, %v", size, r, err)
			}
			continue
		}
		if torn > 0 {
			want += fmt.Sprintf(" torn tail of %d bytes after a crash", torn)
		}
		if got := reopen(t, dir); got != want+" 99" {
			t.Fatalf("cut at %d: %s, want %s", size, got, want)
		}
		mustRead(t, dir, Filter{})
	}
}

func TestRecovery(t *testing.T) {
	const left = "damage left as it is: seg/000000000000.jsonl.zst: offset %d: "
	tests := []struct {
		name   string
		change func(b []byte, o []int64) []byte
		want   string
		number func(o []int64) int64 // in want
	}{
		{"zeros behind the end", func(b []byte, o []int64) []byte { return append(b, make([]byte, 300)...) },
			"1 2 3 torn tail of %d bytes after a crash 99", func(o []int64) int64 { return 300 }},
		{"last block lost its data", func(b []byte, o []int64) []byte { clear(b[o[2]+headerFrame:]); return b },
			"1 2 torn tail of %d bytes after a crash 99", func(o []int64) int64 { return o[3] - o[2] }},
		{"last block is zero", func(b []byte, o []int64) []byte { clear(b[o[2]:]); return b },
			"1 2 torn tail of %d bytes after a crash 99", func(o []int64) int64 { return o[3] - o[2] }},
		{"nothing but a torn block", func(b []byte, o []int64) []byte { return b[:o[1]-1] },
			"torn tail of %d bytes after a crash 99", func(o []int64) int64 { return o[1] - 1 }},
		{"damage with whole blocks behind it", func(b []byte, o []int64) []byte { b[o[1]+headerFrame+5] ^= 1; return b },
			"1 error 3 " + left + "the stored bytes do not match their hash 99", func(o []int64) int64 { return o[1] }},
		{"damaged header with a whole block behind it", func(b []byte, o []int64) []byte { b[o[1]+40] ^= 1; return b },
			"1 error 3 " + left + "block header does not match its checksum 99", func(o []int64) int64 { return o[1] }},
		{"bytes missing in the middle", func(b []byte, o []int64) []byte { return slices.Delete(b, int(o[1])+10, int(o[1])+20) },
			"1 error 3 " + left + "no block header here 99", func(o []int64) int64 { return o[1] }},
		{"foreign bytes behind the end", func(b []byte, o []int64) []byte { return append(b, "something else"...) },
			"1 2 3 error " + left + "no block header here 99", func(o []int64) int64 { return o[3] }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			b, offsets := makeLog(t, dir, 3)
			changed := tt.change(bytes.Clone(b), offsets)
			writeSegment(t, dir, 0, changed)
			want := fmt.Sprintf(tt.want, tt.number(offsets))
			if got := reopen(t, dir); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if strings.Contains(tt.want, "left as it is") {
				after, err := os.ReadFile(filepath.Join(dir, "seg", segmentName(0)))
				if err != nil || !bytes.Equal(after, changed) {
					t.Errorf("the damaged segment was changed, %v", err)
				}
			}
		})
	}
}

// What is not ours is never rewritten.
func TestRecoveryRefuses(t *testing.T) {
	newer := func(b []byte) []byte { b = bytes.Clone(b); b[8+7] = '2'; return b }
	tests := []struct {
		name, want string
		number     uint64 // of the segment that is changed
		change     func(b []byte) []byte
	}{
		{"newer format", "newer framegate", 0, newer},
		{"another kind of file", "seg/000000000000.jsonl.zst: offset 0: no block header here", 0,
			func([]byte) []byte { return []byte("not a log, but a file of somebody who took the name") }},
		{"another log", "offset 0: block of another log", 0, func([]byte) []byte {
			b, _ := makeLog(t, t.TempDir(), 1)
			return b
		}},
		{"missing blocks", "should begin with block 1: blocks before it are missing", 7, func([]byte) []byte { return nil }},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		b, _ := makeLog(t, dir, 1)
		changed := tt.change(b)
		writeSegment(t, dir, tt.number, changed)
		l, err := Open(Options{Dir: dir})
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		after, err := os.ReadFile(filepath.Join(dir, "seg", segmentName(tt.number)))
		if err != nil || !bytes.Equal(after, changed) {
			t.Errorf("%s: the file was changed, %v", tt.name, err)
		}
	}
}

// A gateway is killed while it writes, three times over: what is in the file is
// a prefix of what it recorded, seq goes on, and each restart says what happened.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seen := 0
	for round := range 3 {
		cmd := exec.Command(os.Args[0], dir)
		cmd.Env = append(os.Environ(), "AUDIT_TEST_CHILD=crash")
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 50 * (round + 1) {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		recs := mustRead(t, dir, Filter{})
		if len(recs) <= seen {
			t.Fatalf("round %d: %d records, %d before", round, len(recs), seen)
		}
		if round > 0 && (recs[seen].Event != AuditGap || !strings.Contains(recs[seen].Reason, "was not closed")) {
			t.Errorf("round %d begins with %s", round, recs[seen].Raw)
		}
		code := 0
		for _, rec := range recs[seen:] {
			if rec.Event == ConnOpen {
				if code++; rec.Code != code {
					t.Fatalf("round %d: record %d where %d should be", round, rec.Code, code)
				}
			}
		}
		if code == 0 {
			t.Errorf("round %d: nothing in the file", round)
		}
		seen = len(recs)
	}
}

// crashChild records for ever and prints a line a record.
func crashChild(dir string) int {
	l, err := Open(Options{Dir: dir, SegmentSize: 1 << 20, Logger: quiet()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for i := 1; ; i++ {
		e := benchEvent(i)
		e.Event, e.Code = ConnOpen, i
		if err := l.Record(e); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if i%100 == 0 {
			fmt.Println(i)
		}
	}
}
