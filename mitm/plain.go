package mitm

import (
	"net/http"
	"net/netip"
	"strings"

	"framegate/audit"
	"framegate/policy"
)

// ServePlain serves one request in absolute form (RFC 9112, Section 3.2.2) that
// came to an explicit proxy: an ordinary exchange with the first of dst that
// can be reached. It is a connection of its own in the ledger. A WebSocket
// comes by CONNECT, and not this way.
func (p *Proxy) ServePlain(w http.ResponseWriter, r *http.Request, dst []netip.AddrPort) {
	p.init.Do(p.setUp)
	f := &flow{proxy: p, settings: p.settings(), ctx: r.Context(), id: newID(), server: dst[0], state: audit.StateInspected}
	client, _ := netip.ParseAddrPort(r.RemoteAddr)
	f.client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	f.host = policy.NormalHost(r.Host)
	if err := f.record(f.event(audit.ConnOpen)); err != nil {
		http.Error(w, "framegate: the audit log cannot be written", http.StatusServiceUnavailable)
		return
	}
	f.shard = p.Stats.open()
	defer f.closeEntry()
	head := &requestHead{method: r.Method, target: r.RequestURI, head: head{fields: []field{{"Host", r.Host}}}}
	for _, value := range r.Header["Connection"] {
		head.fields = append(head.fields, field{"Connection", value})
	}
	if strings.Contains(strings.ToLower(r.Header.Get("Upgrade")), "websocket") {
		http.Error(w, "framegate: a WebSocket goes through a proxy by CONNECT", http.StatusBadRequest)
		f.recordRefusal(head, http.StatusBadRequest, "upgrade without CONNECT")
		return
	}
	if f.local = f.settings.Local.is(f.host); f.local {
		dst = nil // and nobody is dialled
	}
	for _, a := range dst {
		f.server = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if status, _ := f.admit(head); status != 0 {
			break // which serve says
		}
		if c, err := f.dial(f.ctx); err == nil {
			f.spare = c
			break
		}
	}
	x := newExchange(f, nil)
	defer x.close()
	x.serve(w, r, head)
}
