package capture

import (
	"container/list"
	"slices"
	"sort"
	"time"
)

// maxAhead is how far from the next expected byte a segment may be: the largest
// window that TCP can state (RFC 7323, Section 2.3).
const maxAhead = 1 << 30

// pieceCost is what a waiting piece counts besides its bytes. It takes less;
// but to put one in its place moves the others, so their number counts too.
const pieceCost = 512

// A direction puts the segments of one sender in order. Sequence numbers
// compare modulo 2^32 (RFC 9293, Section 3.4).
type direction struct {
	owner *connection
	from  int // the end of the pair that sends

	known bool   // first and next are known
	first uint32 // sequence number of the first byte
	next  uint32 // of the next byte to hand out

	fin  bool
	last uint32 // sequence number of the FIN, if seen

	sent   uint32 // the end of all that is known to have been sent
	sentAt time.Time

	pending []piece // ascending, never overlapping, all above next
	held    int     // what pending costs
	place   *list.Element
}

// A piece is a run of bytes of which the last cut ones were not captured.
type piece struct {
	at   time.Time
	seq  uint32
	data []byte
	cut  int
}

func (p *piece) len() int    { return len(p.data) + p.cut }
func (p *piece) end() uint32 { return p.seq + uint32(p.len()) }

// before reports whether a comes before b.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// split divides a piece after n bytes, of which it has more.
func (p piece) split(n int) (piece, piece) {
	left, right := p, p
	have := min(n, len(p.data))
	left.data, left.cut = p.data[:have], n-have
	right.seq, right.data = p.seq+uint32(n), p.data[have:]
	right.cut = p.len() - n - len(right.data)
	return left, right
}

// begin sets where the stream begins: after the SYN, or at the first data if
// the capture began later.
func (d *direction) begin(seq uint32) {
	if !d.known {
		d.known, d.first, d.next, d.sent = true, seq, seq, seq
	}
}

func (d *direction) done() bool {
	return d.fin && len(d.pending) == 0 && !before(d.next, d.last)
}

// push takes the data of a segment and hands out what is in order now.
func (t *table) push(c *connection, from int, s segment) {
	d := &c.direction[from]
	p := piece{at: s.at, seq: s.seq, data: s.data, cut: s.cut}
	if !d.known || s.seq-d.next > maxAhead && d.next-s.seq > maxAhead {
		if p.len() > 0 {
			t.stats.Stray++
		}
		return
	}
	// An acknowledgement behind a FIN counts that (RFC 9293, Section 3.4), which
	// is no byte.
	if before(d.sent, p.end()) && !(d.fin && p.len() == 0) {
		d.sent, d.sentAt = p.end(), p.at
	}
	if s.fin && !d.fin && !before(p.end(), d.next) {
		d.fin, d.last = true, p.end()
	}
	if old := int(int32(d.next - p.seq)); old > 0 { // a retransmission
		if old >= p.len() {
			return
		}
		_, p = p.split(old)
	}
	if p.len() == 0 {
		return
	}
	if len(d.pending) == 0 && p.seq == d.next {
		t.deliver(d, p)
		return
	}
	t.insert(d, p)
	t.drain(d)
	for d.held > t.limits.direction {
		t.stats.Abandoned++
		t.skip(d)
	}
	for t.held > t.limits.total {
		t.stats.Abandoned++
		t.skip(t.waiting.Front().Value.(*direction))
	}
}

// insert keeps a copy of what is new in p. Of bytes that came twice the first
// ones count, as they do for bytes that were handed out.
func (t *table) insert(d *direction, p piece) {
	at := sort.Search(len(d.pending), func(i int) bool {
		q := &d.pending[i]
		return before(p.seq, q.seq+uint32(len(q.data)))
	})
	for ; p.len() > 0 && at < len(d.pending); at++ {
		q := &d.pending[at]
		if !before(q.seq, p.end()) {
			break
		}
		if gap := int(int32(q.seq - p.seq)); gap > 0 {
			var left piece
			left, p = p.split(gap)
			t.keep(d, at, left)
			continue // with q, which is one farther now
		}
		// A cut of q's is no reason to refuse the bytes.
		if n := len(q.data) - int(int32(p.seq-q.seq)); n >= p.len() {
			return
		} else if n > 0 {
			_, p = p.split(n)
		}
	}
	if p.len() > 0 {
		t.keep(d, at, p)
	}
}

func (t *table) keep(d *direction, at int, p piece) {
	p.data = slices.Clone(p.data)
	d.pending = slices.Insert(d.pending, at, p)
	d.held += len(p.data) + pieceCost
	t.held += len(p.data) + pieceCost
	if d.place == nil {
		d.place = t.waiting.PushBack(d)
	}
}

// drain hands out the pieces that are in order.
func (t *table) drain(d *direction) {
	for len(d.pending) > 0 && !before(d.next, d.pending[0].seq) {
		p := d.pending[0]
		d.pending[0] = piece{}
		d.pending = d.pending[1:]
		d.held -= len(p.data) + pieceCost
		t.held -= len(p.data) + pieceCost
		if len(d.pending) > 0 {
			// What was cut here may have come in another segment.
			room := int(int32(d.pending[0].seq - p.seq))
			p.cut = max(0, min(p.cut, room-len(p.data)))
		}
		t.deliver(d, p)
	}
	if len(d.pending) == 0 {
		t.drop(d)
	}
}

// skip gives up waiting for the bytes before the first pending piece.
func (t *table) skip(d *direction) {
	if n := int(int32(d.pending[0].seq - d.next)); n > 0 {
		t.deliver(d, piece{at: d.pending[0].at, seq: d.next, cut: n})
	}
	t.drain(d)
}

// finish hands out what waits, and says how much is missing at the end.
func (t *table) finish(d *direction) {
	for len(d.pending) > 0 {
		t.skip(d)
	}
	if n := int(int32(d.sent - d.next)); n > 0 {
		t.deliver(d, piece{at: d.sentAt, seq: d.next, cut: n})
	}
}

// drop forgets what is pending.
func (t *table) drop(d *direction) {
	t.held -= d.held
	d.held, d.pending = 0, nil
	if d.place != nil {
		t.waiting.Remove(d.place)
		d.place = nil
	}
}

// deliver hands out a piece that begins at next.
func (t *table) deliver(d *direction, p piece) {
	c := d.owner
	d.next = p.end()
	if c.conn == nil {
		t.announce(c)
	}
	if c.stream == nil {
		return
	}
	toServer := d.from == c.client
	if len(p.data) > 0 {
		c.stream.Data(toServer, p.at, p.data)
	}
	if p.cut > 0 {
		t.stats.Missing += int64(p.cut)
		c.stream.Gap(toServer, p.at, p.cut)
	}
}
