package mitm

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
)

// A Local is a host that is the gateway itself. A connection whose first
// request names it, by SNI or by Host, whatever address it was on its way to, is
// served by Handler. No server is dialled for it, and no rule asked: a policy
// speaks of what goes to servers, and nothing does.
//
// Such a connection stays what it is: a request on it for another host gets
// 421, and so does one for this host on a connection to a server.
type Local struct {
	// Host is the name, in lower case and without a trailing dot.
	Host string
	// Handler serves the requests. TLS is set in those that came by it.
	Handler http.Handler
	// Leaf returns a certificate for Host.
	Leaf func(ctx context.Context, hello *tls.ClientHelloInfo) (*tls.Certificate, error)
}

// is reports whether a normalised host name is the one. A nil Local is nobody.
func (l *Local) is(host string) bool { return l != nil && host == l.Host }

// Reasons in records, stable up to the colon.
const (
	localReason      = "own-host" // the gateway has answered by itself
	localMisdirected = "own-host-misdirected: of the gateway itself and a server, the connection was opened for the other"
)

// serveLocal answers a request for the gateway itself. A WebSocket is none of
// what it speaks, and "A server MAY ignore a received Upgrade header field"
// (RFC 9110, Section 7.8).
func (x *exchange) serveLocal(w http.ResponseWriter, r *http.Request, head *requestHead) {
	f := x.flow
	sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	// net/http's server was shown a target of ours in place of the one that came.
	target, err := url.ParseRequestURI(head.origin())
	if err != nil {
		http.Error(sw, "framegate: bad request target", http.StatusBadRequest)
	} else {
		r = r.WithContext(r.Context())
		r.Host, r.URL, r.RequestURI = head.host(), target, head.origin()
		if f.down.tls != nil {
			state := f.down.tls.ConnectionState()
			r.TLS = &state
		}
		f.settings.Local.Handler.ServeHTTP(sw, r)
	}
	if err := f.recordRequest(head, sw.status, localReason); err != nil {
		f.reset = true
		panic(http.ErrAbortHandler)
	}
}
