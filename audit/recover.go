package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A resumption is where a log goes on.
type resumption struct {
	number   uint64    // of the next block
	seq      uint64    // of the next record
	name     string    // of the segment to append to, new or not
	size     int64     // of that segment
	last     time.Time // of the last record found; zero: none
	began    time.Time // earliest time in the first block of the last segment that has one
	cut      int64     // bytes cut off as a torn tail
	left     error     // damage that was left as it is
	unsigned bool      // the log has a key and blocks, but no checkpoint
	gone     covered   // blocks that a checkpoint covers and that are not there
}

// resume finds the end of the log in dir and repairs the tail of its last
// segment. Only what a crash leaves is cut off: bytes behind the last whole
// block that begin as a block of this log does, or that are all zero (a file
// system may have lengthened the file before the data reached the disk).
// Anything else is damage. It is evidence, and stays; the log then goes on in
// a segment of its own.
//
// size is that of the tree over the blocks: what it covers was on the disk, so
// no crash takes it away. Where it is gone all the same, its numbers stay
// taken, for a tree is only ever added to. removed is what is on record as
// removed: the log begins behind it.
func resume(dir string, id logID, size uint64, removed *claim) (resumption, error) {
	r := resumption{number: removed.until(), seq: removed.nextSeq(), name: segmentName(removed.until())}
	names, err := segments(dir)
	if err != nil {
		return r, err
	}
	if len(names) == 0 {
		r.skip(dir, size)
		return r, nil
	}
	lastName := names[len(names)-1]
	end, found, err := r.repair(dir, lastName, id, size)
	if err != nil {
		return r, err
	}
	for i := len(names) - 2; i >= 0 && !found; i-- {
		if _, found, err = r.walk(dir, names[i], id); err != nil {
			return r, err
		}
	}
	r.skip(dir, size)
	if r.left == nil && end > 0 && r.gone.blocks == 0 {
		r.name, r.size = lastName, end
		return r, nil
	}
	// The next block opens a segment, or the last one that has none yet.
	r.name = segmentName(r.number)
	if r.name < lastName || r.left != nil && r.name == lastName {
		if r.left != nil {
			return r, fmt.Errorf("%w: nothing behind it can be read, move the file away", r.left)
		}
		return r, fmt.Errorf("%s should begin with block %d: blocks before it are missing",
			filepath.Join(dir, segmentDir, lastName), r.number)
	}
	return r, nil
}

// skip passes over the numbers of blocks that are gone.
func (r *resumption) skip(dir string, size uint64) {
	if r.number >= size {
		return
	}
	r.gone = covered{from: r.number, blocks: size - r.number}
	seq, known := seqBehind(dir, size, r.seq, r.number)
	if known {
		r.gone.records = seq - r.seq
	}
	r.number, r.seq, r.name = size, seq, segmentName(size)
}

// walk takes the position behind the last whole block of a segment.
func (r *resumption) walk(dir, name string, id logID) (end int64, found bool, err error) {
	s, err := openSource(dir, name, id)
	if err != nil {
		return 0, false, err
	}
	defer s.close()
	return r.scan(s, nil)
}

// scan walks the blocks of s and tells damage about each that is not sound.
// With a nil damage the stored bytes are not looked at.
func (r *resumption) scan(s *source, damage func(off int64, err error)) (end int64, found bool, err error) {
	for b, err := range s.blocks(0) {
		if err == nil && damage != nil {
			_, err = s.stored(b)
		}
		var at *DamageError
		switch {
		case err == nil:
			if !found {
				r.began = time.Unix(0, b.First)
			}
			end, found = b.off+b.size(), true
			r.number, r.seq, r.last = b.Number+1, b.FirstSeq+uint64(b.Count), time.Unix(0, b.Last)
		case !errors.As(err, &at) || errors.Is(err, errNewer):
			return end, found, err
		case damage != nil:
			damage(b.off, err)
		}
	}
	return end, found, nil
}

// repair does the same for the last segment, with its hashes checked, and cuts
// a torn tail off. What stays is brought to the disk, for it is going to be signed.
func (r *resumption) repair(dir, name string, id logID, size uint64) (end int64, found bool, err error) {
	s, err := openSource(dir, name, id)
	if err != nil {
		return 0, false, err
	}
	defer s.close()
	var first error
	var firstAt int64
	end, found, err = r.scan(s, func(off int64, err error) {
		if first == nil {
			first, firstAt = err, off
		}
	})
	if err != nil {
		return end, found, err
	}
	if err := fdatasync(s.f); err != nil {
		return end, found, err
	}
	if first == nil {
		return end, found, nil
	}
	next := r.number
	if !found {
		next = firstBlock(name)
	}
	if firstAt < end || next < size {
		r.left = first
		return end, found, nil
	}
	torn, err := isTorn(io.NewSectionReader(s.f, end, s.size-end), headerPrefix(id))
	if err != nil {
		return end, found, err
	}
	if !torn {
		r.left = first
		return end, found, nil
	}
	f, err := os.OpenFile(filepath.Join(dir, segmentDir, name), os.O_WRONLY, 0)
	if err != nil {
		return end, found, err
	}
	defer f.Close()
	if err := f.Truncate(end); err != nil {
		return end, found, err
	}
	r.cut = s.size - end
	return end, found, fdatasync(f)
}

// isTorn says whether a tail looks as a crash leaves it.
func isTorn(tail io.Reader, prefix []byte) (bool, error) {
	start := make([]byte, len(prefix))
	n, err := io.ReadFull(tail, start)
	if err != nil && err != io.ErrUnexpectedEOF {
		return false, err
	}
	if bytes.HasPrefix(prefix, start[:n]) {
		return true, nil
	}
	rest, err := io.ReadAll(tail)
	if err != nil {
		return false, err
	}
	return len(bytes.Trim(start[:n], "\x00")) == 0 && len(bytes.Trim(rest, "\x00")) == 0, nil
}

// gap is the record of what resume found, or nil if all was well. unclosed says
// that the last writer did not come to the end of Close.
func (r *resumption) gap(unclosed bool) *Event {
	var reasons []string
	if r.cut > 0 {
		reasons = append(reasons, fmt.Sprintf("torn tail of %d bytes after a crash", r.cut))
	}
	if r.left != nil {
		reasons = append(reasons, fmt.Sprintf("damage left as it is: %v", r.left))
	}
	if r.gone.blocks > 0 {
		reasons = append(reasons, r.gone.String())
	}
	if r.unsigned {
		reasons = append(reasons, "the checkpoint of the log is missing: what it had covered is signed as it is now")
	}
	if unclosed {
		reasons = append(reasons, "the log was not closed: records of its last second may be missing")
	}
	if reasons == nil {
		return nil
	}
	return &Event{Event: AuditGap, Reason: strings.Join(reasons, "; "), Gap: &Gap{Count: int64(r.gone.records), Bytes: r.cut, Since: r.last}}
}
