package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A Reader reads the records of a log that a filter chooses, in the order of
// seq. It writes nothing and takes no lock; the log may be growing. It is for
// one goroutine.
//
// Damage is handed out as a *DamageError among the records, and reading goes on
// behind it: what is sound stays readable. Any other error ends the reading.
type Reader struct {
	// NoIndex makes the reader look at every block, whatever index there is.
	// Zero: an index that fits is used.
	NoIndex bool

	dir   string
	id    logID
	match *matcher
	dec   *zstd.Decoder
	proof *blockProof // nil: nothing is to be proved

	// Where Follow begins: behind the last block that was read.
	segment string
	off     int64
	next    uint64 // number of the block that has to come
	known   bool   // next is
}

// NewReader returns a reader of the log in dir, or an error if there is none or
// f does not compile.
func NewReader(dir string, f Filter) (*Reader, error) {
	m, err := f.compile()
	if err != nil {
		return nil, err
	}
	id, err := readLogID(dir)
	if err != nil {
		return nil, err
	}
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	return &Reader{dir: dir, id: id, match: m, dec: dec}, nil
}

// Dir is the directory of the log.
func (r *Reader) Dir() string { return r.dir }

// Records yields what is in the log now, from its beginning.
func (r *Reader) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		r.segment, r.off, r.next, r.known = "", 0, 0, false
		if r.proof == nil {
			covered := r.covered()
			if r.read(yield) {
				if err := r.cutOff(covered); err != nil {
					yield(Record{}, err)
				}
			}
			return
		}
		r.proof.next, r.proof.behind = 0, 0
		if r.read(yield) {
			if err := r.proof.end(r.segment, r.off); err != nil {
				yield(Record{}, err)
			}
		}
	}
}

// pollEvery is how often Follow looks for new blocks. They come each 50 ms at
// most; a person who watches does not see the difference.
const pollEvery = 200 * time.Millisecond

// Follow yields what comes after Records or Last has ended, until ctx is done.
func (r *Reader) Follow(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for r.read(yield) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pollEvery):
			}
		}
	}
}

// Last returns the last n records in order and moves the reader to the end of
// the log. The records are good even when the error is not nil: it then joins
// the damage that was met.
func (r *Reader) Last(n int) ([]Record, error) {
	covered := r.covered()
	names, err := segments(r.dir)
	if err != nil {
		return nil, err
	}
	var last []Record // newest first
	var damage error
	for i, name := range slices.Backward(names) {
		if i < len(names)-1 && len(last) >= n {
			break
		}
		err := r.lastOf(name, i == len(names)-1, n, &last)
		var d *DamageError
		if err != nil && !errors.As(err, &d) {
			return nil, err
		}
		damage = errors.Join(err, damage)
	}
	slices.Reverse(last)
	return last, errors.Join(damage, r.cutOff(covered))
}

// lastOf adds to last, newest first, until there are n.
func (r *Reader) lastOf(name string, final bool, n int, last *[]Record) error {
	s, err := openSource(r.dir, name, r.id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since its name was read
	}
	if err != nil {
		return err
	}
	defer s.close()
	if final {
		r.segment, r.off, r.next, r.known = name, 0, firstBlock(name), true
	}
	var blocks []located
	var damage error
	for b, err := range s.blocks(0) {
		switch {
		case err == nil:
			blocks = append(blocks, b)
			if final {
				r.off, r.next, r.known = b.off+b.size(), b.Number+1, true
			}
		case !final || !errors.Is(err, errShort):
			damage, r.known = errors.Join(damage, err), false
		}
	}
	for _, b := range slices.Backward(blocks) {
		if len(*last) >= n {
			break
		}
		recs, err := r.block(s, b)
		damage = errors.Join(damage, err)
		for _, rec := range slices.Backward(recs) {
			if len(*last) < n {
				rec.Raw = bytes.Clone(rec.Raw) // not the whole block with it
				*last = append(*last, rec)
			}
		}
	}
	return damage
}

// read yields from where the reader stands to the end of the log. It says
// false when there is nothing more to be had: the caller stopped, or an error.
func (r *Reader) read(yield func(Record, error) bool) bool {
	// The names first, then the files: a segment that is not the last of the
	// names is complete by the time it is read.
	names, err := segments(r.dir)
	if err != nil {
		yield(Record{}, err)
		return false
	}
	for i, name := range names {
		if name < r.segment {
			continue
		}
		if name != r.segment {
			r.segment, r.off = name, 0
		}
		if !r.readSegment(name, i == len(names)-1, yield) {
			return false
		}
	}
	return true
}

func (r *Reader) readSegment(name string, final bool, yield func(Record, error) bool) bool {
	s, err := openSource(r.dir, name, r.id)
	if errors.Is(err, fs.ErrNotExist) {
		r.known = false
		return true // removed since its name was read
	}
	if err != nil {
		yield(Record{}, err)
		return false
	}
	defer s.close()
	if r.off == 0 {
		if !r.expect(s, 0, firstBlock(name), yield) {
			return false
		}
		r.next, r.known = firstBlock(name), true
	}
	if r.off == 0 && !r.NoIndex && r.proof == nil {
		if blocks, last, ok := r.match.byIndex(r.dir, s); ok {
			for _, b := range blocks {
				if !r.hand(s, b, yield) {
					return false
				}
			}
			r.off, r.next = last.off+last.size(), last.Number+1
		}
	}
	for b, err := range s.blocks(r.off) {
		if err == nil {
			if !r.expect(s, b.off, b.Number, yield) {
				return false
			}
			r.off, r.next, r.known = b.off+b.size(), b.Number+1, true
			if !r.hand(s, b, yield) {
				return false
			}
			continue
		}
		if final && errors.Is(err, errShort) {
			return true // still being written
		}
		r.off, r.known = s.size, false // unless a block is found behind the damage
		var damage *DamageError
		if !yield(Record{}, err) || !errors.As(err, &damage) {
			return false
		}
	}
	return true
}

// hand yields the records of a block that the filter chooses, and what damage
// is met in it.
func (r *Reader) hand(s *source, b located, yield func(Record, error) bool) bool {
	if r.proof != nil {
		ok, damage := r.proof.admit(s, b)
		if damage != nil && !yield(Record{}, damage) {
			return false
		}
		if !ok {
			return true
		}
	}
	recs, err := r.block(s, b)
	for _, rec := range recs {
		if !yield(rec, nil) {
			return false
		}
	}
	var damage *DamageError
	return err == nil || yield(Record{}, err) && errors.As(err, &damage)
}

// block returns the records of a block that the filter chooses; with an error,
// those before the damage.
func (r *Reader) block(s *source, b located) ([]Record, error) {
	if !r.match.wantsTime(b.First, b.Last) {
		return nil, nil
	}
	raw, err := s.lines(b, r.dec)
	if err != nil {
		return nil, err
	}
	var recs []Record
	seq := b.FirstSeq
	for line := range bytes.Lines(raw) {
		line = line[: len(line)-1 : len(line)-1]
		if r.match.mayMatch(line) {
			rec := Record{Raw: line}
			if err := json.Unmarshal(line, &rec); err != nil {
				return recs, s.damage(b.off, fmt.Errorf("record %d: %w", seq, err))
			}
			if rec.Seq != seq {
				return recs, s.damage(b.off, fmt.Errorf("record %d bears seq %d", seq, rec.Seq))
			}
			if r.match.match(&rec) {
				recs = append(recs, rec)
			}
		}
		seq++
	}
	return recs, nil
}
