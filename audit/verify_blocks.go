package audit

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A blockPass compares the blocks with the leaves, in the order of the log.
//
// A block is genuine if it is what the tree has under its number. All else that
// lies between two genuine blocks is an oddity; what the genuine blocks before
// and behind it are then says what has happened: nothing is missing, so it was
// put in; something is missing, so it took the place of that.
type blockPass struct {
	v      *verification
	leaves *leaves
	size   uint64 // of the tree
	signed uint64 // how many blocks a signature proves

	begin  uint64 // what is before it is on record as removed
	next   uint64 // number of the next genuine block
	seq    uint64 // of the record behind the last genuine block; 0: not known
	oddity *Finding
	holes  []hole
	late   bool        // a hole is where the log begins
	hashes []tlog.Hash // of the genuine blocks
	tail   *piece      // what the end of the log cuts short

	run       run            // the first run of intact blocks
	ended     bool           // it is at its end
	upTo      map[uint64]run // how it was at the sizes of the marks
	uncovered Span
}

// A hole is a run of blocks that are missing for no visible reason, from one
// number up to another.
type hole struct {
	from, to uint64
	finding  int
}

// A run is what the report needs of intact blocks.
type run struct {
	Span
	unrooted uint64
	losses   []Loss
	expiries []Expiry
}

// blocks walks the log.
func (v *verification) blocks(l *leaves) (*blockPass, error) {
	b := &blockPass{v: v, leaves: l, size: v.head.Size, signed: l.signed, begin: v.claim.until(), seq: 1, upTo: make(map[uint64]run)}
	for _, m := range v.marks {
		b.upTo[m.Size] = run{}
	}
	b.upTo[l.signed] = run{}
	err := v.walk(l, func(p *piece) error {
		switch {
		case p.block != nil:
			return b.block(p)
		case p.damage != nil:
			if errors.Is(p.damage, errNewer) && b.genuine(p) {
				return &DamageError{Segment: p.s.name, Offset: p.off, Err: errNewer}
			}
			b.damaged(p)
		}
		return nil
	})
	return b, err
}

// genuine says whether a header that cannot be read is the one that was signed:
// then the log is not altered, but for another program to verify.
func (b *blockPass) genuine(p *piece) bool {
	var content [headerSize]byte
	if _, err := p.s.f.ReadAt(content[:], p.off+headerFrame-headerSize); err != nil || b.next >= b.signed {
		return false
	}
	var lh leafHasher
	return lh.hash(content[:]) == b.leaves.hashes[b.next]
}

func (b *blockPass) block(p *piece) error {
	if p.unreadable != nil {
		return p.unreadable
	}
	h := &p.block.header
	switch {
	case h.Number < b.leaves.signed && p.leaf != b.leaves.hashes[h.Number]:
		b.odd(p, "not block %d as it was signed", h.Number)
		return nil
	case h.Number < b.next:
		b.moved(p, h.Number)
		return nil
	case h.Number >= b.size && h.Number != max(b.next, b.size):
		b.odd(p, "block %d where block %d should be", h.Number, b.next)
		return nil
	}
	if h.Number > b.next && b.next < b.begin && b.oddity == nil {
		b.next = min(b.begin, h.Number)
		b.seq = b.v.firstSeq(b.next)
	}
	if h.Number > b.next {
		b.missing(p.place(), h.Number)
	} else if b.oddity != nil {
		b.flush() // put in between
	}
	if p.first && firstBlock(p.s.name) != h.Number {
		b.v.find(Altered, filepath.Join(segmentDir, p.s.name), h.Number, "the file begins with block %d, which is not its name", h.Number)
	}
	b.hashes = append(b.hashes, p.leaf)
	b.next = h.Number + 1
	if b.seq != 0 && h.FirstSeq != b.seq {
		b.v.find(Missing, p.place(), h.Number, "record %d where record %d should be", h.FirstSeq, b.seq)
	}
	b.seq = h.FirstSeq + uint64(h.Count)
	switch {
	case p.err != nil:
		b.v.find(Altered, p.place(), h.Number, "block %d: %v", h.Number, p.err)
		b.ended = b.run.Blocks > 0
	case h.Number >= b.size:
		b.uncovered.add(h)
	case h.Number < b.begin:
		if b.v.report.Present == nil {
			b.v.report.Present = new(Span)
		}
		b.v.report.Present.add(h)
	default:
		b.count(h, p)
	}
	return nil
}

// odd remembers the first oddity since the last genuine block.
func (b *blockPass) odd(p *piece, format string, args ...any) {
	if b.oddity == nil {
		b.oddity = &Finding{Altered, p.place(), b.next, fmt.Sprintf(format, args...)}
	}
}

func (b *blockPass) flush() {
	b.v.find(b.oddity.Fault, b.oddity.Place, b.oddity.Block, "%s", b.oddity.Reason)
	b.oddity = nil
}

