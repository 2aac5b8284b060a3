package mitm

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"time"
	"weak"

	"framegate/mitm/chain"
)

// maxSessions bounds the sessions with servers that are kept, and maxSession the
// size of one: ticket, certificates and staple, all of which the server chooses.
// Most have some kilobytes; crypto/tls takes 300 of them, and who holds a wildcard
// certificate has names for every place.
const (
	maxSessions = 4096
	maxSession  = 16 << 10
)

// An epoch is the time in which one trust and one policy are in force. Sessions
// of either leg are resumed within one epoch only: its end takes the keys of the
// clients' tickets and the sessions with servers along, so that after a change
// of roots, lists, authority or policy every handshake is a full one.
type epoch struct {
	version string
	trust   *chain.Trust
	tickets *tls.Config            // holds the keys of the clients' tickets, which it renews
	servers tls.ClientSessionCache // sessions with servers
	clients *sync.Map              // *tls.Config for clients, by weak.Pointer of the leaf
}

// epoch returns the one that is in force.
func (p *Proxy) epoch() *epoch {
	trust := p.Trust()
	version := trust.Version + " " + p.Policy().Version()
	for {
		e := p.inForce.Load()
		if e != nil && e.trust == trust && e.version == version {
			return e
		}
		next := &epoch{version, trust, new(tls.Config), tls.NewLRUClientSessionCache(maxSessions), new(sync.Map)}
		if p.inForce.CompareAndSwap(e, next) {
			return next
		}
	}
}

// Shed drops the sessions with servers, when memory is short: the next handshakes
// with them are full ones. Clients keep theirs, of which we have the keys only.
func (p *Proxy) Shed() {
	if e := p.inForce.Load(); e != nil {
		p.inForce.CompareAndSwap(e, &epoch{e.version, e.trust, e.tickets, tls.NewLRUClientSessionCache(maxSessions), e.clients})
	}
}

// serverSessions are the sessions with one server under one name, in a cache
// that is shared. What is kept bears the time at which the first thing ends that
// the verification rested on, after which there is nothing to resume.
type serverSessions struct {
	cache    tls.ClientSessionCache
	key      string
	verified *chain.Verified // of the handshake; set before the first Put
}

// untilMark tells our note in a session from those of others.
const untilMark = "framegate until "

// Get implements tls.ClientSessionCache.
func (s *serverSessions) Get(string) (*tls.ClientSessionState, bool) {
	c, ok := s.cache.Get(s.key)
	if !ok || c == nil {
		return nil, false
	}
	_, state, err := c.ResumptionState()
	if err != nil || state == nil {
		return nil, false
	}
	for _, x := range state.Extra {
		if until, ok := bytes.CutPrefix(x, []byte(untilMark)); ok && len(until) == 8 {
			return c, time.Now().Before(time.Unix(int64(binary.BigEndian.Uint64(until)), 0))
		}
	}
	return nil, false
}

// Put implements tls.ClientSessionCache.
func (s *serverSessions) Put(_ string, c *tls.ClientSessionState) {
	if c == nil {
		s.cache.Put(s.key, nil)
		return
	}
	ticket, state, err := c.ResumptionState()
	if err != nil || state == nil || s.verified.Chain == nil {
		return
	}
	until := binary.BigEndian.AppendUint64([]byte(untilMark), uint64(s.verified.Until.Unix()))
	state.Extra = append(slices.DeleteFunc(state.Extra, func(x []byte) bool { return bytes.HasPrefix(x, []byte(untilMark)) }), until)
	if b, err := state.Bytes(); err != nil || len(ticket)+len(b) > maxSession {
		return
	}
	if c, err = tls.NewResumptionState(ticket, state); err == nil {
		s.cache.Put(s.key, c)
	}
}

// forClients returns what the clients get that are shown leaf. It is one for all of
// them: crypto/tls keeps it for as long as a connection lives.
func (e *epoch) forClients(leaf *tls.Certificate) *tls.Config {
	key := weak.Make(leaf)
	if c, ok := e.clients.Load(key); ok {
		return c.(*tls.Config)
	}
	c := &tls.Config{
		Certificates:                []tls.Certificate{*leaf},
		NextProtos:                  alpn,
		MinVersion:                  tls.VersionTLS12,
		DynamicRecordSizingDisabled: true,
	}
	e.resumable(c, leaf)
	if other, ok := e.clients.LoadOrStore(key, c); ok {
		return other.(*tls.Config)
	}
	runtime.AddCleanup(leaf, func(clients *sync.Map) { clients.Delete(key) }, e.clients)
	return c
}

// leafMark tells our note in a client's ticket.
const leafMark = "framegate leaf "

// resumable makes c resume only what was opened with the same leaf, and so for
// the same name, the same certificate of the server, and not past its end.
func (e *epoch) resumable(c *tls.Config, leaf *tls.Certificate) {
	sum := sha256.Sum256(leaf.Certificate[0])
	note := append([]byte(leafMark), sum[:]...)
	c.WrapSession = func(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		// What a resumed session had of ours would pile up.
		s.Extra = append(slices.DeleteFunc(s.Extra, func(x []byte) bool { return bytes.HasPrefix(x, []byte(leafMark)) }), note)
		return e.tickets.EncryptTicket(cs, s)
	}
	c.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		s, err := e.tickets.DecryptTicket(identity, cs)
		if err != nil || s == nil || !slices.ContainsFunc(s.Extra, func(x []byte) bool { return bytes.Equal(x, note) }) {
			return nil, err
		}
		return s, nil
	}
}
