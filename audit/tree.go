package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The tree over the blocks is stored as the tiles of C2SP tlog-tiles
// (https://c2sp.org/tlog-tiles): files of up to 256 hashes, and bundles of the
// 256 entries that the hashes of level 0 are of. An entry is the content of a
// block's header, 136 bytes. It is empty where a block could not be read when
// the tree was brought in step with the blocks after a crash.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	tileDir    = "tile"
	entryLevel = -1 // tlog's level of the entries
)

// tilePath names a tile or bundle below the directory of the log. It is that of
// tlog, but without the height, and with the name that C2SP has for entries.
func tilePath(level int, n uint64, width int) string {
	p := tlog.Tile{H: tileHeight, L: level, N: int64(n), W: width}.Path()
	p = strings.TrimPrefix(p, fmt.Sprintf("%s/%d/", tileDir, tileHeight))
	if rest, ok := strings.CutPrefix(p, "data/"); ok {
		p = "entries/" + rest
	}
	return filepath.Join(tileDir, filepath.FromSlash(p))
}

// A tree is the right edge of the tree over the blocks: all that is needed to
// add to it. A tile that is full is written and then forgotten.
type tree struct {
	size    uint64
	edge    [][]byte // for each level the hashes of the last tile, unless it is full
	bundle  []byte   // the entries of the last bundle, unless it is full
	hashing leafHasher
}

func (t *tree) clone() *tree {
	c := &tree{size: t.size, bundle: slices.Clone(t.bundle)}
	for _, e := range t.edge {
		c.edge = append(c.edge, slices.Clone(e))
	}
	return c
}

// A tileFile is one file that a larger tree needs.
type tileFile struct {
	path string
	data []byte
}

// grow adds entries and returns the files that are new, each after those that
// it is made of.
func (t *tree) grow(entries [][]byte) (files []tileFile) {
	before := t.size
	for _, e := range entries {
		t.bundle = append(binary.BigEndian.AppendUint16(t.bundle, uint16(len(e))), e...)
		h := t.hashing.hash(e)
		t.size++
		if t.size%tileWidth == 0 {
			files = append(files, tileFile{tilePath(entryLevel, t.size/tileWidth-1, tileWidth), t.bundle})
			t.bundle = nil
		}
		files = t.push(0, h, files)
	}
	if len(t.bundle) > 0 && t.size > before {
		files = append(files, tileFile{tilePath(entryLevel, t.size/tileWidth, int(t.size%tileWidth)), t.bundle})
	}
	for l, e := range t.edge {
		shift := tileHeight * l
		if len(e) > 0 && t.size>>shift > before>>shift {
			files = append(files, tileFile{tilePath(l, t.size>>shift/tileWidth, len(e)/tlog.HashSize), e})
		}
	}
	return files
}

// push adds a hash to a level, and the hash of a tile that it fills to the next.
func (t *tree) push(level int, h tlog.Hash, files []tileFile) []tileFile {
	if level == len(t.edge) {
		t.edge = append(t.edge, nil)
	}
	t.edge[level] = append(t.edge[level], h[:]...)
	if len(t.edge[level]) < tileWidth*tlog.HashSize {
		return files
	}
	full := t.edge[level]
	t.edge[level] = nil
	n := t.size>>(tileHeight*level)/tileWidth - 1
	files = append(files, tileFile{tilePath(level, n, tileWidth), full})
	return t.push(level+1, hashTile(full, nil), files)
}

// hashTile is the Merkle tree hash over the hashes of a tile and what lies to
// the right of them, if anything does.
func hashTile(data []byte, right *tlog.Hash) tlog.Hash {
	var f frontier
	for ; len(data) > 0; data = data[tlog.HashSize:] {
		f.add(tlog.Hash(data[:tlog.HashSize]))
	}
	if right != nil {
		f.add(*right)
	}
	return f.root()
}

// root is the Merkle tree hash over all entries. What lies to the right of the
// hashes of one level is less than one more of them, so it takes the place of
// the last leaf there: section 2.1 of RFC 6962 splits both lists alike.
func (t *tree) root() tlog.Hash {
	var right *tlog.Hash
	for _, e := range t.edge {
		if len(e) > 0 {
			h := hashTile(e, right)
			right = &h
		}
	}
	if right == nil {
		return hashTile(nil, nil)
	}
	return *right
}

// readTile reads a tile or a bundle of the given width; one that is full, or
// wider, holds it too ("clients MAY fetch the full tile in parallel as a
// fallback in case the partial tile is not available anymore").
func readTile(dir string, level int, n uint64, width int) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, tilePath(level, n, width)))
	if errors.Is(err, fs.ErrNotExist) && width < tileWidth {
		var e error
		if b, e = os.ReadFile(filepath.Join(dir, tilePath(level, n, tileWidth))); e != nil {
			return nil, err
		}
		if level == entryLevel {
			entries, err := splitBundle(b)
			if err != nil {
				return nil, err
			}
			return joinBundle(entries[:min(width, len(entries))]), nil
		}
		b = b[:min(width*tlog.HashSize, len(b))]
	} else if err != nil {
		return nil, err
	}
	if level != entryLevel && len(b) != width*tlog.HashSize {
		return nil, fmt.Errorf("%s: %d bytes, expected %d hashes", tilePath(level, n, width), len(b), width)
	}
	return b, nil
}

// readBundle returns the entries of a bundle.
func readBundle(dir string, n uint64, width int) ([][]byte, error) {
	b, err := readTile(dir, entryLevel, n, width)
	if err != nil {
		return nil, err
	}
	entries, err := splitBundle(b)
	if err == nil && len(entries) != width {
		err = fmt.Errorf("%d entries, expected %d", len(entries), width)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tilePath(entryLevel, n, width), err)
	}
	return entries, nil
}

// splitBundle takes a bundle apart: "sequences of big-endian uint16
// length-prefixed log entries".
func splitBundle(b []byte) (entries [][]byte, err error) {
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, errors.New("the last entry is cut short")
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		entries = append(entries, b[2:n:n])
		b = b[n:]
	}
	return entries, nil
}

func joinBundle(entries [][]byte) (b []byte) {
	for _, e := range entries {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(e))), e...)
	}
	return b
}

// readTree reads the right edge of the tree of the given size.
func readTree(dir string, size uint64) (*tree, error) {
	t := &tree{size: size}
	var err error
	if w := int(size % tileWidth); w > 0 {
		entries, err := readBundle(dir, size/tileWidth, w)
		if err != nil {
			return nil, err
		}
		t.bundle = joinBundle(entries)
	}
	for l := 0; size > 0; l++ {
		var e []byte
		if w := int(size % tileWidth); w > 0 {
			if e, err = readTile(dir, l, size/tileWidth, w); err != nil {
				return nil, err
			}
		}
		t.edge = append(t.edge, e)
		size /= tileWidth
	}
	return t, nil
}
