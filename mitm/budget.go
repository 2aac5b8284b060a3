package mitm

import (
	"cmp"
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"framegate/frames"
)

// A budget bounds, over all connections, the memory of messages that wait for
// their verdict or for a receiver that is slow in taking them. To refuse new
// connections does not help there: those that are open may each hold a message
// of [Settings.Hold]. So who would hold more than the small buffers of a
// direction takes a claim first, and if there is no room it waits, which is to
// say that it does not read: TCP then stops the sender. Nothing is dropped.
//
// # Why nobody waits for ever
//
// A claim is for all that its message may come to, and a direction has one at a
// time, so that who has one never waits for more. Waiters are served in order of
// arrival, and those behind do not get what the first one lacks. A message that
// is larger than the budget passes alone.
//
// The peers may close a circle that the gateway has not: a server that does not
// read while it writes cannot take its message, whose claim is what the answer of
// another such server waits for. So a part of the budget, an eighth, is for
// connections of which the other direction has a claim, and for nobody else. One
// of them always gets it, be its message larger than that. If that one is not taken either, then both of its peers
// write and do not read, and would have stood still without a gateway.
//
// No client (its address, of IPv6 its /64) gets more than half of the budget at a
// time. Who waits because of that holds up only those of the same client.
//
// # Who has a claim and does nothing
//
// A sender that stops within its message keeps what it has claimed, and so does a
// receiver that does not read. As long as nobody waits for memory that is their
// affair. But while others wait, a claim falls behind with the time that it waits
// for its peer, and makes that up with the bytes that come and go. Its WebSocket is
// ended with 1013 when it is behind by more than grace, which takes at least that
// long; pace is slow enough for any link that gets a message through at all, 2 KiB/s
// for one of 1 MiB. By the measure of invariant 5 such a connection is not
// healthy: it stands still in the middle of a message, at the cost of those that
// do not. Time in which it waits for us, be it for the log or because its other
// direction has no memory, is never held against it.
type budget struct {
	mu      sync.Mutex
	size    int64 // bytes; 0: no limit
	held    int64 // without spare
	spare   int64 // held of the part for those whose other direction has a claim
	most    int64 // that was held at once, of both
	waits   int64 // how many claims had to wait
	ended   int64 // how many were ended
	claims  map[*claim]struct{}
	waiting list.List // of *claim
	twins   list.List // those of them whose other direction had a claim
	clients map[netip.Prefix]*holder
	timer   *time.Timer // of check, while somebody waits
	scans   uint64

	grace, checks time.Duration // tests shorten them
}

const (
	// pace is the time in which a message has to be received and sent on, while
	// others wait.
	pace = 20 * time.Minute
	// grace is how far behind that it may be.
	grace = 30 * time.Second
	// checks is how often it is looked at.
	checks = time.Second
)

// A holder is what one client has of the budget.
type holder struct {
	held   int64
	claims int    // also those that wait
	scan   uint64 // the last in which a waiter of the client had to stay
}

// claims are those of the directions of a connection; the budget's lock guards them.
type claims [2]*claim

// A claim is what one direction may hold for one message.
type claim struct {
	n      int64
	dir    frames.Direction
	pair   *claims // of the connection
	client netip.Prefix
	end    func() // of the WebSocket; called on a goroutine of its own, once at most

	holder  *holder
	spare   bool          // it is of that part
	place   *list.Element // while it waits
	twin    *list.Element // while it is among the twins
	granted chan struct{} // closed when the wait is over; made only if there is one

	peer  atomic.Bool  // it waits for a peer
	moved atomic.Int64 // bytes that came and went since the last check
	late  time.Duration
	out   bool // it was ended
}

// clientOf is who counts as one client.
func clientOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero Prefix for the zero Addr
	return p
}

