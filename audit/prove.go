package audit

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Prove makes the proof of the record that bears seq. The record must be covered
// by the checkpoint of the log.
func Prove(dir string, seq uint64) (*Proof, error) {
	vkey, err := ReadKey(dir)
	if err != nil {
		return nil, err
	}
	key, err := newVerifier(vkey)
	if err != nil {
		return nil, err
	}
	p, err := prove(dir, key, seq)
	if errors.Is(err, errNoRecord) {
		if c, _ := loadClaim(dir, key); c != nil && seq < c.nextSeq() {
			return nil, &ExpiredError{seq, c.Expiry}
		}
	}
	return p, err
}

var (
	errNoRecord  = errors.New("the log has no record")
	errUncovered = errors.New("not covered by a checkpoint yet")
)

func prove(dir string, key note.Verifier, seq uint64) (*Proof, error) {
	id, err := readLogID(dir)
	if err != nil {
		return nil, err
	}
	msg, head, err := readCheckpoint(dir, key)
	if err != nil {
		return nil, err
	}
	h, raw, err := findRecord(dir, id, head.Size, seq)
	if err != nil {
		return nil, err
	}
	switch {
	case h.Root == [32]byte{}:
		return nil, fmt.Errorf("record %d is in block %d, which was written before records had a tree: only the whole block can be verified", seq, h.Number)
	case h.Number >= head.Size:
		return nil, fmt.Errorf("record %d is %w", seq, errUncovered)
	}
	p := &Proof{Index: seq - h.FirstSeq, Block: h.Number, Entry: h.append(nil)[8:], Checkpoint: msg}
	if p.Record, p.Path, err = proveLine(raw, p.Index); err != nil {
		return nil, err
	}
	tiles := tlog.TileHashReader(tlog.Tree{N: int64(head.Size), Hash: head.Root}, tileFiles(dir))
	p.TreePath, err = tlog.ProveRecord(int64(head.Size), int64(h.Number), tiles)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tileDir, err)
	}
	_, err = p.check(key)
	return p, err
}

// findRecord returns the block of a record, its header and its lines. The
// entries of the tree say which block it is; a record that they do not know, or
// that is not there, is looked for in all blocks.
func findRecord(dir string, id logID, size, seq uint64) (h header, raw []byte, err error) {
	names, err := segments(dir)
	if err != nil {
		return h, nil, err
	}
	dec, err := newDecoder()
	if err != nil {
		return h, nil, err
	}
	number, known := blockOf(dir, size, seq)
	for {
		for i, name := range names {
			if known && (firstBlock(name) > number || i+1 < len(names) && firstBlock(names[i+1]) <= number) {
				continue
			}
			s, err := openSource(dir, name, id)
			if err != nil {
				return h, nil, err
			}
			b, raw, err := recordIn(s, dec, seq)
			s.close()
			if raw != nil || err != nil {
				return b.header, raw, err
			}
		}
		if !known {
			return h, nil, fmt.Errorf("%w %d", errNoRecord, seq)
		}
		known = false // it is not where the entries say
	}
}

// An ExpiredError says that a record was removed, as the log has on record.
type ExpiredError struct {
	Seq     uint64
	Removal Expiry // the newest one; the record was removed with it or before
}

func (e *ExpiredError) Error() string {
	when := "before " + e.Removal.Time.Format(time.RFC3339)
	if e.Seq >= e.Removal.FirstSeq {
		when = fmt.Sprintf("at %s (%s)", e.Removal.Time.Format(time.RFC3339), e.Removal.Reason)
	}
	return fmt.Sprintf("record %d was removed %s, as record %d says", e.Seq, when, e.Removal.Seq)
}

// blockOf finds the block of a record by the entries of the tree. They are not
// checked here: what is found by them is.
func blockOf(dir string, size, seq uint64) (number uint64, ok bool) {
	var bundle [][]byte
	at := ^uint64(0) // number of the bundle
	entry := func(n uint64) (header, bool) {
		if n/tileWidth != at {
			at = n / tileWidth
			bundle, _ = readBundle(dir, at, int(min(tileWidth, size-at*tileWidth)))
		}
		if n%tileWidth >= uint64(len(bundle)) {
			return header{}, false
		}
		h, err := parseEntry(bundle[n%tileWidth])
		return h, err == nil
	}
	low, high := uint64(0), size // the block is in [low, high)
	for low < high {
		mid := low + (high-low)/2
		n := mid
		h, ok := entry(n)
		for !ok && n > low { // a block that could not be read has no entry
			n--
			h, ok = entry(n)
		}
		switch {
		case !ok:
			low = mid + 1
		case seq < h.FirstSeq:
			high = n
		case seq-h.FirstSeq < uint64(h.Count):
			return n, true
		default:
			low = mid + 1
		}
	}
	return 0, false
}

// recordIn returns the block of s that has the record, if one does.
func recordIn(s *source, dec *zstd.Decoder, seq uint64) (located, []byte, error) {
	for b, err := range s.blocks(0) {
		var damage *DamageError
		if err != nil && !errors.As(err, &damage) {
			return b, nil, err
		}
		if err == nil && seq >= b.FirstSeq && seq-b.FirstSeq < uint64(b.Count) {
			raw, err := s.lines(b, dec)
			return b, raw, err
		}
	}
	return located{}, nil, nil
}

// proveLine returns a line of a block and its path to the root over all.
func proveLine(raw []byte, index uint64) (line []byte, path []tlog.Hash, err error) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			hashes[i] = stored[x]
		}
		return hashes, nil
	})
	n := int64(0)
	for l := range bytes.Lines(raw) {
		l = l[:len(l)-1]
		if uint64(n) == index {
			line = bytes.Clone(l)
		}
		hashes, err := tlog.StoredHashes(n, l, reader)
		if err != nil {
			return nil, nil, err
		}
		stored = append(stored, hashes...)
		n++
	}
	path, err = tlog.ProveRecord(n, int64(index), reader)
	return line, path, err
}

// tileFiles reads the tiles of a directory for tlog, which checks them.
type tileFiles string

func (d tileFiles) Height() int { return tileHeight }

func (d tileFiles) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, t := range tiles {
		b, err := readTile(string(d), t.L, uint64(t.N), t.W)
		if err != nil {
			return nil, err
		}
		data = append(data, b)
	}
	return data, nil
}

func (d tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}
