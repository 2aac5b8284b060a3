package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// smallLog writes a closed log of blocks blocks, three records in each, two
// blocks in a segment.
func smallLog(t *testing.T, blocks int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	growLog(t, dir, blocks)
	return dir
}

func growLog(t *testing.T, dir string, blocks int) {
	t.Helper()
	for range blocks {
		l := mustOpen(t, Options{Dir: dir, SegmentSize: 1200})
		if err := l.Record(benchEvent(1), Event{Time: testTime, Event: ConnOpen}, benchEvent(2)); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
	}
}

func copyLog(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(to, keyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func mustVerify(t *testing.T, dir string, o VerifyOptions) Report {
	t.Helper()
	r, err := Verify(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, b []byte, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyIntact(t *testing.T) {
	for _, blocks := range []int{0, 1, 2, 3, 7} {
		dir := smallLog(t, blocks)
		if blocks == 0 {
			mustClose(t, mustOpen(t, Options{Dir: dir}))
		}
		r := mustVerify(t, dir, VerifyOptions{Key: strings.TrimSpace(string(read(t, dir, pubKeyFile))), Old: [][]byte{read(t, dir, checkpointFile)}})
		if r.Verdict != "intact" || r.Intact.Blocks != uint64(blocks) || r.Intact.Records != uint64(3*blocks) ||
			r.Intact.LastSeq != uint64(3*blocks) || r.Uncovered.Blocks != 0 || len(r.Notes) > 0 || r.Unrooted > 0 {
			t.Errorf("%d blocks: %+v", blocks, r)
		}
		if want := blocks + 2; r.Compared != want { // each stop, the first start, the one given
			t.Errorf("%d blocks: compared with %d checkpoints, want %d", blocks, r.Compared, want)
		}
	}
}

// A tree of several tiles, as the tiles and as one list.
func TestVerifyManyTiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 16 << 10})
	for i := range 600 {
		e := Event{Event: PolicyLoad} // a block and a checkpoint of its own
		if i%50 > 0 {
			e = Event{Event: ConnOpen, Reason: strings.Repeat("x", maxRaw)}
		}
		if err := l.Record(e); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
	r := mustVerify(t, dir, VerifyOptions{})
	if r.Verdict != "intact" || r.Intact.Blocks != 600 || r.Compared < 12 {
		t.Fatalf("%+v", r)
	}
	want := []string{"tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/000", "tile/entries/001", "tile/entries/002.p/88"}
	for _, path := range want {
		b := read(t, dir, path)
		b[40] ^= 1
		write(t, b, dir, path)
		r := mustVerify(t, dir, VerifyOptions{})
		if r.Verdict != string(Altered) || r.Intact.Blocks != 600 ||
			!slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Place == path }) {
			t.Errorf("%s: %+v", path, r)
		}
		b[40] ^= 1
		write(t, b, dir, path)
	}
	for _, path := range []string{"tile/0/000.p", "tile/0/001.p", "tile/entries/000.p"} {
		if _, err := os.Stat(filepath.Join(dir, path)); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
}

// Every single byte of every file counts, whatever it becomes: with one bit
// flipped, with several, with all, as 0x00 and as 0xff.
func TestVerifyEveryByte(t *testing.T) {
	t.Parallel()
	// The race detector looks for races, and makes signatures ten times as dear:
	// with it, one change for each byte of a block, and less of what is longer.
	sparse := 1
	if raceDetector {
		sparse = 3
	}
	t.Run("one block, all of it", func(t *testing.T) {
		t.Parallel()
		everyByte(t, smallLog(t, 1), func(_ string, i, class int) bool { return !raceDetector || class == i%5 })
	})
	t.Run("three blocks, a change for each byte", func(t *testing.T) {
		t.Parallel()
		everyByte(t, smallLog(t, 3), func(_ string, i, class int) bool { return class == i%5 && (i/5)%sparse == 0 })
	})
	t.Run("a removal, all of its proof", func(t *testing.T) {
		t.Parallel()
		dir, _ := removedLog(t)
		everyByte(t, dir, func(name string, i, class int) bool {
			return name == expiredFile && class == i%5 && (i/5)%sparse == 0 || i%(70*sparse) == class
		})
	})
}

func everyByte(t *testing.T, dir string, wanted func(name string, i, class int) bool) {
	if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" {
		t.Fatalf("%+v", r)
	}
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != keyFile {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil || len(paths) < 7 {
		t.Fatal(paths, err)
	}
	classes := []func(i int, b byte) byte{
		func(i int, b byte) byte { return b ^ 1<<(i%8) },
		func(i int, b byte) byte { return b ^ 0x81>>(i%2) },
		func(_ int, b byte) byte { return ^b },
		func(int, byte) byte { return 0x00 },
		func(int, byte) byte { return 0xff },
	}
	tried := 0
	for _, path := range paths {
		whole := read(t, path)
		b := bytes.Clone(whole)
		name, _ := filepath.Rel(dir, path)
		for i, was := range whole {
			for class, change := range classes {
				if b[i] = change(i, was); b[i] == was || !wanted(name, i, class) {
					continue
				}
				write(t, b, path)
				r, err := Verify(dir, VerifyOptions{})
				if err != nil {
					t.Fatalf("%s byte %d: %v", path, i, err)
				}
				want := Altered
				if name == pubKeyFile || name == checkpointFile || name == historyFile {
					want = Unsigned
				}
				if r.Fault() != want {
					t.Fatalf("%s byte %d, 0x%02x for 0x%02x: %+v", path, i, b[i], was, r)
				}
				tried++
			}
			b[i] = was
		}
		write(t, whole, path)
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" {
		t.Errorf("put back: %+v", r)
	}
	t.Logf("%d changes", tried)
}

// A forger edits the blocks of a segment.
type forged struct {
	header
	stored []byte
}

func (f forged) bytes() []byte { return append(f.header.append(nil), f.stored...) }

// lines is the block with other records and all its hashes made anew.
func (f forged) withLines(t *testing.T, edit func(lines [][]byte) [][]byte) forged {
	t.Helper()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := dec.DecodeAll(f.stored, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := edit(slices.Collect(bytes.Lines(raw)))
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := block{raw: bytes.Join(lines, nil), firstSeq: f.FirstSeq, count: uint32(len(lines)), first: f.First, last: f.Last}
	out := b.encode(nil, enc, f.ID, f.Number)
	h, _, err := consumeHeader(out)
	if err != nil {
		t.Fatal(err)
	}
	return forged{h, out[headerFrame:]}
}

func readBlocks(t *testing.T, path string) (blocks []forged) {
	t.Helper()
	for b := read(t, path); len(b) > 0; {
		h, n, err := consumeHeader(b)
		if err != nil || n == 0 {
			t.Fatal(err)
		}
		blocks = append(blocks, forged{h, b[n:h.size()]})
		b = b[h.size():]
	}
	return blocks
}

// mutations are what can be done to a closed log of seven blocks without its key.
var mutations = []struct {
	name  string
	fault Fault
	block uint64 // of the first finding
	do    func(t *testing.T, dir string)
}{
	{"CRC made anew over another time", Altered, 2, edit(1, func(t *testing.T, b []forged) []forged { b[0].Last++; return b })},
	{"CRC made anew over another count", Altered, 2, edit(1, func(t *testing.T, b []forged) []forged { b[0].Count++; return b })},
	{"CRC made anew over another number", Altered, 2, edit(1, func(t *testing.T, b []forged) []forged { b[0].Number = 1 << 40; return b })},
	{"CRC made anew over a length beyond the end", Altered, 6, edit(3, func(t *testing.T, b []forged) []forged { b[0].StoredLen++; return b })},
	{"record changed, hashes made anew", Altered, 3, edit(1, func(t *testing.T, b []forged) []forged {
		b[1] = b[1].withLines(t, func(l [][]byte) [][]byte {
			l[0] = bytes.Replace(l[0], []byte("allow"), []byte("block"), 1)
			return l
		})
		return b
	})},
	{"record deleted, hashes made anew", Altered, 3, edit(1, func(t *testing.T, b []forged) []forged {
		b[1] = b[1].withLines(t, func(l [][]byte) [][]byte { return l[:2] })
		return b
	})},
	{"record inserted, hashes made anew", Altered, 2, edit(1, func(t *testing.T, b []forged) []forged {
		b[0] = b[0].withLines(t, func(l [][]byte) [][]byte { return append(l, l[0]) })
		return b
	})},
	{"records swapped, hashes made anew", Altered, 2, edit(1, func(t *testing.T, b []forged) []forged {
		b[0] = b[0].withLines(t, func(l [][]byte) [][]byte { l[0], l[1] = l[1], l[0]; return l })
		return b
	})},
	{"last record of all deleted, hashes made anew", Altered, 6, edit(3, func(t *testing.T, b []forged) []forged {
		b[0] = b[0].withLines(t, func(l [][]byte) [][]byte { return l[:2] })
		return b
	})},
	{"records changed, header kept", Altered, 2, edit(1, func(t *testing.T, b []forged) []forged {
		f := b[0].withLines(t, func(l [][]byte) [][]byte { l[0], l[1] = l[1], l[0]; return l })
		b[0].stored = append(f.stored, make([]byte, len(b[0].stored))...)[:len(b[0].stored)]
		return b
	})},
	{"block deleted", Missing, 2, edit(1, func(t *testing.T, b []forged) []forged { return b[1:] })},
	{"last block of a segment deleted", Missing, 3, edit(1, func(t *testing.T, b []forged) []forged { return b[:1] })},
	{"last block deleted", Truncated, 6, edit(3, func(t *testing.T, b []forged) []forged { return nil })},
	{"blocks swapped", Altered, 2, edit(1, func(t *testing.T, b []forged) []forged { return []forged{b[1], b[0]} })},
	{"block duplicated", Altered, 2, edit(1, func(t *testing.T, b []forged) []forged { return []forged{b[0], b[0], b[1]} })},
	{"block inserted", Altered, 3, edit(1, func(t *testing.T, b []forged) []forged {
		f := b[0]
		f.Number, f.FirstSeq = 3, 10
		return []forged{b[0], f, b[1]}
	})},
	{"block added behind the end", Altered, 7, edit(3, func(t *testing.T, b []forged) []forged {
		f := b[0].withLines(t, func(l [][]byte) [][]byte {
			for i := range l {
				l[i] = bytes.Replace(l[i], fmt.Appendf(nil, "%d", 19+i), fmt.Appendf(nil, "%d", 22+i), 1)
			}
			return l
		})
		f.Number, f.FirstSeq = 7, 22
		return append(b, f)
	})},
	{"bytes added behind the end", Altered, 7, func(t *testing.T, dir string) {
		path := segmentPaths(t, dir)[3]
		write(t, append(read(t, path), read(t, path)[:50]...), path)
	}},
	{"segment deleted", Missing, 2, func(t *testing.T, dir string) { remove(t, segmentPaths(t, dir)[1]) }},
	{"first segment deleted", Missing, 0, func(t *testing.T, dir string) { remove(t, segmentPaths(t, dir)[0]) }},
	{"last segment deleted", Truncated, 6, func(t *testing.T, dir string) { remove(t, segmentPaths(t, dir)[3]) }},
	{"all segments deleted", Truncated, 0, func(t *testing.T, dir string) {
		for _, path := range segmentPaths(t, dir) {
			remove(t, path)
		}
	}},
	{"directory of the segments deleted", Truncated, 0, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, segmentDir)) }},
	{"segments swapped", Altered, 2, func(t *testing.T, dir string) {
		p := segmentPaths(t, dir)
		a, b := read(t, p[1]), read(t, p[2])
		write(t, b, p[1])
		write(t, a, p[2])
	}},
	{"segment duplicated", Altered, 2, func(t *testing.T, dir string) {
		write(t, read(t, segmentPaths(t, dir)[1]), dir, segmentDir, segmentName(9))
	}},
	{"segment renamed", Altered, 4, func(t *testing.T, dir string) {
		if err := os.Rename(segmentPaths(t, dir)[2], filepath.Join(dir, segmentDir, segmentName(5))); err != nil {
			t.Fatal(err)
		}
	}},
	{"an older checkpoint put back", Truncated, 5, func(t *testing.T, dir string) { write(t, oldCheckpoint(t, dir, 5), dir, checkpointFile) }},
	{"an older checkpoint put back, and its blocks", Truncated, 5, func(t *testing.T, dir string) {
		write(t, oldCheckpoint(t, dir, 5), dir, checkpointFile)
		remove(t, segmentPaths(t, dir)[3])
		edit(2, func(t *testing.T, b []forged) []forged { return b[:1] })(t, dir)
	}},
	{"an older checkpoint put back, the history deleted", Altered, 5, func(t *testing.T, dir string) {
		write(t, oldCheckpoint(t, dir, 5), dir, checkpointFile)
		remove(t, filepath.Join(dir, historyFile))
	}},
	{"checkpoint deleted", Unsigned, 0, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, checkpointFile)) }},
	{"key.pub deleted", Unsigned, 0, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, pubKeyFile)) }},
	{"another size in the checkpoint", Unsigned, 0, func(t *testing.T, dir string) {
		write(t, bytes.Replace(read(t, dir, checkpointFile), []byte("\n7\n"), []byte("\n6\n"), 1), dir, checkpointFile)
	}},
	{"checkpoint of another log", Unsigned, 0, func(t *testing.T, dir string) {
		write(t, read(t, smallLog(t, 7), checkpointFile), dir, checkpointFile)
	}},
	{"segment of another log", Altered, 2, func(t *testing.T, dir string) {
		write(t, read(t, segmentPaths(t, smallLog(t, 7))[1]), segmentPaths(t, dir)[1])
	}},
	{"another log-id", Altered, 0, func(t *testing.T, dir string) { write(t, read(t, smallLog(t, 1), logIDFile), dir, logIDFile) }},
	{"tiles deleted", Altered, 0, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, tileDir)) }},
	{"tile, bundle and block changed alike", Altered, 2, func(t *testing.T, dir string) {
		edit(1, func(t *testing.T, b []forged) []forged { b[0].Last++; return b })(t, dir)
		retile(t, dir)
	}},
}

