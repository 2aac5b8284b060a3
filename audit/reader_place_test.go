package audit

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// damageOf is what a reading tells of damage, with the filter f.
func damageOf(t *testing.T, dir string, f Filter) string {
	t.Helper()
	r, err := NewReader(dir, f)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, err := range r.Records() {
		if err == nil {
			continue
		}
		var damage *DamageError
		if !errors.As(err, &damage) {
			t.Fatal(err)
		}
		got = append(got, err.Error())
	}
	return strings.Join(got, "; ")
}

// A reading that proves nothing tells what is missing, with an index and without.
func TestReadMissing(t *testing.T) {
	sound := smallLog(t, 7)
	mustIndex(t, sound, false)
	tests := []struct {
		name string // of a mutation
		want string // what is told, by its words
		end  bool   // Last tells it too
	}{
		{"block deleted", "seg/000000000002.jsonl.zst: offset 0: block 2 is missing", false},
		{"last block of a segment deleted", "seg/000000000004.jsonl.zst: offset 0: block 3 is missing", false},
		{"last block deleted", "seg/000000000006.jsonl.zst: offset 0: block 6 is missing", true},
		{"block duplicated", ": block 2 where block 3 should be", false},
		{"segment deleted", "seg/000000000004.jsonl.zst: offset 0: blocks 2 to 3 are missing", false},
		{"last segment deleted", ": block 6 is missing", true},
		{"all segments deleted", "seg: offset 0: blocks 0 to 6 are missing", true},
		{"segments swapped", "seg/000000000002.jsonl.zst: offset 0: blocks 2 to 3 are missing", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := copyLog(t, sound)
			for _, m := range mutations {
				if m.name == tt.name {
					m.do(t, dir)
				}
			}
			for name, f := range map[string]Filter{"all": {}, "by the index": {Event: "no.such"}} {
				got := damageOf(t, dir, f)
				if !strings.Contains(got, tt.want) {
					t.Errorf("%s: got %q, want %q", name, got, tt.want)
				}
			}
			if _, err := mustReader(t, dir).Last(100); (err != nil) != tt.end {
				t.Errorf("Last: %v", err)
			}
		})
	}
	t.Run("cut short", func(t *testing.T) {
		dir := copyLog(t, sound)
		whole := read(t, segmentPaths(t, dir)[3])
		for _, n := range []int{0, 1, 143, 144, len(whole) - 1} {
			write(t, whole[:n], segmentPaths(t, dir)[3])
			if got := damageOf(t, dir, Filter{}); got != "seg/000000000006.jsonl.zst: offset 0: block 6 is missing" {
				t.Errorf("cut at %d: %q", n, got)
			}
		}
	})
	t.Run("nothing", func(t *testing.T) {
		for _, without := range []string{"", checkpointFile, pubKeyFile} {
			dir := copyLog(t, sound)
			if without != "" {
				remove(t, filepath.Join(dir, without))
			}
			if got := damageOf(t, dir, Filter{}); got != "" {
				t.Errorf("without %q: %q", without, got)
			}
		}
	})
	t.Run("the checkpoint of another log", func(t *testing.T) {
		dir := copyLog(t, sound)
		write(t, read(t, smallLog(t, 9), checkpointFile), dir, checkpointFile)
		if got := damageOf(t, dir, Filter{}); got != "" {
			t.Errorf("%q", got)
		}
	})
}

// What is on record as removed is not missing, even behind a segment that
// somebody has put back.
func TestReadRemoved(t *testing.T) {
	dir, taken := removedLog(t)
	if got := damageOf(t, dir, Filter{}); got != "" {
		t.Errorf("%q", got)
	}
	first := segmentName(0) // then there is a hole behind it
	write(t, taken[first], dir, segmentDir, first)
	if got := damageOf(t, dir, Filter{}); got != "" {
		t.Errorf("put back: %q", got)
	}
}
