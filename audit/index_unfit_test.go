package audit

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// editIndexes changes each index of the log.
func editIndexes(t *testing.T, dir string, edit func(b []byte) []byte) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, indexDir, "*"+indexSuffix))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, edit(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// An index that does not fit is not used.
func TestIndexIgnored(t *testing.T) {
	dir := t.TempDir()
	variedLog(t, dir, 100)
	f := Filter{Conn: "c7"}
	want := answer(t, dir, f, true)
	names := segmentFiles(t, dir)
	index := func(i int) string { return filepath.Join(dir, indexDir, indexName(names[i])) }
	check := func(t *testing.T, unused int) {
		t.Helper()
		if used := indexUsed(t, dir, f); used != len(names)-unused {
			t.Errorf("index used in %d segments of %d", used, len(names))
		}
		if got := answer(t, dir, f, false); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	change := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	all := len(names)
	tests := []struct {
		name   string
		change func(t *testing.T)
		unused int
	}{
		{"none", func(*testing.T) {}, 0},
		{"empty", func(t *testing.T) { editIndexes(t, dir, func([]byte) []byte { return nil }) }, all},
		{"cut short", func(t *testing.T) { editIndexes(t, dir, func(b []byte) []byte { return b[:len(b)-1] }) }, all},
		{"longer", func(t *testing.T) { editIndexes(t, dir, func(b []byte) []byte { return append(b, 0) }) }, all},
		{"huge", func(t *testing.T) { change(t, os.Truncate(index(0), 1<<40)) }, 1},
		{"of another segment", func(t *testing.T) { change(t, os.Rename(index(0), index(1))) }, 2},
		{"a link", func(t *testing.T) {
			change(t, os.Rename(index(0), index(0)+"x"))
			change(t, os.Symlink(index(0)+"x", index(0)))
		}, 1},
		{"a directory", func(t *testing.T) { change(t, os.Remove(index(0))); change(t, os.Mkdir(index(0), 0o700)) }, 1},
		{"writable by the group", func(t *testing.T) { change(t, os.Chmod(index(0), 0o620)) }, 1},
		{"writable by all", func(t *testing.T) { change(t, os.Chmod(index(1), 0o602)) }, 1},
		{"of another log", func(t *testing.T) {
			other := t.TempDir()
			variedLog(t, other, 100)
			mustIndex(t, other, false)
			b, err := os.ReadFile(filepath.Join(other, indexDir, indexName(names[0])))
			change(t, err)
			change(t, os.WriteFile(index(0), b, 0o600))
		}, 1},
		{"of somebody else", func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			change(t, os.Chown(index(0), 65534, 65534))
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			change(t, os.RemoveAll(filepath.Join(dir, indexDir)))
			mustIndex(t, dir, false)
			tt.change(t)
			check(t, tt.unused)
		})
	}
	t.Run("any byte", func(t *testing.T) {
		change(t, os.RemoveAll(filepath.Join(dir, indexDir)))
		mustIndex(t, dir, false)
		first := Filter{Conn: "c0", To: at(10 * 60)} // in the first segment
		want := answer(t, dir, first, true)
		whole, err := os.ReadFile(index(0))
		change(t, err)
		for i := range whole {
			b := bytes.Clone(whole)
			b[i] ^= 0xff
			change(t, os.WriteFile(index(0), b, 0o600))
			if got := answer(t, dir, first, false); got == "" || got != want {
				t.Fatalf("byte %d: got %s\nwant %s", i, got, want)
			}
		}
	})
}

// A header that is another one is found where the index relies on it: the last
// one always, others when their block is chosen.
func TestIndexOfOtherHeaders(t *testing.T) {
	for _, tt := range []struct {
		name string
		last bool
		f    Filter
	}{
		{"the last, nothing of the segment wanted", true, Filter{To: at(-1e6)}},
		{"the first, which is wanted", false, Filter{Conn: "c0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			variedLog(t, dir, 100)
			mustIndex(t, dir, false)
			names := segmentFiles(t, dir)
			path := filepath.Join(dir, segmentDir, names[0])
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			off := int64(0)
			for {
				h, _, err := consumeHeader(b[off:])
				if err != nil {
					t.Fatal(err)
				}
				if next := off + h.size(); tt.last && next < int64(len(b)) {
					off = next
					continue
				}
				h.First-- // as good as before, with a good checksum
				h.append(b[:off])
				break
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if used := indexUsed(t, dir, tt.f); used != len(names)-1 {
				t.Errorf("index used in %d segments of %d", used, len(names))
			}
			if got, want := answer(t, dir, tt.f, false), answer(t, dir, tt.f, true); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// A segment whose bytes are no longer those that were indexed.
func TestIndexOfAnotherState(t *testing.T) {
	dir := t.TempDir()
	variedLog(t, dir, 100)
	mustIndex(t, dir, false)
	names := segmentFiles(t, dir)
	path := filepath.Join(dir, segmentDir, names[0])
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var offsets []int64
	for off := int64(0); off < int64(len(whole)); {
		h, _, err := consumeHeader(whole[off:])
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, off)
		off += h.size()
	}
	last := offsets[len(offsets)-1]
	for name, b := range map[string][]byte{
		"the last block gone":     whole[:last],
		"half of it":              whole[:last+50],
		"another last block":      append(bytes.Clone(whole[:last]), whole[:offsets[1]]...),
		"a header damaged":        flip(whole, int(offsets[1])+40),
		"stored bytes damaged":    flip(whole, int(offsets[1])+headerFrame+3),
		"the last header damaged": flip(whole, int(last)+40),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			// What the filter leaves out may be damaged unseen, with an index
			// or without; records are the same.
			for _, f := range variedFilters() {
				if got, want := records(answer(t, dir, f, false)), records(answer(t, dir, f, true)); got != want {
					t.Errorf("%+v:\ngot  %s\nwant %s", f, got, want)
				}
			}
			// An index made now stops before the damage, so that it is told.
			mustIndex(t, dir, true)
			sameAnswers(t, dir, "made again")
		})
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

// records are the lines of an answer that are records.
func records(answer string) string {
	var b strings.Builder
	for line := range strings.Lines(answer) {
		if line[0] == '{' {
			b.WriteString(line)
		}
	}
	return b.String()
}

// forgeFilters makes each filter say that its block has nothing, checksums and all.
func forgeFilters(t *testing.T, dir string) {
	t.Helper()
	editIndexes(t, dir, func(b []byte) []byte {
		x, err := parseIndexHead(b)
		if err != nil {
			t.Fatal(err)
		}
		table, filters := b[indexHead:len(b)-int(x.Filters)], b[len(b)-int(x.Filters):]
		clear(filters)
		var forged []byte
		for ; len(table) > 0; table = table[indexEntry:] {
			e := parseIndexEntry(table)
			e.FilterCRC = crc32.Checksum(filters[:e.FilterLen], crcTable)
			forged = e.append(forged)
		}
		x.Table = crc32.Checksum(forged, crcTable)
		return slices.Concat(x.append(nil), forged, filters)
	})
}

// Whoever can write to the log can forge an index that hides records from a
// query that uses it, as they can alter the records. NoIndex looks at all.
func TestForgedFilter(t *testing.T) {
	dir := t.TempDir()
	variedLog(t, dir, 100)
	mustIndex(t, dir, false)
	f := Filter{Conn: "c7"}
	want := answer(t, dir, f, true)
	forgeFilters(t, dir)
	if got := answer(t, dir, f, false); got != "" {
		t.Errorf("the forged filters do not hide:\n%s", got)
	}
	if got := answer(t, dir, f, true); got == "" || got != want {
		t.Errorf("without the index: got %s", got)
	}
	for _, s := range mustIndex(t, dir, true) {
		if s.Kept {
			t.Errorf("kept %s", s.Segment)
		}
	}
	if got := answer(t, dir, f, false); got != want {
		t.Errorf("rebuilt: got %s", got)
	}
}

// Whatever an index says, a reader is not stopped by it: with good checksums
// over anything, there is an answer or the index is not used.
func FuzzIndex(f *testing.F) {
	dir := f.TempDir()
	l, err := Open(Options{Dir: dir, Level: Frames})
	if err != nil {
		f.Fatal(err)
	}
	if err := l.Record(variedEvents(20)...); err != nil {
		f.Fatal(err)
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	mustIndex(f, dir, false)
	path := filepath.Join(dir, indexDir, indexName(segmentName(0)))
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	r, err := NewReader(dir, Filter{Conn: "c1", From: at(0)})
	if err != nil {
		f.Fatal(err)
	}
	for _, at := range []int{0, 32, 43, 60, 92, 99, 132, 139, indexHead, indexHead + 20, indexHead + 28, len(whole) - 1} {
		f.Add(at, byte(1))
		f.Add(at, byte(0xff))
	}
	f.Fuzz(func(t *testing.T, at int, flip byte) {
		if at < 0 || at >= len(whole) {
			return
		}
		b := bytes.Clone(whole)
		b[at] ^= flip
		table := b[indexHead : indexHead+indexEntry]
		binary.BigEndian.PutUint32(b[140:], crc32.Checksum(table, crcTable))
		binary.BigEndian.PutUint32(b[indexHead-4:], crc32.Checksum(b[:indexHead-4], crcTable))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, err := range r.Records() {
			if err != nil {
				t.Errorf("byte %d: %v", at, err)
			}
		}
	})
}
