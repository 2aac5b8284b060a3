package audit

import (
	"fmt"
	"math"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A ledger knows of each whole segment what is needed to say whether it must be
// kept. It reads the entries of the tree, not the segments.
type ledger struct {
	dir     string
	longest uint64 // the longest step of time that counts, in nanoseconds

	base  stretch   // ends where whole begins
	whole []stretch // oldest first
	tail  stretch   // behind them, as far as it is signed
}

// A stretch is a run of blocks, such as those of a segment.
type stretch struct {
	from, to    uint64 // numbers of blocks
	seq         uint64 // behind its last record
	records     uint64
	bytes       int64
	known       bool   // it has an entry that says something
	first, last int64  // earliest and latest time of a record
	end         int64  // latest time in its last block
	passed      uint64 // the time that it has seen pass since the block before it, in nanoseconds
}

// newLedger begins behind what is removed. A step of time counts as no more than
// a week, or an eighth of keep: a clock that jumps ahead then makes the log
// older by that, and not by what it jumps.
func newLedger(dir string, keep time.Duration, c *claim) ledger {
	l := ledger{dir: dir, longest: uint64(min(7*24*time.Hour, keep/8))}
	l.base = stretch{to: c.until(), seq: c.nextSeq(), end: math.MaxInt64} // no step from there
	return l
}

// next is an empty stretch behind s.
func (s *stretch) next() stretch {
	return stretch{from: s.to, to: s.to, seq: s.seq, end: s.end}
}

// since is the time from one point to another; none if it runs backwards.
func since(from, to int64) uint64 {
	if to <= from {
		return 0
	}
	return uint64(to) - uint64(from)
}

// read takes in the segments that are whole and signed by now. current is the
// first block of the one that is written.
func (l *ledger) read(head Checkpoint, current uint64) error {
	names, err := segments(l.dir)
	if err != nil {
		return err
	}
	s := l.behind()
	for _, name := range names {
		to := firstBlock(name)
		if to <= s.from || to > min(head.Size, current) {
			continue
		}
		if err := l.extend(&s, head, to); err != nil {
			return err
		}
		l.whole = append(l.whole, s)
		s = s.next()
	}
	l.tail = s
	return l.extend(&l.tail, head, head.Size)
}

// behind is an empty stretch behind the whole ones.
func (l *ledger) behind() stretch {
	if n := len(l.whole); n > 0 {
		return l.whole[n-1].next()
	}
	return l.base.next()
}

func (l *ledger) extend(s *stretch, head Checkpoint, to uint64) error {
	return signedEntries(l.dir, head, s.to, to, func(n uint64, entry []byte, _ tlog.Hash) {
		s.to = n + 1
		h, err := parseEntry(entry)
		if err != nil {
			return // a block that could not be read when it was signed
		}
		if !s.known {
			s.known, s.first, s.last = true, h.First, h.Last
		}
		s.first, s.last = min(s.first, h.First), max(s.last, h.Last)
		s.passed += min(since(s.end, h.Last), l.longest)
		s.end = h.Last
		s.seq = h.FirstSeq + uint64(h.Count)
		s.records += uint64(h.Count)
		s.bytes += h.size()
	})
}

// drop forgets what is removed.
func (l *ledger) drop(until uint64) {
	for len(l.whole) > 0 && l.whole[0].to <= until {
		l.base, l.whole = l.whole[0], l.whole[1:]
	}
}

// older returns how many segments, from the oldest, are to go because no record
// of them is younger than keep, by two measures, both of which must hold. One is
// the clock: from the latest record, or one of a later segment that bears an
// earlier time, until now. The other is the time that the log has itself seen
// pass since, from block to block and until now, each step counted as at most
// longest.
func (l *ledger) older(now time.Time, keep time.Duration) (n int) {
	clock := unixNano(now)
	latest := int64(math.MaxInt64)
	if l.tail.known {
		latest = l.tail.last
	}
	passed := l.tail.passed + min(since(l.tail.end, clock), l.longest)
	for i := len(l.whole) - 1; i >= 0; i-- {
		s := &l.whole[i]
		if s.known {
			latest = min(latest, s.last)
		}
		if passed >= uint64(keep) && since(latest, clock) >= uint64(keep) {
			return i + 1
		}
		passed += s.passed
	}
	return 0
}

// larger returns how many segments, from the oldest, are to go so that the log
// can grow by one more before it is larger than most. Never does so much go at
// once that less than half of that is left, but for single blocks: a file that
// somebody has taken away cannot make two segments into one that goes whole.
func (l *ledger) larger(most, segment int64) (n int) {
	total := l.tail.bytes
	for i := range l.whole {
		total += l.whole[i].bytes
	}
	for i := range l.whole {
		s := &l.whole[i]
		if total <= most-segment || total-s.bytes < most/2 && s.to-s.from > 1 {
			return i
		}
		total -= s.bytes
	}
	return len(l.whole)
}

// sum puts the first n segments together.
func (l *ledger) sum(x *Expired, n int) {
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range l.whole[:n] {
		s := &l.whole[i]
		if s.known {
			first, last = min(first, s.first), max(last, s.last)
		}
		x.Count += s.records
		x.Bytes += s.bytes
	}
	x.FirstBlock, x.LastBlock = l.whole[0].from, l.whole[n-1].to-1
	x.FirstSeq, x.LastSeq = l.base.seq, l.whole[n-1].seq-1
	x.From, x.To = time.Unix(0, first), time.Unix(0, last)
}

// earliest is the earliest time of a record that is kept; zero: not known.
func (l *ledger) earliest() (t time.Time) {
	first := int64(math.MaxInt64)
	for _, s := range append(l.whole[:len(l.whole):len(l.whole)], l.tail) {
		if s.known {
			first = min(first, s.first)
		}
	}
	if first < math.MaxInt64 {
		t = time.Unix(0, first)
	}
	return t
}

// signedEntries yields the entries of blocks, each as the checkpoint has it.
func signedEntries(dir string, c Checkpoint, from, to uint64, yield func(n uint64, entry []byte, leaf tlog.Hash)) error {
	tiles := tlog.TileHashReader(tlog.Tree{N: int64(c.Size), Hash: c.Root}, tileFiles(dir))
	var hasher leafHasher
	for from < to {
		bundle := from / tileWidth
		width := int(min(tileWidth, c.Size-bundle*tileWidth))
		entries, err := readBundle(dir, bundle, width)
		if err != nil {
			return err
		}
		var indexes []int64
		for n := from; n < min(to, (bundle+1)*tileWidth); n++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, int64(n)))
		}
		hashes, err := tiles.ReadHashes(indexes)
		if err != nil {
			return fmt.Errorf("%s: %w", tileDir, err)
		}
		for _, h := range hashes {
			entry := entries[from%tileWidth]
			if hasher.hash(entry) != h {
				return fmt.Errorf("%s: what it has for block %d is not what is signed", filepath.Join(dir, tilePath(entryLevel, bundle, width)), from)
			}
			yield(from, entry, h)
			from++
		}
	}
	return nil
}
