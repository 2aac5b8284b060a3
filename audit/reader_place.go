package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A reading that proves nothing still tells of blocks that are not there, by
// the numbers of the blocks and by what the checkpoint says that there is. That
// finds a segment that was lost and a log that was copied in part. It is no
// protection: who can alter the log can alter these numbers.

// expect yields what is wrong with a block, or the first one of a segment,
// which has this number.
func (r *Reader) expect(s *source, off int64, number uint64, yield func(Record, error) bool) bool {
	switch {
	case r.proof != nil || !r.known || number == r.next: // a proof tells by itself
		return true
	case number < r.next:
		return yield(Record{}, s.damage(off, fmt.Errorf("block %d where block %d should be", number, r.next)))
	case r.removed(number):
		return true
	}
	return yield(Record{}, s.damage(off, missingBlocks(r.next, number)))
}

// removed says whether what is before a block is on record as removed.
func (r *Reader) removed(number uint64) bool {
	vkey, err := ReadKey(r.dir)
	if err != nil {
		return false
	}
	key, err := newVerifier(vkey)
	if err != nil {
		return false
	}
	c, _ := loadClaim(r.dir, key)
	return number <= c.until()
}

// covered returns how many blocks the checkpoint says there are, whoever signed
// it; none if it does not say. It is to be read before the segments: what a
// checkpoint covers is on the disk.
func (r *Reader) covered() uint64 {
	b, err := os.ReadFile(filepath.Join(r.dir, checkpointFile))
	lines := strings.SplitN(string(b), "\n", 3)
	if err != nil || len(lines) < 3 || lines[0] != r.id.origin() {
		return 0
	}
	n, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return 0
	}
	return n
}

// cutOff returns what is missing at the end of a log that was read to there. An
// end that is damaged was told of before.
func (r *Reader) cutOff(covered uint64) error {
	if r.next >= covered || !r.known && r.segment != "" {
		return nil
	}
	return &DamageError{Segment: r.segment, Offset: r.off, Err: missingBlocks(r.next, covered)}
}

// missingBlocks says that blocks from one number up to another are not there.
func missingBlocks(from, until uint64) error {
	if until == from+1 {
		return fmt.Errorf("block %d is missing", from)
	}
	return fmt.Errorf("blocks %d to %d are missing", from, until-1)
}
