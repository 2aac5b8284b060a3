package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// expiryMutations are what can be done without its key to a closed log from
// which segments were removed.
var expiryMutations = []struct {
	name  string
	fault Fault
	do    func(t *testing.T, dir string, removed map[string][]byte)
}{
	{"as it is", "", func(*testing.T, string, map[string][]byte) {}},
	{"one segment more deleted", Missing, func(t *testing.T, dir string, _ map[string][]byte) {
		remove(t, segmentPaths(t, dir)[0])
	}},
	{"one segment more deleted, and expired", Missing, func(t *testing.T, dir string, _ map[string][]byte) {
		remove(t, segmentPaths(t, dir)[0])
		remove(t, filepath.Join(dir, expiredFile))
	}},
	{"the segment of the record deleted", Missing, func(t *testing.T, dir string, _ map[string][]byte) {
		remove(t, recordSegment(t, dir))
	}},
	{"the segment of the record and expired deleted", Missing, func(t *testing.T, dir string, _ map[string][]byte) {
		remove(t, recordSegment(t, dir))
		remove(t, filepath.Join(dir, expiredFile))
	}},
	{"expired deleted", "", func(t *testing.T, dir string, _ map[string][]byte) {
		remove(t, filepath.Join(dir, expiredFile))
	}},
	{"the record altered in expired", Altered, func(t *testing.T, dir string, _ map[string][]byte) {
		write(t, bytes.Replace(read(t, dir, expiredFile), []byte(`"by":"max_size"`), []byte(`"by":"max_size_"`), 1), dir, expiredFile)
	}},
	{"the record altered in its segment", Altered, func(t *testing.T, dir string, _ map[string][]byte) { alterRecord(t, dir) }},
	{"the record altered in its segment, and expired deleted", Missing, func(t *testing.T, dir string, _ map[string][]byte) {
		alterRecord(t, dir)
		remove(t, filepath.Join(dir, expiredFile))
	}},
	{"the proof of another record in expired", Altered, func(t *testing.T, dir string, _ map[string][]byte) {
		p, err := Prove(dir, mustVerify(t, dir, VerifyOptions{}).Intact.LastSeq)
		if err != nil {
			t.Fatal(err)
		}
		write(t, p.Text(), dir, expiredFile)
	}},
	{"all that was removed put back", "", func(t *testing.T, dir string, removed map[string][]byte) {
		for name, b := range removed {
			write(t, b, dir, segmentDir, name)
		}
	}},
	{"one segment put back", "", func(t *testing.T, dir string, removed map[string][]byte) {
		write(t, removed[segmentName(0)], dir, segmentDir, segmentName(0))
	}},
	{"one segment put back, altered", Altered, func(t *testing.T, dir string, removed map[string][]byte) {
		b := bytes.Clone(removed[segmentName(0)])
		b[len(b)-1] ^= 1
		write(t, b, dir, segmentDir, segmentName(0))
	}},
	{"entries of what is removed altered", Altered, func(t *testing.T, dir string, _ map[string][]byte) {
		paths, err := filepath.Glob(filepath.Join(dir, tileDir, "entries", "000.p", "*"))
		if err != nil || len(paths) == 0 {
			t.Fatal(err)
		}
		for _, path := range paths {
			b := read(t, path)
			b[50] ^= 1
			write(t, b, path)
		}
	}},
	{"all segments deleted", Truncated, func(t *testing.T, dir string, _ map[string][]byte) {
		for _, path := range segmentPaths(t, dir) {
			remove(t, path)
		}
	}},
	{"the last segment deleted", Truncated, func(t *testing.T, dir string, _ map[string][]byte) {
		paths := segmentPaths(t, dir)
		remove(t, paths[len(paths)-1])
	}},
}

// alterRecord changes the newest audit.expire record, and makes all hashes of its
// block anew.
func alterRecord(t *testing.T, dir string) {
	t.Helper()
	path := recordSegment(t, dir)
	var out []byte
	for _, b := range readBlocks(t, path) {
		out = append(out, b.withLines(t, func(l [][]byte) [][]byte {
			for i := range l {
				l[i] = bytes.Replace(l[i], []byte(`"by":"max_size"`), []byte(`"by":"max_sixe"`), 1)
			}
			return l
		}).bytes()...)
	}
	write(t, out, path)
}

// recordSegment is the segment that has the newest audit.expire record.
func recordSegment(t *testing.T, dir string) string {
	t.Helper()
	r := mustVerify(t, dir, VerifyOptions{})
	for _, path := range segmentPaths(t, dir) {
		for _, b := range readBlocks(t, path) {
			if seq := r.Expired[len(r.Expired)-1].Seq; seq >= b.FirstSeq && seq < b.FirstSeq+uint64(b.Count) {
				return path
			}
		}
	}
	t.Fatal("no such segment")
	return ""
}

