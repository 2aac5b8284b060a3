package mitm

import (
	"container/list"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Clients that reject our certificate: either the device lacks our root, and
// rejects all that we show, or one application on it has trust of its own,
// while others get through. To tell, it is remembered which clients have
// accepted something, and how often each has rejected which name.
//
// What a client can do to this memory is bounded: it has one place for its
// address, with room for few names, so that it pushes out its own. Addresses
// of one IPv6 network of 64 bits, of which anybody has 2^64, share one part of
// the memory and push each other out there. What is forgotten costs no more
// than that the counting begins again.

const (
	pinFailures = 3         // until a name is taken to be pinned
	pinWindow   = time.Hour // in which they have to happen, and for which the name is bypassed then

	pinShards  = 64
	pinClients = 256 // of a shard, each of at most 1.3 KiB
	pinNames   = 16  // of a client, that it rejects
	pinGood    = 32  // of a client, that it accepts
)

// pins is the memory. Each part has a lock of its own, which is taken once or
// twice for a handshake and held for the search of one client's names.
type pins struct {
	seed   maphash.Seed
	shards [pinShards]pinShard
}

type pinShard struct {
	mu      sync.Mutex
	clients map[netip.Addr]*list.Element
	recent  list.List // of *pinClient, the one heard of last in front
}

// A pinClient is what is known of one address. Names are hashes with a secret
// seed, of 64 bits where a collision would bypass one name for another, and of
// 32 where it would only keep one from being bypassed.
type pinClient struct {
	addr    netip.Addr
	trust   string // the version under which it accepts
	version string // of trust and policy, under which all of the following was learned

	accepts bool // it has our root, as far as one application goes
	good    [pinGood]uint32
	next    int // in good
	names   []pin
}

// A pin is a name that a client rejects.
type pin struct {
	name     uint64
	failures int
	since    time.Time // of the first of them
	until    time.Time // the name is bypassed; zero: it is not
}

// A rejection is what is known when a client has rejected a name.
type rejection struct {
	failures int  // of this client and name, this one included
	accepts  bool // the client accepts other certificates of ours
	same     bool // and one for this very name, so it is not bypassed
	learned  bool // the name is bypassed from now on
}

func newPins() *pins {
	p := &pins{seed: maphash.MakeSeed()}
	for i := range p.shards {
		p.shards[i].clients = map[netip.Addr]*list.Element{}
	}
	return p
}

// client locks and returns the shard of an address and what is known of it
// under e; if it is new and add is not set, nil.
func (p *pins) client(a netip.Addr, e *epoch, add bool) (*pinShard, *pinClient) {
	network := a
	if a.Is6() {
		if n, err := a.Prefix(64); err == nil {
			network = n.Addr()
		}
	}
	s := &p.shards[maphash.Comparable(p.seed, network)%pinShards]
	s.mu.Lock()
	place := s.clients[a]
	switch {
	case place != nil:
		s.recent.MoveToFront(place)
	case !add:
		return s, nil
	default:
		if s.recent.Len() >= pinClients {
			delete(s.clients, s.recent.Remove(s.recent.Back()).(*pinClient).addr)
		}
		place = s.recent.PushFront(&pinClient{addr: a})
		s.clients[a] = place
	}
	c := place.Value.(*pinClient)
	if c.version != e.version {
		// What was learned under another trust or policy is void, save that the
		// client has our root, which no policy changes.
		*c = pinClient{addr: a, trust: e.trust.Version, version: e.version, accepts: c.accepts && c.trust == e.trust.Version}
	}
	return s, c
}

// accepted notes that a client takes our certificate for a name.
func (p *pins) accepted(a netip.Addr, name string, e *epoch) {
	h := maphash.String(p.seed, name)
	s, c := p.client(a, e, true)
	defer s.mu.Unlock()
	c.accepts = true
	c.names = slices.DeleteFunc(c.names, func(n pin) bool { return n.name == h })
	if !slices.Contains(c.good[:], uint32(h)) {
		c.good[c.next%pinGood] = uint32(h)
		c.next++
	}
}

// failed notes that a client rejects our certificate for a name. With learn,
// the name is bypassed for this client after some rejections, unless it has
// ever accepted one for it, or none at all: who leaves our root out would
// otherwise be bypassed everywhere.
func (p *pins) failed(a netip.Addr, name string, e *epoch, now time.Time, learn bool) rejection {
	h := maphash.String(p.seed, name)
	s, c := p.client(a, e, true)
	defer s.mu.Unlock()
	i := slices.IndexFunc(c.names, func(n pin) bool { return n.name == h })
	switch {
	case i >= 0 && now.Sub(c.names[i].since) < pinWindow:
	case i >= 0:
		c.names[i] = pin{name: h, since: now}
	case len(c.names) < pinNames:
		i = len(c.names)
		c.names = append(c.names, pin{name: h, since: now})
	default:
		// The oldest goes, and those that are bypassed last.
		i = 0
		for j := range c.names {
			before := c.names[j].since.Before(c.names[i].since)
			if was, is := c.names[i].until.IsZero(), c.names[j].until.IsZero(); is != was {
				before = is
			}
			if before {
				i = j
			}
		}
		c.names[i] = pin{name: h, since: now}
	}
	n := &c.names[i]
	n.failures++
	same := slices.Contains(c.good[:], uint32(h))
	learn = learn && c.accepts && !same && n.failures >= pinFailures && n.until.IsZero()
	if learn {
		n.until = now.Add(pinWindow)
	}
	return rejection{n.failures, c.accepts, same, learn}
}

// bypassed returns until when a name is bypassed for a client, the zero time if
// it is not.
func (p *pins) bypassed(a netip.Addr, name string, e *epoch, now time.Time) time.Time {
	h := maphash.String(p.seed, name)
	s, c := p.client(a, e, false)
	defer s.mu.Unlock()
	if c == nil {
		return time.Time{}
	}
	i := slices.IndexFunc(c.names, func(n pin) bool { return n.name == h })
	if i < 0 || !now.Before(c.names[i].until) {
		return time.Time{}
	}
	return c.names[i].until
}
