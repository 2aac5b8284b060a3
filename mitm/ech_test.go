package mitm

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"framegate/audit"
)

// echKeys makes a key of a server and the ECHConfigList (RFC 9849, Section 4)
// that its clients have, with originName as the public name.
func echKeys(t *testing.T) (tls.EncryptedClientHelloKey, []byte) {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var config, list cryptobyte.Builder
	config.AddUint16(extensionECH)
	config.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8(7)       // config_id
		b.AddUint16(0x0020) // DHKEM(X25519, HKDF-SHA256)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(key.PublicKey().Bytes()) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint16(0x0001) // HKDF-SHA256
			b.AddUint16(0x0001) // AES-128-GCM
		})
		b.AddUint8(0) // maximum_name_length
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(originName)) })
		b.AddUint16(0) // extensions
	})
	one := config.BytesOrPanic()
	list.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(one) })
	return tls.EncryptedClientHelloKey{Config: one, PrivateKey: key.Bytes(), SendAsRetry: true}, list.BytesOrPanic()
}

const hiddenName = "www." + originName // behind the front that originName is

// A client with ECH is refused it in the way that makes it come back with its
// true name, by which it is then judged.
func TestECH(t *testing.T) {
	key, list := echKeys(t)
	config := secure("valid")
	config.EncryptedClientHelloKeys = []tls.EncryptedClientHelloKey{key}
	o := newHTTPOrigin(t, config, http.NotFoundHandler())
	hide := func(g *gateway) *tls.Config {
		c := g.trust(hiddenName)
		c.EncryptedClientHelloConfigList = list
		return c
	}
	rule := func(decision, host, more string) string {
		return connectionRule(decision, "host = [\""+host+"\"]\n"+more)
	}
	for _, tt := range []struct {
		name, rules string
		state       string // of the connection that comes in the open
	}{
		{"inspected", "", audit.StateInspected},
		{"the hidden name is blocked", rule("block", hiddenName, ""), audit.StateBlocked},
		{"the front is bypassed, not with ECH", rule("bypass", originName, `ech = "inspect"`), audit.StateInspected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, o.addr, tt.rules, func(p *Proxy) { p.Settings().BypassPinned = true })
			for range pinFailures + 1 { // which count for nothing
				err := tls.Client(g.dial(), hide(g)).Handshake()
				var rejected *tls.ECHRejectionError
				if !errors.As(err, &rejected) || len(rejected.RetryConfigList) > 0 {
					t.Fatalf("client: %v, %+v; want a rejection without retry configurations", err, rejected)
				}
			}
			end := g.ended(pinFailures + 1)
			if end.State != audit.StateFailed || end.SNI != originName || !strings.HasPrefix(end.Reason, tlsECH+": ") {
				t.Errorf("%+v", end)
			}
			if list := g.ledger.of(audit.TLSFail); len(list) != pinFailures+1 || list[0].Reason != end.Reason {
				t.Errorf("%s", g.ledger)
			}
			// As the client does then (RFC 9849, Section 6.1.6).
			c := tls.Client(g.dial(), g.trust(hiddenName))
			if err := c.Handshake(); (err == nil) != (tt.state == audit.StateInspected) {
				t.Errorf("in the open: %v", err)
			} else if err == nil {
				if status, _ := get(t, c, hiddenName); status != 404 {
					t.Errorf("status %d", status)
				}
			}
			c.Close()
			if e := g.ended(pinFailures + 2); e.State != tt.state || e.SNI != hiddenName {
				t.Errorf("%+v", e)
			}
		})
	}

	// A block by the name of the front stands; there is nothing to come back for.
	t.Run("the front is blocked", func(t *testing.T) {
		g := newGateway(t, o.addr, rule("block", originName, ""))
		err := tls.Client(g.dial(), hide(g)).Handshake()
		if want := tls.AlertError(alertAccessDenied); err == nil || !strings.Contains(err.Error(), want.Error()) {
			t.Errorf("client: %v, want alert %v", err, want)
		}
		if e := g.ended(1); e.State != audit.StateBlocked {
			t.Errorf("%+v", e)
		}
	})

	// A bypass takes clients at their word, since most that carry ECH pretend; but
	// the record says so.
	t.Run("the front is bypassed", func(t *testing.T) {
		g := newGateway(t, o.addr, rule("bypass", originName, ""))
		c := hide(g)
		c.RootCAs = originPKI().roots
		conn := g.dialTLS(c)
		if !conn.ConnectionState().ECHAccepted {
			t.Error("ECH did not reach the server")
		}
		conn.Close()
		e := g.ended(1)
		if e.State != audit.StateBypassed || e.Reason != echUnseen {
			t.Errorf("%+v", e)
		}
		if list := g.ledger.of(audit.ConnBypass); len(list) != 1 || list[0].Reason != echUnseen || !slices.Equal(list[0].Rules, []string{"test"}) {
			t.Errorf("%s", g.ledger)
		}
	})

	// If the leaf for the front were not valid, the client would not believe that
	// ECH is refused (Section 6.1.6), and so we need the front's server for it.
	t.Run("the client lacks the CA", func(t *testing.T) {
		g := newGateway(t, o.addr, "")
		c := hide(g)
		c.RootCAs = originPKI().roots
		err := tls.Client(g.dial(), c).Handshake()
		if err == nil || errors.As(err, new(*tls.ECHRejectionError)) {
			t.Errorf("client: %v", err)
		}
		if e := g.ended(1); !strings.HasPrefix(e.Reason, tlsNoCA+": ") {
			t.Errorf("%+v", e)
		}
	})
}

// Chromium pretends to use ECH (GREASE) with every server of which it knows no
// configuration. It is neither sent away nor kept from a bypass.
func TestECHGrease(t *testing.T) {
	o := newHTTPOrigin(t, secure("valid"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "<p>from the origin</p>")
	}))
	for _, tt := range []struct{ rules, state, reason string }{
		{"", audit.StateInspected, ""},
		{connectionRule("bypass", `host = ["`+originName+`"]`), audit.StateBypassed, echUnseen},
	} {
		var greased atomic.Bool
		g := newGateway(t, o.addr, tt.rules, func(p *Proxy) {
			p.Certs = helloCerts{p.Certs, func(h *tls.ClientHelloInfo) { greased.Store(hasECH(h)) }}
		})
		_, port, _ := net.SplitHostPort(g.addr)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		browser := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
			"--no-first-run", "--disable-background-networking", "--user-data-dir="+t.TempDir(), "--ignore-certificate-errors",
			"--host-resolver-rules=MAP * 127.0.0.1", "--dump-dom", "https://"+originName+":"+port+"/")
		page, err := browser.Output()
		cancel()
		if !strings.Contains(string(page), "from the origin") {
			t.Fatalf("the page is %q (%v)", page, err)
		}
		g.stop() // what Chromium has opened ahead
		g.ended(1)
		var seen bool
		for _, e := range g.ledger.of(audit.ConnClose) {
			seen = seen || e.SNI == originName && e.State == tt.state && e.Reason == tt.reason
		}
		if !seen || tt.state == audit.StateInspected && !greased.Load() {
			t.Errorf("GREASE %v\n%s", greased.Load(), g.ledger)
		}
	}
}

// helloCerts shows the ClientHellos for which leaves are made.
type helloCerts struct {
	CertSource
	see func(*tls.ClientHelloInfo)
}

func (c helloCerts) Leaf(ctx context.Context, name string, origin *x509.Certificate, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.see(hello)
	return c.CertSource.Leaf(ctx, name, origin, hello)
}
