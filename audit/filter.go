package audit

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
)

// A Filter chooses records. A zero field chooses all; what is set must hold
// together.
type Filter struct {
	From   time.Time // at or after
	To     time.Time // before
	Host   string    // SNI or Host without its port; "*.example.com" is all below example.com
	Client string    // address or CIDR
	Rule   string    // id of a rule that matched, in shadow mode too
	Event  string    // glob: "ws.*"
	Action string
	Conn   string
}

// A matcher is a Filter made ready.
type matcher struct {
	Filter
	host    string       // lower case; with anyHost what it must end with
	anyHost bool         // the host began with a wildcard
	client  netip.Prefix // invalid: all
	needles [][]byte     // a record that lacks one of these cannot match
}

// compile says in one line what is wrong with f.
func (f Filter) compile() (*matcher, error) {
	m := &matcher{Filter: f}
	if _, err := path.Match(f.Event, ""); err != nil {
		return nil, fmt.Errorf("bad event pattern %q", f.Event)
	}
	m.host = plainHost(f.Host)
	if rest := strings.TrimLeft(m.host, "*"); rest != m.host {
		m.host, m.anyHost = rest, true
		if rest != "" && rest[0] != '.' {
			return nil, fmt.Errorf("bad host %q: a wildcard stands for whole labels, as in *.example.com", f.Host)
		}
	}
	if strings.Contains(m.host, "*") {
		return nil, fmt.Errorf("bad host %q: a wildcard stands at the front, as in *.example.com", f.Host)
	}
	if f.Client != "" {
		prefix, err := netip.ParsePrefix(f.Client)
		if err != nil {
			addr, err := netip.ParseAddr(f.Client)
			if err != nil {
				return nil, fmt.Errorf("bad client %q: expected an address or a CIDR", f.Client)
			}
			addr = addr.Unmap().WithZone("")
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		m.client = prefix
	}
	// A record has one spelling, so most can be passed over without parsing.
	if !strings.ContainsAny(f.Event, `*?[\`) {
		m.needle(`,"event":`, f.Event)
	}
	m.needle(`,"conn":`, f.Conn)
	m.needle(`,"action":`, f.Action)
	m.needle("", f.Rule)
	return m, nil
}

func (m *matcher) needle(key, value string) {
	if value != "" {
		m.needles = append(m.needles, appendString([]byte(key), value))
	}
}

// wants says whether a block can hold a match. The ends of int64 stand for
// anything beyond them too.
func (m *matcher) wants(h *header) bool {
	return (m.From.IsZero() || h.Last == math.MaxInt64 || !time.Unix(0, h.Last).Before(m.From)) &&
		(m.To.IsZero() || h.First == math.MinInt64 || time.Unix(0, h.First).Before(m.To))
}

// mayMatch judges a line before it is parsed.
func (m *matcher) mayMatch(line []byte) bool {
	for _, needle := range m.needles {
		if !bytes.Contains(line, needle) {
			return false
		}
	}
	return true
}

func (m *matcher) match(r *Record) bool {
	if !m.From.IsZero() && r.Time.Before(m.From) || !m.To.IsZero() && !r.Time.Before(m.To) {
		return false
	}
	if m.Event != "" {
		if ok, err := path.Match(m.Event, r.Event); !ok || err != nil {
			return false
		}
	}
	if m.Filter.Client != "" {
		client, err := netip.ParseAddrPort(r.Client)
		if err != nil || !m.client.Contains(client.Addr().Unmap().WithZone("")) {
			return false
		}
	}
	return (m.Conn == "" || m.Conn == r.Conn) &&
		(m.Action == "" || m.Action == r.Action) &&
		(m.Rule == "" || slices.Contains(r.Rules, m.Rule) || slices.Contains(r.Shadow, m.Rule)) &&
		(m.Host == "" || m.matchHost(r.Host) || m.matchHost(r.SNI))
}

func (m *matcher) matchHost(host string) bool {
	host = plainHost(host)
	if m.anyHost {
		return len(host) > len(m.host) && strings.HasSuffix(host, m.host)
	}
	return host == m.host
}

// plainHost is a host without port, brackets, trailing dot and capitals.
func plainHost(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(s, "[]"), "."))
}