// removedLog is a closed log of a block in each segment, the oldest of which are
// removed, and what these were.
func removedLog(t *testing.T) (dir string, removed map[string][]byte) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "log")
	for range 8 {
		l := mustOpen(t, Options{Dir: dir, SegmentSize: 1})
		if err := l.Record(benchEvent(1), Event{Time: testTime, Event: ConnOpen}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
	}
	removed = make(map[string][]byte)
	for _, path := range segmentPaths(t, dir) {
		removed[filepath.Base(path)] = read(t, path)
	}
	// Records of 2026 are older than an hour, but the log has seen no time pass:
	// the limit on the size decides.
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 1, MaxSize: int64(3 * len(removed[segmentName(0)]))})
	if err := l.Record(benchEvent(2)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return len(segmentPaths(t, dir)) < 6 })
	if err := l.Record(benchEvent(3)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	growLog(t, dir, 1)
	for name := range removed {
		if _, err := os.Stat(filepath.Join(dir, segmentDir, name)); err == nil {
			delete(removed, name)
		}
	}
	return dir, removed
}

func TestVerifyExpired(t *testing.T) {
	sound, removed := removedLog(t)
	r := mustVerify(t, sound, VerifyOptions{})
	if len(removed) < 3 || r.ExpiredBlocks != uint64(len(removed)) || len(r.Expired) == 0 || r.Intact.FirstBlock != r.ExpiredBlocks {
		t.Fatalf("%d removed, %+v", len(removed), r)
	}
	for _, tt := range expiryMutations {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := copyLog(t, sound)
			tt.do(t, dir, removed)
			r := mustVerify(t, dir, VerifyOptions{})
			if r.Fault() != tt.fault {
				t.Fatalf("got %s\n%+v", r.Verdict, r)
			}
			if got, out := pythonFault(t, dir); got != tt.fault {
				t.Errorf("Python says %q\n%s", got, out)
			}
			if tt.fault == "" && r.ExpiredBlocks != uint64(len(removed)) {
				t.Errorf("%+v", r)
			}
			present := strings.Contains(tt.name, "put back") && tt.fault == ""
			if present != (r.Present != nil) || present && r.Present.FirstBlock != 0 {
				t.Errorf("%+v", r)
			}
			// With the key that was kept elsewhere, and without that of the log.
			key := strings.TrimSpace(string(read(t, sound, pubKeyFile)))
			if r := mustVerify(t, dir, VerifyOptions{Key: key}); r.Fault() != tt.fault {
				t.Errorf("with a key: %+v", r)
			}
		})
	}
}

// The tables of the specification are those of the tests.
func TestVerifyTable(t *testing.T) {
	doc := string(read(t, "../docs/AUDIT-FORMAT.md"))
	codes := map[Fault]int{"": 0, Altered: 10, Truncated: 11, Missing: 12, Unsigned: 13}
	var first, second strings.Builder
	for _, m := range mutations {
		fmt.Fprintf(&first, "| %s | %d |\n", m.name, codes[m.fault])
	}
	for _, m := range expiryMutations {
		fmt.Fprintf(&second, "| %s | %d |\n", m.name, codes[m.fault])
	}
	for _, rows := range []string{first.String(), second.String()} {
		if !strings.Contains(doc, "| done | code |\n|---|---|\n"+rows+"\n") {
			t.Errorf("not in the specification:\n%s", rows)
		}
	}
}

// A record with numbers that are not those of the blocks accounts for nothing.
func TestFalseExpiry(t *testing.T) {
	sound := smallLog(t, 7)
	good := Expired{By: ByKeep, LastBlock: 3, FirstSeq: 1, LastSeq: 12, Count: 12}
	for _, tt := range []struct {
		name   string
		change func(x *Expired)
		want   Fault
	}{
		{"true", func(*Expired) {}, ""},
		{"less than is gone", func(x *Expired) { x.LastBlock, x.LastSeq = 1, 6 }, Missing},
		{"more than is gone", func(x *Expired) { x.LastBlock, x.LastSeq = 5, 18 }, ""}, // the rest is there
		{"other records", func(x *Expired) { x.LastSeq = 15 }, Missing},
		{"its own block", func(x *Expired) { x.LastBlock = 7 }, Missing},
		{"blocks to come", func(x *Expired) { x.LastBlock = 700 }, Missing},
		{"backwards", func(x *Expired) { x.FirstBlock = 4 }, Missing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := copyLog(t, sound)
			x := good
			tt.change(&x)
			l := mustOpen(t, Options{Dir: dir, SegmentSize: 1200})
			if err := l.Record(Event{Event: AuditExpire, Expired: &x}); err != nil {
				t.Fatal(err)
			}
			mustClose(t, l)
			for _, path := range segmentPaths(t, dir)[:2] { // blocks 0 to 3
				remove(t, path)
			}
			if r := mustVerify(t, dir, VerifyOptions{}); r.Fault() != tt.want {
				t.Errorf("%+v", r)
			}
			if got, out := pythonFault(t, dir); got != tt.want {
				t.Errorf("Python says %q\n%s", got, out)
			}
		})
	}
}

// waitFor waits for what comes soon.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}
