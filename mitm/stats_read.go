package mitm

import (
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/mitm/chain"
	"framegate/policy"
)

// A Count is how often something happened. Its labels are those that the list
// has which it is in.
type Count struct {
	Labels []string
	N      int64
}

// A Histogram says how many observations took how long.
type Histogram struct {
	Labels []string
	Count  int64
	Sum    time.Duration
	Within map[time.Duration]int64 // how many took no longer than that
}

// A Snapshot is what Stats has counted. Counts go on while it is made: one of
// several may have a connection that another lacks.
type Snapshot struct {
	Held       Held        // of messages
	Opened     int64       // connections
	Closed     []Count     // connections, by ledger state
	Live       int64       // connections
	HalfOpen   int64       // of these, until the first request
	WebSockets int64       // open now
	Handshakes []Count     // by leg, version and outcome
	TLSFail    []Count     // by side and reason, the faults of certificates together as "verification"
	Verify     []Count     // faults of certificates, by code
	Messages   []Count     // that were judged, by direction and action
	Bytes      []Count     // inflated, of these
	Unseen     []Count     // bytes of connections that have ended, by direction and ledger state
	Rules      []Count     // hits, by id and mode, of the rules in force
	Inspect    []Histogram // of the time that batches were looked at, by direction
	Hold       []Histogram // of the time that parts of messages were held, by direction
}

// Snapshot reads the counts of p.Stats.
func (p *Proxy) Snapshot() Snapshot {
	s := p.Stats
	var x Snapshot
	for i, state := range states { // before those that were opened, so that no more have ended
		x.Closed = append(x.Closed, Count{[]string{state}, s.closed[i].Load()})
		x.Live -= x.Closed[i].N
	}
	x.Held = p.held.snapshot(p.settings().HeldMemory)
	x.Opened = s.opened.Load()
	x.Live += x.Opened
	x.HalfOpen = int64(p.halfOpen.count())
	x.WebSockets = s.websockets.Load()
	for i, leg := range legs {
		for j, version := range versions {
			for k, outcome := range outcomes {
				if j > 0 || k == len(outcomes)-1 { // what succeeds has a version
					x.Handshakes = append(x.Handshakes, Count{[]string{leg, version, outcome}, s.handshakes[i][j][k].Load()})
				}
			}
		}
	}
	var verification int64
	for _, code := range chain.Codes() {
		n := s.failures[string(code)].Load()
		x.Verify = append(x.Verify, Count{[]string{string(code)}, n})
		verification += n
	}
	x.TLSFail = append(x.TLSFail, Count{[]string{"server", "verification"}, verification})
	for _, reason := range tlsReasons {
		x.TLSFail = append(x.TLSFail, Count{[]string{sideOf(reason), reason}, s.failures[reason].Load()})
	}
	for _, dir := range []frames.Direction{frames.ToServer, frames.ToClient} {
		for a := policy.Allow; a <= policy.Close; a++ {
			labels := []string{dir.String(), a.String()}
			var messages, bytes int64
			for i := range s.shards {
				c := &s.shards[i].carried[dir][a]
				messages += c.messages.Load()
				bytes += c.bytes.Load()
			}
			x.Messages = append(x.Messages, Count{labels, messages})
			x.Bytes = append(x.Bytes, Count{labels, bytes})
		}
		for i, state := range states {
			if state == audit.StateBypassed || state == audit.StateOpaque {
				x.Unseen = append(x.Unseen, Count{[]string{dir.String(), state}, s.unseen[i][dir].Load()})
			}
		}
		inspect, hold := newHistogram(dir), newHistogram(dir)
		for i := range s.shards {
			inspect.add(&s.shards[i].inspect[dir])
			hold.add(&s.shards[i].hold[dir])
		}
		x.Inspect, x.Hold = append(x.Inspect, inspect), append(x.Hold, hold)
	}
	x.Rules = s.rules(p.Policy())
	return x
}

// sideOf says on which side a connection has failed.
func sideOf(reason string) string {
	switch reason {
	case tlsUnreachable, tlsClientCert, tlsServer:
		return "server"
	case tlsLeaf:
		return "gateway"
	}
	return "client"
}

// rules lists the hits of the rules of p. What a rule has counted it keeps over
// reloads, also over one with a policy that lacks it.
func (s *Stats) rules(p *policy.Policy) []Count {
	var list []Count
	seen := map[[2]string]bool{} // a rule on trial may have the id of one in shadow mode
	add := func(id string, kind int) {
		labels := [2]string{id, hitKinds[kind]}
		if !seen[labels] {
			seen[labels] = true
			list = append(list, Count{labels[:], s.hits[kind].count(id)})
		}
	}
	for _, r := range p.Rules() {
		if r.Shadow {
			add(r.ID, hitShadow)
		} else {
			add(r.ID, hitEnforced)
		}
	}
	for _, id := range p.Connections() {
		add(id, hitConnection)
	}
	return list
}

func newHistogram(dir frames.Direction) Histogram {
	return Histogram{Labels: []string{dir.String()}, Within: make(map[time.Duration]int64, len(bounds))}
}

// add adds a shard. The count is that of the buckets, so that it never
// disagrees with them.
func (x *Histogram) add(h *histogram) {
	x.Sum += time.Duration(h.sum.Load())
	var n int64
	for i := range h.counts {
		n += h.counts[i].Load()
		if i < len(bounds) {
			x.Within[bounds[i]] += n
		}
	}
	x.Count += n
}
