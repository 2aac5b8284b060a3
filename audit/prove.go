package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Prove makes the proof of the record that bears seq. The record must be covered
// by the checkpoint of the log.
func Prove(dir string, seq uint64) (*Proof, error) {
	id, err := readLogID(dir)
	if err != nil {
		return nil, err
	}
	key, msg, head, err := readSigned(dir)
	if err != nil {
		return nil, err
	}
	h, raw, err := findRecord(dir, id, seq)
	if err != nil {
		return nil, err
	}
	switch {
	case h.Root == [32]byte{}:
		return nil, fmt.Errorf("record %d is in block %d, which was written before records had a tree: only the whole block can be verified", seq, h.Number)
	case h.Number >= head.Size:
		return nil, fmt.Errorf("record %d is not covered by a checkpoint yet", seq)
	}
	p := &Proof{Index: seq - h.FirstSeq, Block: h.Number, Entry: h.append(nil)[8:], Checkpoint: msg}
	if p.Record, p.Path, err = proveLine(raw, p.Index); err != nil {
		return nil, err
	}
	tiles := tlog.TileHashReader(tlog.Tree{N: int64(head.Size), Hash: head.Root}, tileFiles(dir))
	path, err := tlog.ProveRecord(int64(head.Size), int64(h.Number), tiles)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tileDir, err)
	}
	p.TreePath = path
	_, err = p.check(key)
	return p, err
}

// readSigned reads the public key and the checkpoint of a log.
func readSigned(dir string) (key note.Verifier, msg []byte, head Checkpoint, err error) {
	vkey, err := ReadKey(dir)
	if err != nil {
		return nil, nil, head, err
	}
	if key, err = newVerifier(vkey); err != nil {
		return nil, nil, head, err
	}
	path := filepath.Join(dir, checkpointFile)
	if msg, err = os.ReadFile(path); err != nil {
		return nil, nil, head, err
	}
	if head, err = openCheckpoint(msg, key); err != nil {
		return nil, nil, head, fmt.Errorf("%s: %w", path, err)
	}
	return key, msg, head, nil
}

// findRecord returns the block of a record, its header and its lines.
func findRecord(dir string, id logID, seq uint64) (h header, raw []byte, err error) {
	names, err := segments(dir)
	if err != nil {
		return h, nil, err
	}
	dec, err := newDecoder()
	if err != nil {
		return h, nil, err
	}
	for _, name := range names {
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
	return h, nil, fmt.Errorf("the log has no record %d", seq)
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
