package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a checkpoint covers and a disk has lost keeps its numbers.
func TestCoveredBlocksGone(t *testing.T) {
	tests := []struct {
		name     string
		segments int // deleted at the end
		cut      int // bytes, of the then last segment
		back     int // size of the older checkpoint that is put back; 0: none
		want     string
		records  int64
	}{
		{"last segment", 1, 0, 0, "block 6, which a checkpoint covers, is gone with 3 records", 3},
		{"two segments", 2, 0, 0, "blocks 4 to 6, which a checkpoint covers, are gone with 9 records", 9},
		{"two segments, and an older checkpoint put back", 2, 0, 3, "blocks 4 to 6, which a checkpoint covers, are gone with 9 records", 9},
		{"all segments", 4, 0, 0, "blocks 0 to 6, which a checkpoint covers, are gone with 21 records", 21},
		{"the end of one", 0, 10, 0, "block 6, which a checkpoint covers, is gone with 3 records", 3},
		{"a segment and the end of the next", 1, 10, 0, "blocks 5 to 6, which a checkpoint covers, are gone with 6 records", 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := smallLog(t, 7)
			paths := segmentPaths(t, dir)
			for _, path := range paths[len(paths)-tt.segments:] {
				remove(t, path)
			}
			paths = paths[:len(paths)-tt.segments]
			var last string
			var left []byte
			if len(paths) > 0 {
				last = paths[len(paths)-1]
				b := read(t, last)
				left = b[:len(b)-tt.cut]
				write(t, left, last)
			}
			old := read(t, dir, checkpointFile)
			if tt.back > 0 {
				write(t, oldCheckpoint(t, dir, tt.back), dir, checkpointFile)
			}
			growLog(t, dir, 1)
			r := mustVerify(t, dir, VerifyOptions{Old: [][]byte{old}})
			lost := uint64(tt.records / 3)
			if last != "" && !bytes.Equal(left, read(t, last)) {
				t.Error("what is left was changed")
			}
			if r.Verdict != string(Missing) || r.Findings[0].Block != 7-lost || r.Checkpoint.Size != 8 {
				t.Errorf("%+v", r)
			}
			var gap *Loss
			for rec, err := range mustReader(t, dir).Records() {
				if err == nil && rec.Event == AuditGap {
					l := parseLoss(rec.Raw)
					gap = &l
				}
			}
			if gap == nil || gap.Seq != 22 || gap.Count != tt.records || !strings.Contains(gap.Reason, tt.want) {
				t.Errorf("%+v", gap)
			}
		})
	}
}

