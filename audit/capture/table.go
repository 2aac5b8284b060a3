package capture

import (
	"container/list"
	"net/netip"
	"time"
)

// A Stream takes the two byte streams of a connection, in order and without
// repetition. A direction's first byte may follow the other's last: only the
// times of packets relate the two.
type Stream interface {
	// Data has the next bytes of a direction, good until it returns. at is the
	// time of the packet that they came in.
	Data(toServer bool, at time.Time, b []byte)

	// Gap says that the next n bytes of a direction are not in the capture. at
	// is the time of the packet that follows, or was cut.
	Gap(toServer bool, at time.Time, n int)

	// Close says that nothing more comes: the connection or the capture ended,
	// or there were too many connections (see Stats).
	Close()
}

// limits bound the memory, however long and hostile a capture is.
type limits struct {
	connections int // in the table; half-open and closed ones go first
	direction   int // bytes that wait for a missing segment, in one direction
	total       int // the same, in all
}

// defaultLimits: 65,536 entries take some 40 MB. A TCP window is rarely above
// 6 MiB, the largest that Linux allows by default (tcp_rmem).
var defaultLimits = limits{connections: 1 << 16, direction: 8 << 20, total: 128 << 20}

// pair is the key of a connection: both ends in ascending order.
type pair [2]netip.AddrPort

// A connection is one entry of the table. Its directions are numbered by the
// end of the pair that sends.
type connection struct {
	pair      pair
	start     time.Time
	client    int // end of the pair; -1: not known yet
	conn      *Conn
	stream    Stream // nil before the first data, or if it is not wanted
	over      bool   // closed or not wanted; kept so that stragglers do not open another
	direction [2]direction
	place     *list.Element // in quiet or live
}

// A table holds the connections of a capture.
type table struct {
	open        func(*Conn) Stream
	limits      limits
	stats       Stats
	connections map[pair]*connection
	quiet       list.List // of *connection: no data yet, or over; oldest first
	live        list.List // of *connection: the others; longest without a packet first
	waiting     list.List // of *direction that wait for a segment; longest first
	held        int       // bytes in them
}

func newTable(open func(*Conn) Stream, limits limits) *table {
	return &table{open: open, limits: limits, connections: make(map[pair]*connection)}
}

// segment puts a segment where it belongs.
func (t *table) segment(s segment) {
	key, from := pair{s.src, s.dst}, 0
	if s.src.Compare(s.dst) > 0 {
		key, from = pair{s.dst, s.src}, 1
	}
	c := t.connections[key]
	switch {
	case c == nil && (s.syn || len(s.data)+s.cut > 0):
		c = t.add(key, s.at)
	case c == nil:
		return // an end of what began before the capture
	case s.syn && c.renewed(from, s.seq+1):
		t.remove(c)
		c = t.add(key, s.at)
	case c.over:
		if len(s.data) > 0 && c.stream != nil {
			t.stats.Stray++
		}
		return
	}
	if c.conn != nil {
		t.live.MoveToBack(c.place)
	}
	d := &c.direction[from]
	if s.rst {
		// "If the RST bit is set and the sequence number is outside the
		// current receive window, silently drop" (RFC 9293, Section 3.10.7.4).
		if ahead := s.seq - d.next; !d.known || ahead <= maxAhead {
			t.close(c)
		} else {
			t.stats.Stray++
		}
		return
	}
	if s.syn {
		if c.client < 0 {
			c.client = from
			if s.ack {
				c.client = 1 - from
			}
		}
		s.seq++
		d.begin(s.seq)
	} else if len(s.data)+s.cut > 0 {
		d.begin(s.seq)
	}
	if c.client < 0 && len(s.data)+s.cut > 0 {
		c.client = c.guess(from, s.data)
	}
	t.push(c, from, s)
	if c.direction[0].done() && c.direction[1].done() {
		t.close(c)
	}
}

// renewed reports whether a SYN that makes first the next sequence number
// begins another connection between the same ports.
func (c *connection) renewed(from int, first uint32) bool {
	d := &c.direction[from]
	return d.known && d.first != first || c.over && !d.known
}

func (t *table) add(key pair, at time.Time) *connection {
	if len(t.connections) >= t.limits.connections {
		oldest := t.quiet.Front()
		if oldest == nil {
			oldest = t.live.Front()
		}
		evicted := oldest.Value.(*connection)
		early := !evicted.over
		t.remove(evicted)
		if early && evicted.stream != nil {
			t.stats.Evicted++
		}
	}
	c := &connection{pair: key, start: at, client: -1}
	for i := range c.direction {
		c.direction[i].owner, c.direction[i].from = c, i
	}
	c.place = t.quiet.PushBack(c)
	t.connections[key] = c
	return c
}

// close hands out what still waits and ends the stream. The entry stays.
func (t *table) close(c *connection) {
	if c.over {
		return
	}
	first := max(c.client, 0)
	t.finish(&c.direction[first])
	t.finish(&c.direction[1-first])
	if c.over {
		return // by announce: it was not wanted
	}
	c.over = true
	if c.stream != nil {
		c.stream.Close()
	}
	if c.conn != nil {
		t.live.Remove(c.place)
		c.place = t.quiet.PushBack(c)
	}
}

func (t *table) remove(c *connection) {
	t.close(c)
	t.quiet.Remove(c.place)
	delete(t.connections, c.pair)
}

// end closes every connection, in the order of their last packets.
func (t *table) end() {
	for e := t.live.Front(); e != nil; e = t.live.Front() {
		t.close(e.Value.(*connection))
	}
	for e := t.quiet.Front(); e != nil; e = t.quiet.Front() {
		t.remove(e.Value.(*connection)) // one without data may have something pending
	}
}

// announce opens the stream of a connection, whose client is known by now.
func (t *table) announce(c *connection) {
	c.conn = &Conn{Client: c.pair[c.client], Server: c.pair[1-c.client], Start: c.start}
	t.stats.Connections++
	t.quiet.Remove(c.place)
	c.place = t.live.PushBack(c)
	if c.stream = t.open(c.conn); c.stream == nil {
		for i := range c.direction {
			t.drop(&c.direction[i])
		}
		t.close(c)
	}
}
