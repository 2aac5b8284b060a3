package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

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
