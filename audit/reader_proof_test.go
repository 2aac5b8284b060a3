package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// proved reads under the checkpoint: the records, and whether it was told that
// something is not right.
func proved(t *testing.T, dir, key string, f Filter) (lines []string, damage []error, err error) {
	t.Helper()
	r, err := NewReader(dir, f)
	if err != nil {
		return nil, nil, err
	}
	if _, err := r.Prove(key); err != nil {
		return nil, nil, err
	}
	for rec, err := range r.Records() {
		var d *DamageError
		switch {
		case errors.As(err, &d):
			damage = append(damage, err)
		case err != nil:
			return lines, damage, err
		default:
			lines = append(lines, string(rec.Raw))
		}
	}
	return lines, damage, nil
}

func allLines(t *testing.T, dir string, f Filter) (lines []string) {
	t.Helper()
	for _, r := range mustRead(t, dir, f) {
		lines = append(lines, string(r.Raw))
	}
	return lines
}

func TestProveIntact(t *testing.T) {
	dir := smallLog(t, 7)
	key := strings.TrimSpace(string(read(t, dir, pubKeyFile)))
	for _, f := range []Filter{{}, {Event: ConnOpen}, {From: testTime.AddDate(1, 0, 0)}} {
		for _, k := range []string{"", key} {
			got, damage, err := proved(t, dir, k, f)
			if err != nil || damage != nil || !slices.Equal(got, allLines(t, dir, f)) {
				t.Errorf("%+v: %d records, %v, %v", f, len(got), damage, err)
			}
		}
	}
}

// Whatever is done to a log without its key, nothing is read that was not
// written, and nothing is left out without a word.
func TestProveMutations(t *testing.T) {
	sound := smallLog(t, 7)
	key := strings.TrimSpace(string(read(t, sound, pubKeyFile)))
	want := allLines(t, sound, Filter{})
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			dir := copyLog(t, sound)
			m.do(t, dir)
			got, damage, err := proved(t, dir, key, Filter{})
			for _, line := range got {
				if !slices.Contains(want, line) {
					t.Errorf("was not written: %s", line)
				}
			}
			if err == nil && damage == nil && !slices.Equal(got, want[:len(got)]) {
				t.Errorf("%d records without a word: not the beginning of the log", len(got))
			}
			if err == nil && damage == nil && len(got) < len(want) {
				// Only an older checkpoint covers less.
				r, _ := NewReader(dir, Filter{})
				if c, _ := r.Prove(key); c.Size == 7 {
					t.Errorf("%d records of %d without a word", len(got), len(want))
				}
			}
		})
	}
}

// Who makes the whole tree anew over other records has no signature for it.
func TestProveOtherTree(t *testing.T) {
	dir := smallLog(t, 7)
	edit(1, func(t *testing.T, b []forged) []forged {
		b[1] = b[1].withLines(t, func(l [][]byte) [][]byte {
			l[0] = bytes.Replace(l[0], []byte("allow"), []byte("block"), 1)
			return l
		})
		return b
	})(t, dir)
	retile(t, dir)
	if got, _, err := proved(t, dir, "", Filter{}); err == nil || !strings.Contains(err.Error(), "not those of the checkpoint") {
		t.Errorf("%d records, %v", len(got), err)
	}
}

// An index is not looked at: here it is one that hides everything.
func TestProveWithoutIndex(t *testing.T) {
	dir := smallLog(t, 7)
	f := Filter{Event: ConnOpen}
	want := allLines(t, dir, f)
	mustIndex(t, dir, false)
	forgeFilters(t, dir)
	if hidden := allLines(t, dir, f); hidden != nil {
		t.Fatalf("the forged filters do not hide %q", hidden)
	}
	if got, damage, err := proved(t, dir, "", f); err != nil || damage != nil || !slices.Equal(got, want) {
		t.Errorf("%d records, %v, %v", len(got), damage, err)
	}
}

func TestProveRefuses(t *testing.T) {
	dir := smallLog(t, 2)
	id, err := readLogID(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := note.GenerateKey(nil, id.origin())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := proved(t, dir, other, Filter{}); err == nil || !strings.Contains(err.Error(), "no signature by the key") {
		t.Errorf("another key: %v", err)
	}
	if _, _, err := proved(t, dir, "key", Filter{}); err == nil {
		t.Error("a key that is none was taken")
	}
	for _, name := range []string{pubKeyFile, checkpointFile, tileDir} {
		dir := copyLog(t, dir)
		remove(t, filepath.Join(dir, name))
		if _, _, err := proved(t, dir, "", Filter{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// What comes behind the checkpoint is counted, not read.
func TestProveBehindCheckpoint(t *testing.T) {
	dir := smallLog(t, 3)
	old := read(t, dir, checkpointFile)
	want := allLines(t, dir, Filter{})
	growLog(t, dir, 2)
	write(t, old, dir, checkpointFile)
	r, err := NewReader(dir, Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := r.Prove(""); err != nil || c.Size != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	for range 2 { // each reading counts for itself
		var got []string
		for rec, err := range r.Records() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(rec.Raw))
		}
		if !slices.Equal(got, want) || r.Unproven() != 6 {
			t.Errorf("%d records, %d behind", len(got), r.Unproven())
		}
	}
}
