package mitm

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/ca"
)

const ownHost = "framegate.internal"

// own makes g answer for a host of its own.
func own(p *Proxy) {
	p.Settings().Local = &Local{
		Host: ownHost,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				http.Error(w, "not that", http.StatusMethodNotAllowed)
				return
			}
			fmt.Fprintf(w, "own %s %s tls=%t", r.Host, r.URL.RequestURI(), r.TLS != nil)
		}),
		Leaf: func(ctx context.Context, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return authority.Own(ctx, ownHost, hello)
		},
	}
}

// Whatever the address, whatever the rules: the gateway's own name is answered
// by the gateway, recorded, and nobody is dialled.
func TestLocal(t *testing.T) {
	t.Parallel()
	for _, rules := range []string{
		"",
		connectionRule("block", `host = ["**"]`),
		connectionRule("bypass", `host = ["framegate.internal"]`),
		connectionRule("block", `client = ["127.0.0.0/8"]`),
	} {
		g := newGateway(t, unreachable(t), rules, own)
		n := 0
		for _, secure := range []bool{false, true} {
			for host, sni := range map[string]string{ownHost: ownHost, "FrameGate.INTERNAL.:80": "FRAMEGATE.internal"} {
				var c io.ReadWriteCloser = g.dial()
				if secure {
					config := g.trust(ownHost)
					config.ServerName = sni
					c = g.dialTLS(config)
				}
				r := newReader(c)
				for _, path := range []string{"/", "/a%2Fb?c"} { // one after the other
					send(t, c, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
					if status, body := answer(t, r); status != 200 || body != fmt.Sprintf("own %s %s tls=%t", host, path, secure) {
						t.Errorf("%s, secure %t: %d %q", host, secure, status, body)
					}
				}
				c.Close()
				n++
				if e := g.ended(n); e.State != audit.StateInspected || len(e.Rules) > 0 || e.Host != ownHost || secure != (e.SNI == ownHost) {
					t.Errorf("%+v", e)
				}
			}
		}
		requests := g.ledger.of(audit.HTTPRequest)
		for _, e := range requests {
			if e.Code != 200 || e.Reason != localReason || e.Method != "GET" || e.Host != ownHost {
				t.Errorf("%+v", e)
			}
		}
		if len(requests) != 2*n || requests[1].Path != "/a%2Fb" {
			t.Errorf("%d requests in %d connections\n%s", len(requests), n, g.ledger)
		}
		if d := g.destinations(); len(d) > 0 {
			t.Errorf("dialled %v", d)
		}
		if n := g.certs.asked.Load(); n > 0 {
			t.Errorf("%d leaves in place of a server were asked for", n)
		}
	}
}

// What is no plain question to the gateway itself gets an answer and nothing
// else: no tunnel, no proxying, no server.
func TestLocalRefusals(t *testing.T) {
	t.Parallel()
	o := newHTTPOrigin(t, nil, http.NotFoundHandler())
	g := newGateway(t, o.addr, "", own)
	for i, tt := range []struct {
		name, request string
		status        int
		state         string
	}{
		{"post", "POST / HTTP/1.1\r\nHost: framegate.internal\r\nContent-Length: 4\r\n\r\nbody", 405, audit.StateInspected},
		{"websocket", "GET / HTTP/1.1\r\nHost: framegate.internal\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", 200, audit.StateInspected},
		{"absolute form", "GET http://framegate.internal/x HTTP/1.1\r\nHost: framegate.internal\r\n\r\n", 200, audit.StateInspected},
		{"two hosts", "GET http://framegate.internal/x HTTP/1.1\r\nHost: other.test\r\n\r\n", 400, audit.StateFailed},
		{"connect", "CONNECT framegate.internal:443 HTTP/1.1\r\nHost: framegate.internal\r\n\r\n", 400, audit.StateFailed},
		{"then another", "HEAD / HTTP/1.1\r\nHost: framegate.internal\r\n\r\nGET / HTTP/1.1\r\nHost: other.test\r\n\r\n", 421, audit.StateBlocked},
		{"then nobody", "HEAD / HTTP/1.1\r\nHost: framegate.internal\r\n\r\nGET / HTTP/1.0\r\n\r\n", 421, audit.StateBlocked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := g.dial()
			send(t, c, tt.request)
			c.CloseWrite()
			all := readAll(t, c)
			last := all[max(0, strings.LastIndex(all, "HTTP/1.")):]
			if len(last) < 13 || last[8:13] != fmt.Sprintf(" %d ", tt.status) {
				t.Errorf("%q", all)
			}
			if e := g.ended(i + 1); e.State != tt.state {
				t.Errorf("%+v", e)
			}
		})
	}
	for _, tt := range []struct{ sni, host string }{{ownHost, "other.test"}, {ownHost, ""}} {
		c := g.dialTLS(g.trust(tt.sni))
		send(t, c, "GET / HTTP/1.1\r\nHost: "+tt.host+"\r\n\r\n")
		if status, _ := answer(t, newReader(c)); status != 421 {
			t.Errorf("%q as %q: %d", tt.host, tt.sni, status)
		}
		c.Close()
	}
	if d := g.destinations(); len(d) > 0 {
		t.Errorf("dialled %v", d)
	}
}

