package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Leaf by leaf and in larger steps, the tree is that of x/mod's tlog, and its
// right edge can be read back.
func TestTree(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, x := range indexes {
			hashes = append(hashes, stored[x])
		}
		return hashes, nil
	})
	const size = 700
	var entries [][]byte
	want := make([]tlog.Hash, size+1)
	want[0] = new(frontier).root()
	for i := range size {
		entry := fmt.Appendf(nil, "entry %d", i)
		hashes, err := tlog.StoredHashes(int64(i), entry, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		entries = append(entries, entry)
		if want[i+1], err = tlog.TreeHash(int64(i+1), reader); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []int{1, 3, 100, 256, 257, size} {
		dir := t.TempDir()
		n := notary{dir: dir}
		tr := new(tree)
		for at := 0; at < size; at += step {
			for _, f := range tr.grow(entries[at:min(at+step, size)]) {
				if step > 3 {
					if err := n.write(f); err != nil {
						t.Fatal(err)
					}
				}
			}
			if tr.root() != want[tr.size] {
				t.Fatalf("steps of %d: another root at %d", step, tr.size)
			}
			if step <= 3 {
				continue
			}
			again, err := readTree(dir, tr.size)
			if err != nil {
				t.Fatal(err)
			}
			if again.root() != want[tr.size] || !bytes.Equal(again.bundle, tr.bundle) {
				t.Fatalf("steps of %d: another tree is read at %d", step, tr.size)
			}
			// Every hash, as others read it.
			hashes := tlog.TileHashReader(tlog.Tree{N: int64(tr.size), Hash: want[tr.size]}, tileFiles(dir))
			for i := range tr.size {
				h, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(i))})
				if err != nil || h[0] != tlog.RecordHash(entries[i]) {
					t.Fatalf("leaf %d: %v", i, err)
				}
			}
		}
	}
}

// The example of C2SP tlog-tiles: "a tree of size 70,000 will be represented by
// 273 full level 0 tiles, one partial level 0 tile of width 112, one full level
// 1 tile, one partial level 1 tile of width 17, and one partial level 2 tile of
// width 1".
func TestTileNames(t *testing.T) {
	var names []string
	for _, f := range new(tree).grow(make([][]byte, 70_000)) {
		names = append(names, f.path)
	}
	count := func(prefix string) (n int) {
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				n++
			}
		}
		return n
	}
	if count("tile/0/") != 274 || count("tile/1/") != 2 || count("tile/2/") != 1 || count("tile/entries/") != 274 || len(names) != 551 {
		t.Errorf("%d files", len(names))
	}
	for _, want := range []string{"tile/0/000", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s", want)
		}
	}
	for n, want := range map[uint64]string{1234067: "tile/0/x001/x234/067", 1000: "tile/0/x001/000", 999: "tile/0/999"} {
		if got := tilePath(0, n, tileWidth); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// The layout of docs/AUDIT-FORMAT.md.
func TestKeyAndCheckpoint(t *testing.T) {
	dir := smallLog(t, 1)
	id := strings.TrimSuffix(string(read(t, dir, logIDFile)), "\n")
	if key := string(read(t, dir, keyFile)); !strings.HasPrefix(key, "PRIVATE+KEY+framegate/"+id+"+") || strings.Count(key, "\n") != 1 {
		t.Error("another form of private key")
	}
	if key := string(read(t, dir, pubKeyFile)); !strings.HasPrefix(key, "framegate/"+id+"+") || strings.Count(key, "\n") != 1 {
		t.Errorf("public key %q", key)
	}
	lines := strings.Split(string(read(t, dir, checkpointFile)), "\n")
	if len(lines) != 6 || lines[0] != "framegate/"+id || lines[1] != "1" || lines[3] != "" || !strings.HasPrefix(lines[4], "— framegate/"+id+" ") {
		t.Errorf("checkpoint %q", lines)
	}
	// The last character of the signature has two bits that base64 does not use.
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	b := read(t, dir, checkpointFile)
	last := len(b) - len("A=\n")
	b[last] = digits[strings.IndexByte(digits, b[last])+1]
	write(t, b, dir, checkpointFile)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Fault() != Unsigned {
		t.Errorf("a bit without meaning: %+v", r)
	}
	for _, name := range []string{keyFile, pubKeyFile, checkpointFile, historyFile, tilePath(0, 0, 1)} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	skey, vkey, err := note.GenerateKey(nil, logID{1}.origin())
	if err != nil {
		f.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		f.Fatal(err)
	}
	v, err := newVerifier(vkey)
	if err != nil {
		f.Fatal(err)
	}
	msg, err := signCheckpoint(Checkpoint{Origin: logID{1}.origin(), Size: 7}, signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg)
	f.Add(append(append(bytes.Clone(msg), '\n'), msg...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := openCheckpoint(b, v); err == nil && !bytes.HasPrefix(b, []byte(c.text()+"\n")) {
			t.Fatalf("%q is taken for %+v", b, c)
		}
		notes, rest := splitHistory(b)
		if got := strings.Join(append(notes, rest), "\n"); len(notes) > 0 && got != string(b) || len(notes) == 0 && rest != string(b) {
			t.Fatalf("%q becomes %q and %q", b, notes, rest)
		}
	})
}

func FuzzSplitBundle(f *testing.F) {
	f.Add(joinBundle([][]byte{{1}, nil, make([]byte, headerSize)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if entries, err := splitBundle(b); err == nil && !bytes.Equal(joinBundle(entries), b) {
			t.Fatalf("%x becomes %x", b, entries)
		}
		if h, err := parseEntry(b); err == nil && !bytes.Equal(h.append(nil)[8:], b) {
			t.Fatalf("%x becomes %+v", b, h)
		}
	})
}
