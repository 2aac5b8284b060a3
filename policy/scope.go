package policy

import (
	"net/netip"
	"slices"

	"framegate/frames"
)

// An Upgrade is what a WebSocket handshake tells of its connection.
type Upgrade struct {
	Client      netip.Addr
	Host        string // Host header or SNI; a port does not matter
	Path        string // of the request target, still percent-encoded; a query does not matter
	Origin      string // Origin header, "" if there was none
	Subprotocol string // the one that the server chose, "" if none

	// Rates are where rules with a rate count. If nil, the policy counts by itself.
	Rates *Rates
	// Conn tells connections apart for such rules.
	Conn string
}

// A scope is one [rule.scope]. Each list that is not empty must have a member
// that matches.
type scope struct {
	direction   [2]bool // by frames.Direction
	host        []hostPattern
	path        [][]string
	origin      []originPattern
	subprotocol []string
	client      []netip.Prefix
}

func (s *scope) holds(u *Upgrade) bool { return s.failing(u) == "" }

// failing returns the first key that does not hold, "" if all do; the direction
// is not a matter of the connection. Subprotocols are compared as bytes, as
// browsers do with what the server chose (RFC 6455, Section 4.1, step 6 of the
// checks).
func (s *scope) failing(u *Upgrade) (key string) {
	switch {
	case s.host != nil && !hostMatches(s.host, u.Host):
		return "host"
	case s.path != nil && !pathMatches(s.path, u.Path):
		return "path"
	case s.origin != nil && !originMatches(s.origin, u.Origin):
		return "origin"
	case s.subprotocol != nil && !slices.Contains(s.subprotocol, u.Subprotocol):
		return "subprotocol"
	case s.client != nil && !contains(s.client, u.Client):
		return "client"
	}
	return ""
}

func pathMatches(patterns [][]string, path string) bool {
	parts := segments(path)
	for _, p := range patterns {
		if glob(p, parts) {
			return true
		}
	}
	return false
}

// A Scope is the rules of one policy that hold for one connection. It costs two
// bits per rule, and may be used by both directions at the same time.
type Scope struct {
	policy *Policy
	rules  [2]bitset // by frames.Direction

	// What rates count by.
	rates  *Rates
	conn   string
	client netip.Addr
	host   string
}

// Scope selects the rules for one connection.
func (p *Policy) Scope(u Upgrade) *Scope {
	s := newScope(p)
	s.conn, s.client, s.host = u.Conn, u.Client.Unmap(), hostKey(u.Host)
	if u.Rates != nil {
		s.rates = u.Rates
	}
	for i, r := range p.rules {
		if r.scope.holds(&u) {
			s.add(i, r.scope.direction)
		}
	}
	return s
}

func newScope(p *Policy) *Scope {
	return &Scope{policy: p, rates: p.rates, rules: [2]bitset{newBitset(len(p.rules)), newBitset(len(p.rules))}}
}

func (s *Scope) add(rule int, direction [2]bool) {
	for dir, holds := range direction {
		if holds {
			s.rules[dir].set(rule)
		}
	}
}

// Message judges one message: data is what the application sees, for a close
// frame its code and reason as they are on the wire. Nothing of data is kept.
// A message that no rule matches costs no allocation.
func (s *Scope) Message(dir frames.Direction, op frames.Opcode, data []byte) Verdict {
	var t tally
	s.policy.matcher.match(s.rules[dir&1], op, data, func(r *rule) {
		if s.overRate(r, int64(len(data)), true) {
			t.hit(r)
		}
	})
	return t.verdict(s.policy, op)
}