// take makes c a claim and reports true, or puts it among those that wait.
func (b *budget) take(size int64, c *claim) (granted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.claims == nil {
		b.claims, b.clients = map[*claim]struct{}{}, map[netip.Prefix]*holder{}
	}
	b.size = size
	if c.holder = b.clients[c.client]; c.holder == nil {
		c.holder = new(holder)
		b.clients[c.client] = c.holder
	}
	c.holder.claims++
	c.place = b.waiting.PushBack(c)
	if c.pair[1-c.dir] != nil {
		c.twin = b.twins.PushBack(c)
	}
	c.pair[c.dir] = c
	b.serve()
	if c.place == nil {
		return true
	}
	c.granted = make(chan struct{})
	b.waits++
	if b.timer == nil {
		for c := range b.claims { // what was before others waited does not count
			c.late = 0
			c.moved.Store(0)
		}
		b.timer = time.AfterFunc(cmp.Or(b.checks, checks), b.check)
	}
	return false
}

// serve gives to those who wait what there is.
func (b *budget) serve() {
	b.scans++
	for e := b.waiting.Front(); e != nil; {
		c := e.Value.(*claim)
		e = e.Next()
		if h := c.holder; h.scan == b.scans || !fits(h.held, c.n, b.size/2) {
			h.scan = b.scans
			continue
		}
		if !fits(b.held, c.n, b.size-b.size/8) {
			break
		}
		c.holder.held += c.n
		b.held += c.n
		b.grant(c)
	}
	for e := b.twins.Front(); e != nil; e = b.twins.Front() {
		c := e.Value.(*claim)
		if !fits(b.spare, c.n, b.size/8) {
			break
		}
		c.spare = true
		b.spare += c.n
		b.grant(c)
	}
}

// grant gives c its share.
func (b *budget) grant(c *claim) {
	b.leave(c)
	b.most = max(b.most, b.held+b.spare)
	b.claims[c] = struct{}{}
	if c.granted != nil {
		close(c.granted)
	}
}

// leave takes c from among those that wait.
func (b *budget) leave(c *claim) {
	b.waiting.Remove(c.place)
	c.place = nil
	if c.twin != nil {
		b.twins.Remove(c.twin)
		c.twin = nil
	}
}

// fits reports whether n more may be held. What is over the limit by itself may
// be if nothing else is.
func fits(held, n, limit int64) bool {
	return limit <= 0 || held == 0 || n <= limit-held
}

// give gives c back, or takes it from among those that wait. It reports whether
// c was ended.
func (b *budget) give(c *claim) (out bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.pair[c.dir] = nil
	if _, granted := b.claims[c]; !granted {
		if c.place != nil {
			b.leave(c)
		}
	} else if delete(b.claims, c); c.spare {
		b.spare -= c.n
	} else {
		b.held -= c.n
		c.holder.held -= c.n
	}
	if c.holder.claims--; c.holder.claims == 0 {
		delete(b.clients, c.client)
	}
	b.serve()
	return c.out
}

// cancel ends the waits of a connection.
func (b *budget) cancel(pair *claims) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range pair {
		if c != nil && c.place != nil {
			b.leave(c)
			close(c.granted)
		}
	}
	b.serve()
}

// check ends claims that are too far behind, as long as others wait.
func (b *budget) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting.Len() == 0 {
		b.timer = nil
		return
	}
	for c := range b.claims {
		if other := c.pair[1-c.dir]; c.peer.Load() && (other == nil || other.place == nil) {
			c.late += cmp.Or(b.checks, checks)
		}
		c.late = max(0, c.late-time.Duration(float64(pace)*float64(c.moved.Swap(0))/float64(c.n)))
		if c.late > cmp.Or(b.grace, grace) && !c.out {
			c.out = true
			b.ended++
			go c.end()
		}
	}
	b.timer.Reset(cmp.Or(b.checks, checks))
}

// awaits notes that a peer is waited for, until came.
func (c *claim) awaits() {
	if c != nil {
		c.peer.Store(true)
	}
}

// came notes that n bytes have moved.
func (c *claim) came(n int) {
	if c != nil {
		c.moved.Add(int64(n))
		c.peer.Store(false)
	}
}

// A Held says what is held of messages.
type Held struct {
	Bytes   int64 // now
	Limit   int64 // 0: none
	Waiting int64 // directions that wait for memory now
	Waits   int64 // how often one had to
	Ended   int64 // messages that kept others waiting for too long
}

func (b *budget) snapshot(size int64) Held {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Held{b.held + b.spare, size, int64(b.waiting.Len()), b.waits, b.ended}
}
