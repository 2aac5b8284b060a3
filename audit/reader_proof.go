package audit

import (
	"fmt"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// A blockProof holds what is read against the tree of a checkpoint.
type blockProof struct {
	leaves []tlog.Hash // one for each block that the checkpoint covers
	begin  uint64      // what is before it is recorded as removed, and may be there all the same
	next   uint64      // number of the block that has to come
	behind uint64      // records in blocks that the checkpoint does not cover
	hasher leafHasher
}

// Prove makes Records prove what it yields: records of blocks that the signed
// checkpoint of the log covers, and no others. vkey is the public key of the
// log; empty: the one that lies with the log, which proves no more than that
// the log is of one piece. An error says that there is no such proof.
//
// Each block is looked at, without an index, and must be the leaf of the tree
// that its number says. One that is not is damage and is not read; so is one
// that is missing. A reading without damage has therefore yielded every record
// under the checkpoint that the filter chooses. Whether the checkpoint is the
// latest, and goes on from older ones, is for Verify to say.
func (r *Reader) Prove(vkey string) (Checkpoint, error) {
	if vkey == "" {
		var err error
		if vkey, err = ReadKey(r.dir); err != nil {
			return Checkpoint{}, err
		}
	}
	key, err := newVerifier(vkey)
	if err != nil {
		return Checkpoint{}, err
	}
	_, c, err := readCheckpoint(r.dir, key)
	if err != nil {
		return c, err
	}
	removed, _ := loadClaim(r.dir, key) // of one that is not good Verify tells; here it counts for nothing
	p := &blockProof{begin: removed.until()}
	var f frontier
	for n := uint64(0); n*tileWidth < c.Size; n++ {
		data, err := readTile(r.dir, 0, n, int(min(tileWidth, c.Size-n*tileWidth)))
		if err != nil {
			return c, err
		}
		for ; len(data) > 0; data = data[tlog.HashSize:] {
			leaf := tlog.Hash(data[:tlog.HashSize])
			p.leaves = append(p.leaves, leaf)
			f.add(leaf)
		}
	}
	if f.root() != c.Root {
		return c, fmt.Errorf("%s: the hashes are not those of the checkpoint", filepath.Join(r.dir, tileDir))
	}
	r.proof = p
	return c, nil
}

// Unproven returns how many records Records has passed over because the
// checkpoint does not cover them, whether the filter chooses them or not.
func (r *Reader) Unproven() uint64 {
	if r.proof == nil {
		return 0
	}
	return r.proof.behind
}

// admit says whether a block may be read: it is covered, and the leaf of its
// place. It returns what is missing before it as well.
func (p *blockProof) admit(s *source, b located) (ok bool, damage error) {
	switch {
	case b.Number >= uint64(len(p.leaves)):
		p.behind += uint64(b.Count)
		return false, nil
	case p.hasher.hash(b.header.append(nil)[8:]) != p.leaves[b.Number]:
		return false, s.damage(b.off, fmt.Errorf("block %d is not the one that is signed", b.Number))
	case b.Number < p.next:
		return false, s.damage(b.off, fmt.Errorf("block %d is not in its place", b.Number))
	case b.Number > max(p.next, p.begin):
		p.next = max(p.next, p.begin)
		damage = s.damage(b.off, p.missing(b.Number))
	}
	p.next = b.Number + 1
	return true, damage
}

// missing says which blocks before a number did not come.
func (p *blockProof) missing(until uint64) error {
	return missingBlocks(p.next, until)
}

// end returns what is missing behind the last block that came.
func (p *blockProof) end(segment string, off int64) error {
	p.next = max(p.next, p.begin)
	if size := uint64(len(p.leaves)); p.next < size {
		return &DamageError{Segment: segment, Offset: off, Err: p.missing(size)}
	}
	return nil
}
