package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// leaves are the leaf hashes of the tree, one for each block that is covered.
type leaves struct {
	// signed is how many of the hashes a signature proves: all if they give the
	// root of the checkpoint, else those of the largest older checkpoint that
	// they give the root of.
	signed uint64
	hashes []tlog.Hash
}

// tree reads the tiles and bundles of the checkpoint. Whichever of the two the
// signatures prove are the leaves: with them each block is judged by itself.
func (v *verification) tree() *leaves {
	size := v.head.Size
	var tiles, bundles []tlog.Hash // zero where not readable
	for n := uint64(0); n*tileWidth < size; n++ {
		w := int(min(tileWidth, size-n*tileWidth))
		hashes := make([]tlog.Hash, w)
		if data := v.tile(0, n, w); data != nil {
			for i := range hashes {
				hashes[i] = tlog.Hash(data[i*tlog.HashSize:])
			}
		}
		tiles = append(tiles, hashes...)
		bundles = append(bundles, v.bundle(n, w)...)
	}
	l := &leaves{v.signedUpTo(tiles), tiles}
	if n := v.signedUpTo(bundles); n > l.signed {
		l.signed, l.hashes = n, bundles
	}
	for i := range tiles {
		if tiles[i] == bundles[i] {
			continue
		}
		n := uint64(i) / tileWidth
		w := int(min(tileWidth, size-n*tileWidth))
		level := entryLevel
		if l.hashes[i] == bundles[i] && uint64(i) < l.signed {
			level = 0
		}
		v.find(Altered, tilePath(level, n, w), uint64(i), "what it has for block %d is not what is signed", i)
	}
	if l.signed == size {
		v.settleMarks(l.hashes)
		v.upperTiles(l.hashes)
	}
	return l
}

// signedUpTo returns how many of these leaf hashes a signature proves.
func (v *verification) signedUpTo(hashes []tlog.Hash) (n uint64) {
	if v.roots(hashes) == v.head.Root {
		return v.head.Size
	}
	var f frontier
	marks := v.marks
	for i := 0; i <= len(hashes); i++ {
		for ; len(marks) > 0 && marks[0].Size == f.size; marks = marks[1:] {
			if marks[0].Root == f.root() {
				n = f.size
			}
		}
		if i < len(hashes) {
			f.add(hashes[i])
		}
	}
	return n
}

// roots returns the root over hashes.
func (v *verification) roots(hashes []tlog.Hash) tlog.Hash {
	var f frontier
	for _, h := range hashes {
		f.add(h)
	}
	return f.root()
}

// settleMarks compares the marks with the tree of these leaves.
func (v *verification) settleMarks(hashes []tlog.Hash) {
	var f frontier
	next := 0
	settle := func() {
		for ; next < len(v.marks) && v.marks[next].Size == f.size; next++ {
			v.marks[next].known, v.marks[next].ok = true, v.marks[next].Root == f.root()
		}
	}
	settle()
	for _, h := range hashes {
		f.add(h)
		settle()
	}
}

// upperTiles checks the tiles above level 0, each a hash of one below.
func (v *verification) upperTiles(hashes []tlog.Hash) {
	for level := 1; ; level++ {
		var above []tlog.Hash
		for ; len(hashes) >= tileWidth; hashes = hashes[tileWidth:] {
			above = append(above, v.roots(hashes[:tileWidth]))
		}
		if len(above) == 0 {
			return
		}
		hashes = above
		for n := 0; n*tileWidth < len(above); n++ {
			part := above[n*tileWidth : min(len(above), (n+1)*tileWidth)]
			first := uint64(n) << (tileHeight * (level + 1))
			data := v.tile(level, uint64(n), len(part))
			for i := 0; data != nil && i < len(part); i++ {
				if tlog.Hash(data[i*tlog.HashSize:]) != part[i] {
					v.find(Altered, tilePath(level, uint64(n), len(part)), first, "hash %d is not that of the tile below it", i)
					break
				}
			}
		}
	}
}

// tile reads a tile, and compares older, narrower ones with it. A log may keep
// them: they must be how it began.
func (v *verification) tile(level int, n uint64, w int) []byte {
	data, err := readTile(v.dir, level, n, w)
	if err != nil {
		v.find(Altered, tilePath(level, n, w), n<<(tileHeight*(level+1)), "%v", err)
		return nil
	}
	v.narrower(level, n, w, func(width int, b []byte) bool { return bytes.Equal(b, data[:width*tlog.HashSize]) })
	return data
}

// bundle returns the leaf hashes of the entries of a bundle.
func (v *verification) bundle(n uint64, w int) []tlog.Hash {
	hashes := make([]tlog.Hash, w)
	entries, err := readBundle(v.dir, n, w)
	if err != nil {
		v.find(Altered, tilePath(entryLevel, n, w), n*tileWidth, "%v", err)
		return hashes
	}
	var l leafHasher
	for i, e := range entries {
		hashes[i] = l.hash(e)
	}
	v.narrower(entryLevel, n, w, func(width int, b []byte) bool { return bytes.Equal(b, joinBundle(entries[:width])) })
	return hashes
}

// narrower looks at the partial tiles that are narrower than w. One that is no
// longer there was removed by the writer.
func (v *verification) narrower(level int, n uint64, w int, same func(width int, b []byte) bool) {
	dir := tilePath(level, n, tileWidth) + ".p"
	files, err := os.ReadDir(filepath.Join(v.dir, dir))
	if err != nil {
		return
	}
	for _, f := range files {
		width, err := strconv.Atoi(f.Name())
		if err != nil || width < 1 || width >= w {
			continue
		}
		path := filepath.Join(dir, f.Name())
		b, err := os.ReadFile(filepath.Join(v.dir, path))
		if err == nil && !same(width, b) {
			v.find(Altered, path, n*tileWidth, "not the beginning of what it has become")
		}
	}
}
