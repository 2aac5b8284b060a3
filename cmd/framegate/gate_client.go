package main

import (
	"container/list"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// clientLimits are those of one client: an IPv4 address, or an IPv6 network of
// 64 bits, of which one device may use any address (RFC 7721, Section 2.1.2; RFC
// 4291, Section 2.5.1).
type clientLimits struct {
	connections int       // at once; 0: any number
	rate        rateLimit // of new connections
	handshakes  rateLimit // of TLS handshakes
}

// A rateLimit is the time that one event takes up; 0 is no limit. After a pause,
// a burst of as many is let through as come to clientBurst.
type rateLimit time.Duration

// clientBurst is for a browser, which opens all that a page needs at once, and
// then nothing for long.
const clientBurst = 10 * time.Second

// A bucket is when what was taken from it will have come back, on the clock of
// the table: a token bucket in one number. The zero bucket is full.
type bucket time.Duration

// take takes one event's worth, if it is there.
func (b *bucket) take(now time.Duration, l rateLimit) bool {
	until := max(time.Duration(*b), now) + time.Duration(l)
	if until-now > max(clientBurst, time.Duration(l)) {
		return false
	}
	*b = bucket(until)
	return true
}

const (
	clientShards = 64
	// clientIdle is how many clients without a connection are remembered in each
	// shard, each in some 200 bytes; there are no more of the others than
	// connections. Who has addresses enough to be forgotten in time has a limit
	// for each of them, too.
	clientIdle = 256
)

// A clientTable is what is known of clients. Its locks are taken when a connection
// comes, shakes hands and ends, and shared by one client in 64.
type clientTable struct {
	seed   maphash.Seed
	born   time.Time
	shards [clientShards]clientShard
}

type clientShard struct {
	mu      sync.Mutex
	clients map[netip.Addr]*client
	idle    list.List // of *client, without a connection; the one heard of last in front
}

type client struct {
	addr       netip.Addr
	live       int // connections
	rate       bucket
	handshakes bucket
	place      *list.Element // among the idle; nil if it is not
}

func (t *clientTable) init() {
	t.seed, t.born = maphash.MakeSeed(), time.Now()
	for i := range t.shards {
		t.shards[i].clients = make(map[netip.Addr]*client)
	}
}

// clientKey is whom an address belongs to.
func clientKey(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func (t *clientTable) shard(key netip.Addr) *clientShard {
	return &t.shards[maphash.Comparable(t.seed, key)%clientShards]
}

// enter counts a connection of a client, or says which limit it is over.
func (t *clientTable) enter(a netip.Addr, l clientLimits) (*client, refusal) {
	key := clientKey(a)
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.find(key)
	switch {
	case l.connections > 0 && c.live >= l.connections:
		return nil, refuseClientConnections
	case l.rate > 0 && !c.rate.take(time.Since(t.born), l.rate):
		return nil, refuseClientRate
	}
	if c.live++; c.place != nil {
		s.idle.Remove(c.place)
		c.place = nil
	}
	return c, refuseNot
}

// leave counts a connection out that has entered as c.
func (t *clientTable) leave(c *client) {
	s := t.shard(c.addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.live--; c.live == 0 {
		s.rest(c)
	}
}

// handshake counts a TLS handshake, unless it is over the limit.
func (t *clientTable) handshake(a netip.Addr, l rateLimit) bool {
	key := clientKey(a)
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key).handshakes.take(time.Since(t.born), l)
}

// find returns what is known of a client, which may be new.
func (s *clientShard) find(key netip.Addr) *client {
	c := s.clients[key]
	switch {
	case c == nil:
		c = &client{addr: key}
		s.clients[key] = c
		s.rest(c)
	case c.place != nil:
		s.idle.MoveToFront(c.place)
	}
	return c
}

// rest puts a client among the idle, of which the oldest is forgotten.
func (s *clientShard) rest(c *client) {
	if s.idle.Len() >= clientIdle {
		delete(s.clients, s.idle.Remove(s.idle.Back()).(*client).addr)
	}
	c.place = s.idle.PushFront(c)
}