// retile makes the tree anew from the blocks as they are, but does not sign it.
func retile(t *testing.T, dir string) {
	t.Helper()
	id, err := readLogID(dir)
	if err != nil {
		t.Fatal(err)
	}
	remove(t, filepath.Join(dir, tileDir))
	entries, err := blockEntries(dir, id, 0, 7)
	if err != nil {
		t.Fatal(err)
	}
	n := notary{dir: dir}
	for _, f := range new(tree).grow(entries) {
		if err := n.write(f); err != nil {
			t.Fatal(err)
		}
	}
}

func segmentPaths(t *testing.T, dir string) (paths []string) {
	t.Helper()
	for _, name := range segmentFiles(t, dir) {
		paths = append(paths, filepath.Join(dir, segmentDir, name))
	}
	return paths
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// edit changes the blocks of one segment.
func edit(segment int, change func(t *testing.T, b []forged) []forged) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := segmentPaths(t, dir)[segment]
		var out []byte
		for _, b := range change(t, readBlocks(t, path)) {
			out = append(out, b.bytes()...)
		}
		write(t, out, path)
	}
}

// oldCheckpoint is the one of the given size from the history.
func oldCheckpoint(t *testing.T, dir string, size int) []byte {
	t.Helper()
	notes, _ := splitHistory(read(t, dir, historyFile))
	for _, n := range notes {
		if strings.Contains(n, fmt.Sprintf("\n%d\n", size)) {
			return []byte(n)
		}
	}
	t.Fatalf("no checkpoint of %d blocks", size)
	return nil
}

