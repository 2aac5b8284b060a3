package mitm

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"framegate/audit"
	"framegate/mitm/chain"
)

// A client that is over its share of handshakes gets the alert that blames nobody,
// and a record; the server is not called, and no leaf is made. What is bypassed
// costs no handshake, and is not asked about.
func TestHandshakeRate(t *testing.T) {
	t.Parallel()
	o := newHTTPOrigin(t, secure("valid"), nil)
	var left atomic.Int64
	left.Store(1)
	g := newGateway(t, o.addr, "[[connection]]\nid = \"bank\"\nhost = [\"bank.test\"]\ndecision = \"bypass\"\n", func(p *Proxy) {
		p.Handshake = func(client netip.Addr) bool {
			if !client.IsLoopback() {
				t.Errorf("asked about %s", client)
			}
			return left.Add(-1) >= 0
		}
	})
	g.dialTLS(g.trust(originName)).Close()
	g.ended(1)
	dialled := len(g.destinations())
	var alert tls.AlertError
	if err := tls.Client(g.dial(), g.trust(originName)).Handshake(); !errors.As(err, &alert) && (err == nil || !strings.Contains(err.Error(), tls.AlertError(alertInternalError).Error())) {
		t.Errorf("client: %v, want an internal error", err)
	}
	e := g.ended(2)
	if e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsRate+": ") || e.SNI != originName {
		t.Errorf("%+v", e)
	}
	if list := g.ledger.of(audit.TLSFail); len(list) != 1 || list[0].Reason != e.Reason {
		t.Errorf("%+v", list)
	}
	if n := len(g.destinations()); n != dialled {
		t.Errorf("the server was called")
	}
	c := tls.Client(g.dial(), &tls.Config{InsecureSkipVerify: true, ServerName: "bank.test"})
	if err := c.Handshake(); err != nil {
		t.Errorf("bypassed: %v", err)
	}
	c.Close()
	if e := g.ended(3); e.State != audit.StateBypassed {
		t.Errorf("%+v", e)
	}
}

// After a shedding the next handshake with the server is a full one, and the client's
// session is still good.
func TestShedSessions(t *testing.T) {
	r := newResumer(t, tls.VersionTLS13, secure("valid"), &chain.Trust{Roots: originPKI().roots, Version: "1"})
	r.Shed() // with nothing to shed
	r.call(false)
	r.call(true)
	r.Shed()
	c := r.dialTLS(r.client)
	if status, _ := get(t, c, originName); status != 200 {
		t.Errorf("status %d", status)
	}
	if !c.ConnectionState().DidResume || r.upstream.Load() {
		t.Errorf("resumed: with the client %v, with the server %v", c.ConnectionState().DidResume, r.upstream.Load())
	}
	c.Close()
	r.calls++
	r.ended(r.calls)
	r.call(true)
}
