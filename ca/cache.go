package ca

import (
	"container/list"
	"context"
	"strings"
	"sync"
)

// leafID says what a leaf is for: a name, or the SHA-256 of the origin certificate that it
// mirrors.
type leafID struct {
	kind   Kind
	name   string
	own    bool // the name is the gateway's own
	origin [32]byte
}

// A cache keeps the most recently used leaves, and sees to it that one call at a time mints for
// an id. Names are chosen by peers, so nothing in it grows with their number: size entries, and
// one flight for each call that is under way.
type cache struct {
	size int

	mu      sync.Mutex
	entries map[leafID]*list.Element
	order   *list.List // of *entry, most recently used first
	flights map[leafID]*flight
	stats   Stats
}

// Stats say what became of the calls for leaves since an authority was loaded. One that waits
// for the minting of another call is a hit if that serves it, too.
type Stats struct {
	Entries   int   // leaves in the cache
	Size      int   // how many it keeps
	Hits      int64 // served without a minting of their own
	Misses    int64 // had one minted, or tried
	Minted    int64 // leaves that were made
	Evictions int64 // leaves that went for others
}

// Stats returns those of a.
func (a *Authority) Stats() Stats {
	a.cache.mu.Lock()
	defer a.cache.mu.Unlock()
	s := a.cache.stats
	s.Entries, s.Size = a.cache.order.Len(), a.cache.size
	return s
}

type entry struct {
	id   leafID
	leaf *leaf
}

// A flight is one minting under way. leaf is set before done is closed, and stays nil if it
// failed.
type flight struct {
	done chan struct{}
	leaf *leaf
}

func newCache(size int) *cache {
	c := &cache{size: size}
	c.purge()
	return c
}

// get returns a leaf that fits: from the cache, from a flight of another call, or from mint,
// which runs in this call. ctx ends the wait for another call; the call that mints runs to its
// end, so that its ctx takes nothing from those who wait for it.
func (c *cache) get(ctx context.Context, id leafID, fits func(*leaf) bool, mint func() (*leaf, error)) (*leaf, error) {
	for {
		c.mu.Lock()
		if e := c.entries[id]; e != nil {
			if l := e.Value.(*entry).leaf; fits(l) {
				c.order.MoveToFront(e)
				c.stats.Hits++
				c.mu.Unlock()
				return l, nil
			}
		}
		f := c.flights[id]
		if f == nil {
			id.name = strings.Clone(id.name) // it may be a piece of a caller's larger buffer
			f = &flight{done: make(chan struct{})}
			c.flights[id] = f
			c.stats.Misses++
			c.mu.Unlock()
			return c.fly(id, f, mint)
		}
		c.mu.Unlock()

		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.done:
		}
		// A flight for another origin certificate, or one that failed on it, need not be the
		// end for this one: go round, and mint if still necessary.
		if f.leaf != nil && fits(f.leaf) {
			c.mu.Lock()
			c.stats.Hits++
			c.mu.Unlock()
			return f.leaf, nil
		}
	}
}

func (c *cache) fly(id leafID, f *flight, mint func() (*leaf, error)) (_ *leaf, err error) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if f.leaf != nil {
			c.stats.Minted++
		}
		if c.flights[id] == f { // not purged meanwhile
			delete(c.flights, id)
			if f.leaf != nil {
				c.add(id, f.leaf)
			}
		}
		close(f.done)
	}()
	f.leaf, err = mint()
	return f.leaf, err
}

// add is called with mu held.
func (c *cache) add(id leafID, l *leaf) {
	if e := c.entries[id]; e != nil {
		e.Value.(*entry).leaf = l
		c.order.MoveToFront(e)
		return
	}
	c.entries[id] = c.order.PushFront(&entry{id, l})
	if c.order.Len() > c.size {
		c.stats.Evictions++
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.entries, last.Value.(*entry).id)
	}
}

// shed drops the half of the leaves that was not used for longest.
func (c *cache) shed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := (c.order.Len() + 1) / 2; n > 0; n-- {
		c.stats.Evictions++
		delete(c.entries, c.order.Remove(c.order.Back()).(*entry).id)
	}
}

// purge empties the cache. Flights go on for those who wait, but what they bring is not kept.
func (c *cache) purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = make(map[leafID]*list.Element)
	c.order = list.New()
	c.flights = make(map[leafID]*flight)
}