func TestVerifyMutations(t *testing.T) {
	sound := smallLog(t, 7)
	if n := len(segmentFiles(t, sound)); n != 4 {
		t.Fatalf("%d segments", n)
	}
	for _, tt := range mutations {
		t.Run(tt.name, func(t *testing.T) {
			dir := copyLog(t, sound)
			tt.do(t, dir)
			r := mustVerify(t, dir, VerifyOptions{})
			if r.Fault() != tt.fault || r.Findings[0].Block != tt.block {
				t.Errorf("got %s at block %d\n%+v", r.Verdict, r.Findings[0].Block, r)
			}
			if f := r.Findings[0]; f.Block > 0 && f.Fault != Unsigned && r.Intact.Blocks < f.Block {
				t.Errorf("%d blocks are said to be intact", r.Intact.Blocks)
			}
		})
	}
}

// The last segment, cut anywhere; and one in the middle.
func TestVerifyTruncated(t *testing.T) {
	t.Parallel()
	dir := smallLog(t, 7)
	for segment, want := range map[int]Fault{3: Truncated, 1: Missing} {
		path := segmentPaths(t, dir)[segment]
		b := read(t, path)
		for n := range b {
			if raceDetector && n%2 > 0 {
				continue // as in TestVerifyEveryByte
			}
			write(t, b[:n], path)
			if r := mustVerify(t, dir, VerifyOptions{}); r.Fault() != want {
				t.Fatalf("segment %d cut at %d: %+v", segment, n, r)
			}
		}
		write(t, b, path)
	}
}

