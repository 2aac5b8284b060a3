package policy

import (
	"errors"
	"net/netip"
)

// A Flow is what is known of a connection before it is opened up.
type Flow struct {
	Client, Server netip.AddrPort // the peers; Server is the original destination
	Host           string         // SNI or Host header, "" if unknown
	ECH            bool           // Host is of a ClientHello that may hide another name (RFC 9849)
}

// A ConnAction is what becomes of a connection.
type ConnAction uint8

const (
	Inspect ConnAction = iota // look inside
	Bypass                    // forward its bytes without looking inside
	Block                     // refuse it
)

var connActionNames = [...]string{"inspect", "bypass", "block"}

// String returns the word that a [[connection]] uses.
func (a ConnAction) String() string {
	if int(a) < len(connActionNames) {
		return connActionNames[a]
	}
	return "unknown"
}

// A Decision is what becomes of one connection, and why.
type Decision struct {
	Action ConnAction
	Rule   string // id of the [[connection]] that matched, "" if none did
	// Fronting lets requests name other hosts than the connection does.
	Fronting bool
}

// A connection is one [[connection]]. Each list that is not empty must have a
// member that matches.
type connection struct {
	id     string
	action ConnAction
	host   []hostPattern
	client []netip.Prefix
	server []netip.Prefix

	openECH  bool // inspect what may hide another name, rather than bypass it
	fronting bool // let requests name other hosts

	at Error // where it is written
}

// Connections lists the ids of the [[connection]]s, in the order of the files.
func (p *Policy) Connections() []string {
	var ids []string
	for i := range p.connections {
		ids = append(ids, p.connections[i].id)
	}
	return ids
}

// Connection decides by the first [[connection]] that matches, in the order of
// the files. If none does, the connection is inspected.
func (p *Policy) Connection(f Flow) Decision {
	for i := range p.connections {
		c := &p.connections[i]
		if (c.host == nil || hostMatches(c.host, f.Host)) &&
			(c.client == nil || contains(c.client, f.Client.Addr())) &&
			(c.server == nil || contains(c.server, f.Server.Addr())) {
			d := Decision{c.action, c.id, c.fronting}
			if c.openECH && f.ECH {
				d.Action = Inspect
			}
			return d
		}
	}
	return Decision{}
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	a = plainAddr(a)
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// parseCIDR reads a network or a single address. Both have one form for IPv4,
// whether they are written as v4-in-v6 or not.
func parseCIDR(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errors.New(`expected an address or a network such as "10.0.0.0/8"`)
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return p, errors.New("has host bits set, expected " + p.Masked().String())
	}
	return p, nil
}