func mustReader(t *testing.T, dir string) *Reader {
	t.Helper()
	r, err := NewReader(dir, Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The tree is made anew from the blocks, or from what is left of itself.
func TestTreeRebuilt(t *testing.T) {
	tests := map[string]func(t *testing.T, dir string){
		"no tiles": func(t *testing.T, dir string) { remove(t, filepath.Join(dir, tileDir)) },
		"damaged tile": func(t *testing.T, dir string) {
			write(t, bytes.Repeat([]byte{1}, 7*32), dir, tilePath(0, 0, 7))
		},
		"short bundle": func(t *testing.T, dir string) { write(t, nil, dir, tilePath(entryLevel, 0, 7)) },
		"no tile, and the header of a block damaged": func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, tilePath(0, 0, 7)))
			edit(1, func(t *testing.T, b []forged) []forged { b[0].Last++; return b })(t, dir)
		},
		"an older checkpoint put back": func(t *testing.T, dir string) {
			write(t, oldCheckpoint(t, dir, 3), dir, checkpointFile)
		},
		"no checkpoint, but a history": func(t *testing.T, dir string) { remove(t, filepath.Join(dir, checkpointFile)) },
		"a torn history": func(t *testing.T, dir string) {
			b := read(t, dir, historyFile)
			write(t, append(b, b[:100]...), dir, historyFile)
		},
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			dir := smallLog(t, 7)
			old := read(t, dir, checkpointFile)
			do(t, dir)
			growLog(t, dir, 2)
			r := mustVerify(t, dir, VerifyOptions{Old: [][]byte{old}})
			if strings.Contains(name, "header") {
				if r.Fault() != Altered || r.Findings[0].Block != 2 || len(r.Findings) != 1 {
					t.Errorf("%+v", r)
				}
			} else if r.Verdict != "intact" || r.Intact.Blocks != 9 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A block that was never signed and cannot be read leaves an empty entry.
func TestUnreadableBlock(t *testing.T) {
	dir := t.TempDir()
	b, offsets := makeLog(t, dir, 3)
	b[offsets[1]+50] ^= 1
	writeSegment(t, dir, 0, b)
	growLog(t, dir, 1)
	r := mustVerify(t, dir, VerifyOptions{})
	if r.Fault() != Altered || r.Findings[0].Block != 1 || len(r.Findings) != 1 || r.Checkpoint.Size != 4 {
		t.Errorf("%+v", r)
	}
	entries, err := readBundle(dir, 0, 4)
	if err != nil || len(entries[0]) != headerSize || len(entries[1]) != 0 || len(entries[2]) != headerSize {
		t.Errorf("%x %v", entries, err)
	}
}

// A log of the version before the tree is signed as it is, and verify says so.
func TestLogWithoutTree(t *testing.T) {
	dir := oldLog(t)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Fault() != Unsigned {
		t.Errorf("before: %+v", r)
	}
	growLog(t, dir, 1)
	r := mustVerify(t, dir, VerifyOptions{})
	if r.Verdict != "intact" || r.Intact.Blocks != 4 || r.Unrooted != 3 || len(r.Losses) > 0 {
		t.Errorf("%+v", r)
	}
	edit(0, func(t *testing.T, b []forged) []forged { b[0].stored[9] ^= 1; return b })(t, dir)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Fault() != Altered || r.Findings[0].Block != 0 {
		t.Errorf("changed: %+v", r)
	}
}

// A log is never signed with another key, nor over another past.
func TestOpenRefusesTree(t *testing.T) {
	tests := []struct {
		name, want string
		do         func(t *testing.T, dir string)
	}{
		{"key for others to read", "has mode -rw-r-----", func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, keyFile), 0o640); err != nil {
				t.Fatal(err)
			}
		}},
		{"key missing", "key is missing, and key.pub says that the log was signed", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, keyFile)) }},
		{"key and key.pub missing", "key is missing, and checkpoint says that the log was signed", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, keyFile))
			remove(t, filepath.Join(dir, pubKeyFile))
		}},
		{"key of another log", "is the key of framegate/", func(t *testing.T, dir string) { write(t, read(t, smallLog(t, 1), keyFile), dir, keyFile) }},
		{"not a key", "key: not a signing key", func(t *testing.T, dir string) { write(t, []byte("secret"), dir, keyFile) }},
		{"another key.pub", "key.pub is not the public half", func(t *testing.T, dir string) {
			write(t, read(t, smallLog(t, 1), pubKeyFile), dir, pubKeyFile)
		}},
		{"forged checkpoint", "checkpoint: no signature by the key", func(t *testing.T, dir string) {
			write(t, read(t, smallLog(t, 1), checkpointFile), dir, checkpointFile)
		}},
		{"no tiles, and a block changed", "cannot be made from what is there", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, tileDir))
			edit(0, func(t *testing.T, b []forged) []forged { b[0].Last++; return b })(t, dir)
		}},
	}
	for _, tt := range tests {
		dir := smallLog(t, 3)
		tt.do(t, dir)
		before := read(t, dir, historyFile)
		l, err := Open(Options{Dir: dir})
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !bytes.Equal(before, read(t, dir, historyFile)) {
			t.Errorf("%s: something was signed", tt.name)
		}
	}
	// The public key alone can be made again.
	dir := smallLog(t, 3)
	public := read(t, dir, pubKeyFile)
	remove(t, filepath.Join(dir, pubKeyFile))
	growLog(t, dir, 1)
	if !bytes.Equal(public, read(t, dir, pubKeyFile)) {
		t.Error("another public key")
	}
}
