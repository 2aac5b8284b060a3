package mitm

import (
	"crypto/tls"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/mitm/chain"
	"framegate/policy"
)

// Stats counts what a Proxy does. What can become a label is from a list that is
// fixed, or is the id of a rule: nothing that a peer sends, or how it is called,
// ever makes a new count.
//
// Connections share no lock in it. What happens for each message is added up in
// the batch and goes, once for all of it, to one of several shards, of which
// a connection has one for its life.
type Stats struct {
	opened     atomic.Int64
	closed     [len(states)]atomic.Int64
	websockets atomic.Int64 // open now
	unseen     [len(states)][2]atomic.Int64
	handshakes [2][len(versions)][len(outcomes)]atomic.Int64
	failures   map[string]*atomic.Int64 // by reason of tls.fail; not changed once it is made
	hits       [len(hitKinds)]hits
	shards     [16]statsShard
}

var (
	states   = [...]string{audit.StateInspected, audit.StateBypassed, audit.StateBlocked, audit.StateOpaque, audit.StateFailed}
	legs     = [...]string{"client", "server"}
	versions = [...]string{"none", "1.2", "1.3"} // "none": it failed before one was agreed
	outcomes = [...]string{"full", "resumed", "failed"}
	hitKinds = [...]string{hitEnforced: "enforce", hitShadow: "shadow", hitConnection: "connection"}

	tlsReasons = [...]string{
		tlsClientHello, tlsUnreachable, tlsClientCert, tlsServer, tlsLeaf, tlsRate, tlsClient,
		tlsRejected, tlsNoCA, tlsPinned, tlsClock, tlsECH,
	}
)

const (
	hitEnforced = iota
	hitShadow
	hitConnection
)

const (
	clientLeg = iota
	serverLeg
)

// NewStats returns counts that are all zero.
func NewStats() *Stats {
	s := &Stats{failures: map[string]*atomic.Int64{}}
	for _, reason := range tlsReasons {
		s.failures[reason] = new(atomic.Int64)
	}
	for _, code := range chain.Codes() {
		s.failures[string(code)] = new(atomic.Int64)
	}
	return s
}

// A statsShard has what grows with the messages of some of the connections.
type statsShard struct {
	carried [2][policy.Close + 1]struct{ messages, bytes atomic.Int64 } // by direction and action
	inspect [2]histogram
	hold    [2]histogram
	_       [64]byte // so that no two shards have a cache line in common
}

// open counts a connection, and says which shard is its own.
func (s *Stats) open() *statsShard {
	if s == nil {
		return nil
	}
	return &s.shards[uint64(s.opened.Add(1))%uint64(len(s.shards))]
}

// close counts the end of a connection in its ledger state, and what has passed
// unseen.
func (s *Stats) close(state string, t *audit.Totals) {
	if s == nil {
		return
	}
	i := max(0, slices.Index(states[:], state))
	s.closed[i].Add(1)
	if t != nil && t.ToServer.Messages+t.ToClient.Messages == 0 { // or they were counted one by one
		s.unseen[i][frames.ToServer].Add(t.ToServer.Bytes)
		s.unseen[i][frames.ToClient].Add(t.ToClient.Bytes)
	}
}

// handshake counts one on a leg.
func (s *Stats) handshake(leg int, c *tls.Conn, err error) {
	if s == nil {
		return
	}
	state := c.ConnectionState()
	version, outcome := 0, 0
	switch state.Version {
	case tls.VersionTLS12:
		version = 1
	case tls.VersionTLS13:
		version = 2
	}
	switch {
	case err != nil:
		outcome = 2
	case state.DidResume:
		outcome = 1
	}
	s.handshakes[leg][version][outcome].Add(1)
}

// websocket counts one as open until the end that it returns.
func (s *Stats) websocket() (end func()) {
	if s == nil {
		return func() {}
	}
	s.websockets.Add(1)
	return func() { s.websockets.Add(-1) }
}

// fail counts a tls.fail.
func (s *Stats) fail(reason string) {
	if s == nil {
		return
	}
	if n := s.failures[reason]; n != nil {
		n.Add(1)
	}
}

// hit counts what matched a message.
func (s *Stats) hit(v *policy.Verdict) {
	if s == nil {
		return
	}
	for _, id := range v.Rules {
		s.hits[hitEnforced].add(id)
	}
	for _, id := range v.Shadow {
		s.hits[hitShadow].add(id)
	}
}

// hitConnection counts a rule that has decided about a connection.
func (s *Stats) hitConnection(id string) {
	if s != nil {
		s.hits[hitConnection].add(id)
	}
}

// A carried is what one batch has had that was judged, by action.
type carried [policy.Close + 1]struct{ messages, bytes int64 }

func (c *carried) add(a policy.Action, bytes int64) {
	c[a].messages++
	c[a].bytes += bytes
}

// add takes in a batch.
func (s *statsShard) add(dir frames.Direction, c *carried) {
	if s == nil {
		return
	}
	for a := range c {
		if n := &c[a]; n.messages > 0 {
			s.carried[dir][a].messages.Add(n.messages)
			s.carried[dir][a].bytes.Add(n.bytes)
		}
	}
}

// hits counts by the ids of rules, of which there are as many as the policies
// have had. Counting takes no lock once an id is known.
type hits struct {
	mu   sync.Mutex // of adding an id
	byID atomic.Pointer[map[string]*atomic.Int64]
}

func (h *hits) find(id string) *atomic.Int64 {
	if m := h.byID.Load(); m != nil {
		return (*m)[id]
	}
	return nil
}

func (h *hits) add(id string) {
	n := h.find(id)
	if n == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if n = h.find(id); n == nil {
			next := map[string]*atomic.Int64{}
			if m := h.byID.Load(); m != nil {
				next = maps.Clone(*m)
			}
			n = new(atomic.Int64)
			next[strings.Clone(id)] = n
			h.byID.Store(&next)
		}
	}
	n.Add(1)
}

func (h *hits) count(id string) int64 {
	if n := h.find(id); n != nil {
		return n.Load()
	}
	return 0
}

// bounds are the upper ends of the buckets of histograms: what a batch takes is
// some microseconds, and what a slow sender has us wait for up to minutes.
var bounds = [...]time.Duration{
	5 * time.Microsecond, 10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute,
}

type histogram struct {
	counts [len(bounds) + 1]atomic.Int64 // the last: longer than any bound
	sum    atomic.Int64                  // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// measure observes how long a batch was looked at, and if it has completed a
// message how long the part that had come before was held. messages is how many
// there were before it; partial says that it ends within a frame.
func (p *pass) measure(messages int64, partial bool) {
	d := p.direction
	shard := d.relay.shard
	if shard == nil {
		return
	}
	p.record()                                      // which may wait for the log
	shard.inspect[d.dir].observe(time.Since(p.now)) // which is cheaper than time.Now
	if !d.since.IsZero() && (d.messages > messages || d.stream != nil) {
		shard.hold[d.dir].observe(time.Since(d.since))
		d.since = time.Time{}
	}
	switch partial = partial || d.fragments; {
	case !partial || d.stream != nil:
		d.since = time.Time{}
	case d.since.IsZero():
		d.since = p.now
	}
}