func (b *blockPass) damaged(p *piece) {
	short := errors.Is(p.damage, errShort)
	if short && p.cut != nil && b.next < b.leaves.signed {
		var lh leafHasher
		short = lh.hash(p.cut.append(nil)[8:]) == b.leaves.hashes[b.next]
	}
	switch {
	case p.last && (errors.Is(p.damage, errShort) || p.s.torn(p.off)) && b.next >= b.size && b.oddity == nil:
		b.tail = p
	case !short:
		b.odd(p, "%v", p.damage)
	}
	// A file that is cut short is no oddity: what it lacks is missing.
}

// missing is called at a genuine block that comes too late, or at the end.
func (b *blockPass) missing(place string, until uint64) {
	from := b.next
	if b.oddity != nil {
		b.flush()
	} else {
		i := b.v.find(Missing, place, from, "%s missing here", numbered(from, until))
		b.holes = append(b.holes, hole{from, until, i})
		b.late = b.late || from == b.begin
	}
	b.seq = b.v.firstSeq(until)
	b.ended = b.run.Blocks > 0
}

func numbered(from, until uint64) string {
	if from+1 == until {
		return fmt.Sprintf("block %d is", from)
	}
	return fmt.Sprintf("blocks %d to %d are", from, until-1)
}

// firstSeq is the seq that the entry of the block before says; 0: not known.
func (v *verification) firstSeq(number uint64) uint64 {
	if number == 0 {
		return 1
	}
	n := (number - 1) / tileWidth
	entries, err := readBundle(v.dir, n, int(min(tileWidth, v.head.Size-n*tileWidth)))
	if err != nil {
		return 0
	}
	h, err := parseEntry(entries[(number-1)%tileWidth])
	if err != nil {
		return 0
	}
	return h.FirstSeq + uint64(h.Count)
}

// moved is called at a block that comes behind one with a greater number. If it
// was missing before, it was not lost but moved.
func (b *blockPass) moved(p *piece, number uint64) {
	for _, h := range b.holes {
		if h.from <= number && number < h.to {
			f := &b.v.report.Findings[h.finding]
			f.Fault = Altered
			f.Reason = fmt.Sprintf("block %d is not here but at %s", number, p.place())
			return
		}
	}
	b.v.find(Altered, p.place(), number, "block %d comes a second time", number)
}

// count adds an intact block to the first run of them.
func (b *blockPass) count(h *header, p *piece) {
	if b.ended {
		return
	}
	r := &b.run
	r.add(h)
	if h.Root == [32]byte{} {
		r.unrooted++
	}
	r.losses = append(r.losses, p.losses[:min(len(p.losses), maxFindings-len(r.losses))]...)
	r.expiries = append(r.expiries, p.expiries[:min(len(p.expiries), maxFindings-len(r.expiries))]...)
	if _, ok := b.upTo[h.Number+1]; ok {
		b.upTo[h.Number+1] = *r
	}
}

func (s *Span) add(h *header) {
	from, to := time.Unix(0, h.First).UTC(), time.Unix(0, h.Last).UTC()
	if s.Blocks == 0 {
		s.FirstBlock, s.FirstSeq = h.Number, h.FirstSeq
	}
	if s.From == nil || from.Before(*s.From) {
		s.From = &from
	}
	if s.To == nil || to.After(*s.To) {
		s.To = &to
	}
	s.Blocks++
	s.lastBlock = h.Number
	s.Records += uint64(h.Count)
	s.LastSeq = h.FirstSeq + uint64(h.Count) - 1
}

// finish judges the end of the log. closed says that nobody writes it, and
// nobody was killed writing it.
func (b *blockPass) finish(closed bool) {
	v := b.v
	if b.oddity == nil {
		b.next = max(b.next, min(b.begin, b.size))
	}
	switch {
	case b.oddity != nil:
		b.flush()
	case b.next < b.size:
		v.find(Truncated, segmentDir, b.next, "the log ends too early: %s missing", numbered(b.next, b.size))
	case b.tail != nil && closed:
		v.find(Altered, b.tail.place(), b.next, "%d bytes behind the last block of a log that was closed", b.tail.s.size-b.tail.off)
	case b.tail != nil:
		v.note("%s: %d bytes of a block that is being written, or was when the gateway was killed", b.tail.place(), b.tail.s.size-b.tail.off)
	}
	if b.uncovered.Blocks > 0 && closed {
		v.find(Altered, segmentDir, b.size, "%d blocks behind the last checkpoint of a log that was closed", b.uncovered.Blocks)
	}
	v.report.Uncovered = b.uncovered
	if b.signed < b.size && uint64(len(b.hashes)) >= b.size && v.roots(b.hashes[:b.size]) == v.head.Root {
		b.signed = b.size
		v.settleMarks(b.hashes[:b.size])
	}
}

// intact puts the first run of intact blocks into the report, as far as the
// checkpoints agree with it.
func (b *blockPass) intact(limit uint64) {
	r := b.run
	if r.FirstBlock+r.Blocks > limit {
		r = b.upTo[limit]
	}
	b.v.report.Intact, b.v.report.Unrooted, b.v.report.Losses = r.Span, r.unrooted, r.losses
	b.v.report.Expired = r.expiries
}
