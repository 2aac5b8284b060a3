package audit

import (
	"cmp"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// readClaim reads what the log says of its removals. Its checkpoint is one more
// that the log must agree with.
func (v *verification) readClaim(key note.Verifier) {
	c, err := readClaim(v.dir, key)
	if err != nil {
		v.find(Altered, expiredFile, 0, "%v", err)
		return
	}
	if v.claim = c; c != nil {
		v.marks = append(v.marks, mark{Checkpoint: c.checkpoint, place: expiredFile})
	}
}

// checkClaim looks for a newer record of a removal, if the log begins behind
// what the file says, and compares what it says with the entries of the tree.
func (v *verification) checkClaim(key note.Verifier) error {
	c, err := newestClaim(v.dir, key, v.claim)
	if err != nil {
		return err
	}
	if c != v.claim {
		v.note("%s is not the newest record of a removal, which was looked for in the log", expiredFile)
	}
	if c == nil || c.checkpoint.Size > v.head.Size {
		v.claim = nil
		return nil
	}
	v.claim = c
	if seq := v.firstSeq(c.until()); seq != 0 && seq != c.nextSeq() {
		v.find(Missing, expiredFile, 0, "record %d says that records up to %d are removed, the blocks that it names have those up to %d", c.Seq, c.LastSeq, seq-1)
		v.claim = nil
	}
	return nil
}

// removals puts into the report what is on record as removed. A record with the
// first block of an earlier one repeats it: the gateway was killed in between.
func (v *verification) removals() {
	r := v.report
	all := make([]Expiry, 0, len(r.Expired)+1)
	for _, e := range r.Expired {
		if v.claim == nil || e.Seq < v.claim.Seq {
			all = append(all, e)
		} else if e.Seq > v.claim.Seq {
			v.note("record %d says that blocks %d to %d are removed: they are about to be", e.Seq, e.FirstBlock, e.LastBlock)
		}
	}
	if v.claim != nil {
		r.ExpiredBlocks, r.ExpiredSeq = v.claim.until(), v.claim.LastSeq
		all = append(all, v.claim.Expiry)
	}
	slices.SortStableFunc(all, func(a, b Expiry) int { return cmp.Compare(b.Seq, a.Seq) })
	r.Expired = slices.CompactFunc(all, func(a, b Expiry) bool { return a.FirstBlock == b.FirstBlock })
	slices.Reverse(r.Expired)
	if p := r.Present; p != nil {
		v.note("blocks %d to %d are there, though they are on record as removed: they are as they were signed", p.FirstBlock, p.lastBlock)
	}
}
