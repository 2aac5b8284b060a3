package policy

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// A rate is [rule.rate]: the rule matches once more than so much of what it is
// about has come within a window of time.
type rate struct {
	messages int64 // 0: not counted
	bytes    int64 // 0: not counted
	window   time.Duration
	per      string // perConnection, perClient or perHost
}

// What a rate counts by.
const (
	perConnection = "connection"
	perClient     = "client"
	perHost       = "host"
)

// Rates hold the counts of rules with a rate. They live as long as the gateway,
// so that a reload of the policy does not set them back; a rule keeps its counts
// as long as its id, window and per stay the same. A Rates may be used by many
// goroutines.
//
// It keeps about a hundred thousand counts. If there are more, some go that have
// expired, and if they are too few, any.
type Rates struct {
	// Now is the clock; nil is time.Now. Traffic of the past has its own time.
	Now func() time.Time

	seed   maphash.Seed
	shards [64]rateShard
}

type rateShard struct {
	mu     sync.Mutex
	counts map[rateKey]*rateCount
}

// maxCounts is the number of counts in one shard.
const maxCounts = 2048

// A rateKey is whose messages are counted, and for which rule.
type rateKey struct {
	rule   string
	shadow bool
	window time.Duration
	conn   string
	client netip.Addr
	host   string
}

// rateSlots is how finely a window slides: it covers the last slots of so many
// to the window, the running one included. So it is at most one slot short.
const rateSlots = 16

// A rateCount is the count of the last rateSlots slots.
type rateCount struct {
	slot     int64 // the running one, counted from the epoch
	messages [rateSlots]int64
	bytes    [rateSlots]int64
}

// NewRates returns Rates without any count.
func NewRates() *Rates { return &Rates{seed: maphash.MakeSeed()} }

// add counts a message and returns what its window has now.
func (r *Rates) add(k rateKey, size int64, now time.Time) (messages, bytes int64) {
	s, slot := r.of(k, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts[k]
	if c == nil {
		if len(s.counts) >= maxCounts {
			s.evict(now)
		}
		if s.counts == nil {
			s.counts = map[rateKey]*rateCount{}
		}
		c = &rateCount{slot: slot}
		s.counts[k] = c
	}
	return c.add(slot, size)
}

// peek returns what add would, and counts nothing.
func (r *Rates) peek(k rateKey, size int64, now time.Time) (messages, bytes int64) {
	s, slot := r.of(k, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := rateCount{slot: slot}
	if has := s.counts[k]; has != nil {
		c = *has
	}
	return c.add(slot, size)
}

// of returns the shard of k, and the slot that is running.
func (r *Rates) of(k rateKey, now time.Time) (s *rateShard, slot int64) {
	return &r.shards[maphash.Comparable(r.seed, k)%uint64(len(r.shards))], now.UnixNano() / max(1, int64(k.window)/rateSlots)
}

func (c *rateCount) add(slot, size int64) (messages, bytes int64) {
	c.advance(slot)
	i := c.slot % rateSlots
	c.messages[i]++
	c.bytes[i] += size
	for i := range rateSlots {
		messages += c.messages[i]
		bytes += c.bytes[i]
	}
	return messages, bytes
}

func (r *Rates) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// advance empties the slots that have passed since the last message. A clock that
// was set back changes nothing.
func (c *rateCount) advance(slot int64) {
	if slot-c.slot >= rateSlots {
		*c = rateCount{slot: slot}
		return
	}
	for c.slot < slot {
		c.slot++
		c.messages[c.slot%rateSlots] = 0
		c.bytes[c.slot%rateSlots] = 0
	}
}

// evict makes room: all that has expired goes, and if that is not enough, a
// quarter of the rest, so that it is not called again soon.
func (s *rateShard) evict(now time.Time) {
	for k, c := range s.counts {
		if now.UnixNano()/max(1, int64(k.window)/rateSlots)-c.slot >= rateSlots {
			delete(s.counts, k)
		}
	}
	for k := range s.counts {
		if len(s.counts) <= maxCounts*3/4 {
			return
		}
		delete(s.counts, k)
	}
}

// overRate counts a message that r is about and reports whether r matches: it
// has no rate, or there are too many. A message of which only a part has come is
// not counted yet.
func (s *Scope) overRate(r *rule, size int64, whole bool) bool {
	if r.rate == nil {
		return true
	}
	if !whole {
		return false
	}
	return r.rate.over(s.rates.add(s.rateKey(r), size, s.rates.now()))
}

// rateKey is what messages on this connection are counted under for r.
func (s *Scope) rateKey(r *rule) rateKey {
	k := rateKey{rule: r.ID, shadow: r.Shadow, window: r.rate.window}
	switch r.rate.per {
	case perConnection:
		k.conn = s.conn
	case perClient:
		k.client = s.client
	case perHost:
		k.host = s.host
	}
	return k
}

func (r *rate) over(messages, bytes int64) bool {
	return r.messages > 0 && messages > r.messages || r.bytes > 0 && bytes > r.bytes
}
