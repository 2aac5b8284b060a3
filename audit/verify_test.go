package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
	if r.Verdict != "intact" || r.Intact.Blocks != 600 || r.Compared < 3 { // how many are kept is a matter of the disk
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