// Nor is a request for it let through on a connection to a server, be it for a
// WebSocket, with TLS or without.
func TestLocalElsewhere(t *testing.T) {
	t.Parallel()
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for _, config := range []*tls.Config{nil, secure("valid")} {
		o := newHTTPOrigin(t, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host != originName {
				t.Errorf("the server was asked for %s", r.Host)
			}
		}))
		g := newGateway(t, o.addr, "", own)
		for i, fields := range []string{"", upgrade} {
			var c io.ReadWriteCloser = g.dial()
			if config != nil {
				c = g.dialTLS(g.trust(originName))
			}
			r := newReader(c)
			send(t, c, "GET / HTTP/1.1\r\nHost: "+originName+"\r\n\r\n")
			if status, _ := answer(t, r); status != 200 {
				t.Errorf("status %d", status)
			}
			send(t, c, "GET / HTTP/1.1\r\nHost: framegate.internal\r\n"+fields+"\r\n")
			if status, _ := answer(t, r); status != 421 {
				t.Errorf("status %d", status)
			}
			c.Close()
			if e := g.ended(i + 1); e.State != audit.StateBlocked {
				t.Errorf("%+v", e)
			}
		}
	}
}

// By an explicit proxy, in absolute form: the same, and nobody is dialled.
func TestLocalPlain(t *testing.T) {
	t.Parallel()
	dead := unreachable(t)
	g := newGateway(t, dead, connectionRule("block", `host = ["**"]`), own)
	proxy := explicit(t, g, dead)
	if status, body := through(t, proxy, "GET http://FrameGate.internal:80/x HTTP/1.1\r\nHost: ignored.test\r\n\r\n"); status != 200 || body != "own FrameGate.internal:80 /x tls=false" {
		t.Errorf("%d %q", status, body)
	}
	if e := g.ended(1); e.State != audit.StateInspected || e.Host != ownHost {
		t.Errorf("%+v", e)
	}
	if d := g.destinations(); len(d) > 0 {
		t.Errorf("dialled %v", d)
	}
}

// A leaf that cannot be made is no leaf, and the record says why.
func TestLocalLeafFails(t *testing.T) {
	t.Parallel()
	g := newGateway(t, netip.MustParseAddrPort("127.0.0.1:9"), "", own, func(p *Proxy) {
		p.Settings().Local.Leaf = func(context.Context, *tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, ca.ErrConstraint }
	})
	err := tls.Client(g.dial(), g.trust(ownHost)).Handshake()
	if err == nil || !strings.Contains(err.Error(), tls.AlertError(alertInternalError).Error()) {
		t.Errorf("client: %v", err)
	}
	if e := g.ended(1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsLeaf+": ") {
		t.Errorf("%+v", e)
	}
	// The page is there all the same.
	if status, _ := get(t, g.dial(), ownHost); status != 200 {
		t.Errorf("status %d", status)
	}
	if d := g.destinations(); !slices.Equal(d, nil) {
		t.Errorf("dialled %v", d)
	}
}