// Who has the key can write another past. A checkpoint kept elsewhere tells.
func TestVerifyFork(t *testing.T) {
	a := smallLog(t, 3)
	key := strings.TrimSpace(string(read(t, a, pubKeyFile)))
	b := copyLog(t, a)
	growLog(t, a, 2)
	l := mustOpen(t, Options{Dir: b, SegmentSize: 1200})
	if err := l.Record(Event{Event: WSOpen}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	growLog(t, b, 1)
	for _, tt := range []struct {
		dir  string
		old  []byte
		want Fault
		at   uint64
	}{
		{a, oldCheckpoint(t, b, 3), "", 0},
		{a, oldCheckpoint(t, b, 5), Altered, 3},
		{a, oldCheckpoint(t, b, 4), Altered, 3},
		{b, oldCheckpoint(t, a, 5), Altered, 3},
		{a, oldCheckpoint(t, a, 4), "", 0},
		{copyLog(t, a), []byte("not a checkpoint"), Unsigned, 0},
	} {
		r := mustVerify(t, tt.dir, VerifyOptions{Key: key, Old: [][]byte{tt.old, oldCheckpoint(t, a, 3)}})
		if r.Fault() != tt.want || len(r.Findings) > 0 && r.Findings[0].Block != tt.at {
			t.Errorf("%s\n%+v", tt.old, r)
		}
		if tt.want == Altered && r.Intact.Blocks != 3 {
			t.Errorf("%d blocks are said to be intact", r.Intact.Blocks)
		}
	}

	// The past rewritten with the key, and the history with it: of one piece.
	edit(1, func(t *testing.T, blocks []forged) []forged { blocks[0].Last++; return blocks })(t, a)
	old := read(t, a, checkpointFile)
	for _, name := range []string{checkpointFile, historyFile, tileDir} {
		remove(t, filepath.Join(a, name))
	}
	mustClose(t, mustOpen(t, Options{Dir: a}))
	if r := mustVerify(t, a, VerifyOptions{Key: key}); r.Verdict != "intact" || len(r.Losses) != 1 || !strings.Contains(r.Losses[0].Reason, "the checkpoint of the log is missing") {
		t.Errorf("rewritten: %+v", r)
	}
	if r := mustVerify(t, a, VerifyOptions{Key: key, Old: [][]byte{old}}); r.Fault() != Altered {
		t.Errorf("rewritten, against an old checkpoint: %+v", r)
	}
}

func TestVerifyWrongKey(t *testing.T) {
	dir := smallLog(t, 2)
	id, err := readLogID(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, vkey, err := note.GenerateKey(nil, id.origin())
	if err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir, VerifyOptions{Key: vkey}); r.Fault() != Unsigned || r.Findings[0].Place != historyFile+": checkpoint 1" {
		t.Errorf("%+v", r)
	}
	if _, err := Verify(dir, VerifyOptions{Key: "key"}); err == nil {
		t.Error("a key that is none was taken")
	}
	if r, err := Verify(t.TempDir(), VerifyOptions{}); err == nil || r.Verdict != "unreadable" {
		t.Error("an empty directory was verified")
	}
}

// A log that is being written is intact as far as it is signed.
func TestVerifyLive(t *testing.T) {
	dir := smallLog(t, 3)
	l := mustOpen(t, Options{Dir: dir})
	defer mustClose(t, l)
	full := slices.Repeat([]Event{{Event: "e"}}, maxCount+1)
	for range 20 {
		if err := l.Record(full...); err != nil {
			t.Fatal(err)
		}
		r := mustVerify(t, dir, VerifyOptions{})
		if r.Verdict != "intact" || r.Intact.Blocks < 3 {
			t.Fatalf("%+v", r)
		}
	}
}

// What a header says of its records is checked, whoever has signed it.
func TestCheckRecords(t *testing.T) {
	good := readBlocks(t, segmentPaths(t, smallLog(t, 1))[0])[0]
	for want, change := range map[string]func(f *forged){
		"do not give the root": func(f *forged) { f.Root[0] ^= 1 },
		"3 records, 4":         func(f *forged) { f.Count++ },
		"record 2 does not":    func(f *forged) { f.FirstSeq++ },
		"length of the header": func(f *forged) { f.RawLen-- },
		"the length":           func(f *forged) { f.RawLen++ },
		"do not decompress":    func(f *forged) { f.stored = f.stored[:len(f.stored)-1] },
		"has no end": func(f *forged) {
			*f = f.withLines(t, func(l [][]byte) [][]byte { l[2] = l[2][:len(l[2])-1]; return l })
		},
	} {
		f := good
		change(&f)
		if _, _, err := new(checker).records(&f.header, f.stored); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, _, err := new(checker).records(&good.header, good.stored); err != nil {
		t.Error(err)
	}
}

// A log of a newer framegate, signed as it is, is not altered: this program cannot
// read it. The same byte changed by anybody else is.
func TestVerifyNewer(t *testing.T) {
	dir := smallLog(t, 1)
	path := segmentPaths(t, dir)[0]
	b := read(t, path)
	b[8+len(headerMagic)-1]++
	binary.BigEndian.PutUint32(b[headerFrame-4:], crc32.Checksum(b[8:headerFrame-4], crcTable))
	write(t, b, path)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Fault() != Altered || !strings.Contains(r.Findings[0].Reason, "newer framegate") {
		t.Errorf("%+v", r)
	}
	entry := b[8:headerFrame]
	leaf := tlog.RecordHash(entry)
	write(t, leaf[:], dir, "tile/0/000.p/1")
	write(t, append([]byte{0, headerSize}, entry...), dir, "tile/entries/000.p/1")
	signer, err := note.NewSigner(strings.TrimSpace(string(read(t, dir, keyFile))))
	if err != nil {
		t.Fatal(err)
	}
	msg, err := note.Sign(&note.Note{Text: Checkpoint{Origin: signer.Name(), Size: 1, Root: leaf}.text()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	write(t, msg, dir, checkpointFile)
	remove(t, filepath.Join(dir, historyFile))
	r, err := Verify(dir, VerifyOptions{})
	var damage *DamageError
	if !errors.As(err, &damage) || !errors.Is(err, errNewer) || damage.Offset != 0 || r.Verdict != "unreadable" {
		t.Errorf("%v: %+v", err, r)
	}
	cmd := exec.Command("python3", verifyPy, dir) // and so says the other verifier
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "offset 0: written by a newer framegate") {
		t.Errorf("%s: %v", out, err)
	}
}
