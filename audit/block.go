package audit

import (
	"crypto/sha256"
	"math"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/tlog"
)

// A chunk carries the records of one call of Record to the writer, each encoded
// but for its seq, with the newline.
type chunk struct {
	buf  []byte
	recs []chunkRecord
	next int  // first of recs that is not yet in a block
	sign bool // a checkpoint is due behind the last of recs

	receipt chan<- uint64 // gets the seq of the last of recs; nil: nobody waits for it
	durable chan struct{} // closed when the recs are on the disk; nil: nobody waits for it

	arrivals []arrival // of what came from other processes

	room *room // where cost was taken; nil: nowhere
	cost int64
}

type chunkRecord struct {
	end int   // in buf
	ns  int64 // time of the event
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// free gives c back, unless a large payload has made it too big to keep.
func (c *chunk) free() {
	if c.room != nil {
		c.room.give(c.cost)
		c.room, c.cost = nil, 0
	}
	c.durable, c.arrivals = nil, nil
	if cap(c.buf) > 1<<20 {
		return
	}
	c.buf, c.recs, c.next, c.sign, c.receipt = c.buf[:0], c.recs[:0], 0, false, nil
	chunks.Put(c)
}

// add encodes e, or says false if its record would be longer than the format
// allows.
func (c *chunk) add(e *Event) bool {
	start := len(c.buf)
	t := e.Time
	if t.IsZero() {
		t = time.Now()
	}
	c.buf = e.appendFields(c.buf, t)
	c.buf = append(c.buf, '\n')
	if len(c.buf)-start > maxRecord-longestSeq {
		c.buf = c.buf[:start]
		return false
	}
	c.recs = append(c.recs, chunkRecord{end: len(c.buf), ns: unixNano(t)})
	c.sign = c.sign || e.Event == PolicyLoad
	return true
}

// peek returns record i.
func (c *chunk) peek(i int) (line []byte, ns int64) {
	start := 0
	if i > 0 {
		start = c.recs[i-1].end
	}
	return c.buf[start:c.recs[i].end], c.recs[i].ns
}

// count is how many records of chunks are still to be written.
func count(held []*chunk) (n int64) {
	for _, c := range held {
		n += int64(len(c.recs) - c.next)
	}
	return n
}

// unixNano is t in nanoseconds, at the ends of int64 where t is outside.
func unixNano(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// A block collects records until it is full or old enough to be written.
type block struct {
	raw         []byte
	firstSeq    uint64
	count       uint32
	first, last int64
}

// longestSeq is how much the writer at most puts before a record.
const longestSeq = len(`{"seq":18446744073709551615`)

// fits says whether a record of n bytes may still be added.
func (b *block) fits(n int) bool {
	return b.count == 0 || b.count < maxCount && len(b.raw)+longestSeq+n <= maxRaw
}

func (b *block) add(seq uint64, line []byte, ns int64) {
	if b.count == 0 {
		b.firstSeq, b.first, b.last = seq, ns, ns
	}
	b.raw = append(appendSeq(b.raw, seq), line...)
	b.count++
	b.first, b.last = min(b.first, ns), max(b.last, ns)
}

func (b *block) reset() {
	b.count = 0
	b.raw = b.raw[:0]
	if cap(b.raw) > 4*maxRaw {
		b.raw = nil
	}
}

// encode appends the block as it is stored: header frame, zstd frame. The root
// is taken beside the compression, which costs about as much.
func (b *block) encode(dst []byte, enc *zstd.Encoder, id logID, number uint64) []byte {
	root := make(chan tlog.Hash, 1)
	go func() { root <- recordsRoot(b.raw) }()
	start := len(dst)
	dst = append(dst, make([]byte, headerFrame)...)
	dst = enc.EncodeAll(b.raw, dst)
	stored := dst[start+headerFrame:]
	h := header{
		ID: id, Number: number, FirstSeq: b.firstSeq, Count: b.count, First: b.first, Last: b.last,
		RawLen: uint32(len(b.raw)), StoredLen: uint32(len(stored)), Stored: sha256.Sum256(stored), Root: <-root,
	}
	h.append(dst[:start])
	return dst
}
