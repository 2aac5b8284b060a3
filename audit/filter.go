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
	Text   string // somewhere in the record, as it was before it was escaped
}

// A matcher is a Filter made ready.
type matcher struct {
	Filter
	host    string       // lower case; with anyHost what it must end with
	anyHost bool         // the host began with a wildcard
	client  netip.Prefix // invalid: all
	needles [][]byte     // a record that lacks one of these cannot match
	text    []byte       // Text as it is in a record
	keys    []string     // a block that lacks one of these cannot hold a match
	narrow  bool         // a block may be passed over for its time or its keys
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
	if !isPattern(f.Event) {
		m.needle(`,"event":`, f.Event)
	}
	m.needle(`,"conn":`, f.Conn)
	m.needle(`,"action":`, f.Action)
	m.needle("", f.Rule)
	if f.Text != "" {
		quoted := appendString(nil, f.Text)
		m.text = quoted[1 : len(quoted)-1]
	}
	m.keys = m.indexKeys()
	m.narrow = len(m.keys) > 0 || !f.From.IsZero() || !f.To.IsZero()
	return m, nil
}

func (m *matcher) needle(key, value string) {
	if value != "" {
		m.needles = append(m.needles, appendString([]byte(key), value))
	}
}

// wantsTime says whether a record between two times can match. The ends of
// int64 stand for anything beyond them too.
func (m *matcher) wantsTime(first, last int64) bool {
	return (m.From.IsZero() || last == math.MaxInt64 || !time.Unix(0, last).Before(m.From)) &&
		(m.To.IsZero() || first == math.MinInt64 || time.Unix(0, first).Before(m.To))
}

// mayMatch judges a line before it is parsed.
func (m *matcher) mayMatch(line []byte) bool {
	for _, needle := range m.needles {
		if !bytes.Contains(line, needle) {
			return false
		}
	}
	return len(m.text) == 0 || containsText(line, m.text)
}

// containsText looks for escaped text in a record. What is found inside an
// escape is not there: no "n" is in "\n", no "0a" in "\u200a".
func containsText(line, text []byte) bool {
	for from := 0; ; {
		i := bytes.Index(line[from:], text)
		if i < 0 {
			return false
		}
		if i += from; !insideEscape(line, i) {
			return true
		}
		from = i + 1
	}
}

// insideEscape says whether an escape begins before line[i] and goes on there.
// The longest is a reverse solidus, u and four digits.
func insideEscape(line []byte, i int) bool {
	for start := i - 1; start >= max(0, i-5); start-- {
		if line[start] != '\\' {
			continue
		}
		before := start - len(bytes.TrimRight(line[:start], `\`))
		if before%2 == 1 {
			continue // it is itself what is escaped
		}
		if line[start+1] == 'u' {
			return i < start+6
		}
		return i < start+2
	}
	return false
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
		if client, ok := clientAddr(r.Client); !ok || !m.client.Contains(client) {
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

// clientAddr is the address in the client of a record.
func clientAddr(s string) (netip.Addr, bool) {
	client, err := netip.ParseAddrPort(s)
	return client.Addr().Unmap().WithZone(""), err == nil
}

// plainHost is a host without port, brackets, trailing dot and capitals.
func plainHost(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(s, "[]"), "."))
}
