package endtoend

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// testBypass: the very bytes of the client's TLS reach the server, and the
// other way round.
func testBypass(t *testing.T, g *gateway) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			c := g.dial(t, network, bankHost, 443, clients.Trust(g.pki.Roots(), bankHost))
			target := "/echo?bypass=" + network
			if _, err := c.Upgrade(clients.OddHead(bankHost, target)); err != nil {
				t.Fatal(err)
			}
			// No message is judged here.
			for _, text := range []string{"drop this", "close this"} {
				c.Send(true, frames.Text, []byte(text))
				if _, got, err := c.Frame(); err != nil || string(got) != text {
					t.Errorf("%q (%v), expected %q", got, err, text)
				}
			}
			if _, err := c.Bye(frames.NormalClosure, ""); err != nil {
				t.Fatal(err)
			}
			server := g.serverSide(t, target)
			finished(t, server)
			same(t, "ciphertext to the server", c.Net.Sent(), server.Net.Received())
			same(t, "ciphertext to the client", server.Net.Sent(), c.Net.Received())
			l := g.log.of(t, c.LocalAddr())
			if r := l.one(t, audit.ConnBypass); r.Action != "bypass" || r.SNI != bankHost || strings.Join(r.Rules, "") != "bank" {
				t.Errorf("conn.bypass: %s", r)
			}
			end := l.ended(t, audit.StateBypassed, "bank")
			if up, down := end.Totals.ToServer.Bytes, end.Totals.ToClient.Bytes; up != int64(len(c.Net.Sent())) || down != int64(len(c.Net.Received())) {
				t.Errorf("totals %d and %d, the client sent %d and received %d", up, down, len(c.Net.Sent()), len(c.Net.Received()))
			}
			if server.Hello().ServerName != bankHost || len(l.all(audit.WSMessage)) > 0 {
				t.Errorf("hello for %q, log\n%s", server.Hello().ServerName, lines(l))
			}
		})
	}
}

// testBypassHalfClose: when the client has ended its direction, the server's
// goes on.
func testBypassHalfClose(t *testing.T, g *gateway) {
	c := g.dial(t, "tcp6", bankHost, 443, clients.Trust(g.pki.Roots(), bankHost))
	if _, err := c.Upgrade(clients.OddHead(bankHost, "/fault/half-close?bypassed")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, late, err := c.Frame(); err != nil || string(late) != "late" {
		t.Errorf("after the half-close: %q (%v)", late, err)
	}
	c.Rest()
	g.log.of(t, c.LocalAddr()).ended(t, audit.StateBypassed, "bank")
}

// testClientCertificate: nobody but the client can answer a server that asks
// for a certificate, so the client is left alone with it.
func testClientCertificate(t *testing.T, g *gateway) {
	c := g.tcp(t, "tcp4", personalHost)
	leaf, err := leafOf(c, clients.Trust(g.roots, personalHost))
	if leaf == nil || leaf.Issuer.CommonName != "Lab Origin Root" {
		t.Errorf("leaf %v, %v", leaf, err)
	}
	c.Close()
	g.log.of(t, c.LocalAddr()).ended(t, audit.StateBypassed, "server-client-cert")
}

// testOpaque: a server that speaks first, on the port of TLS.
func testOpaque(t *testing.T, g *gateway) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			t.Parallel() // the gateway waits a while for the client to speak
			c := g.tcp(t, network, mailHost).(*net.TCPConn)
			banner := make([]byte, len(origin.Banner))
			if _, err := io.ReadFull(c, banner); err != nil || string(banner) != origin.Banner {
				t.Fatalf("%q (%v)", banner, err)
			}
			io.WriteString(c, "EHLO "+network+"\r\n")
			c.CloseWrite()
			if rest, err := io.ReadAll(c); err != nil || string(rest) != "EHLO "+network+"\r\n" {
				t.Errorf("%q (%v)", rest, err)
			}
			l := g.log.of(t, c.LocalAddr())
			if r := l.one(t, audit.ConnBypass); r.Action != "bypass" || r.Reason == "" {
				t.Errorf("conn.bypass: %s", r)
			}
			end := l.ended(t, audit.StateOpaque)
			if end.Totals.ToServer.Bytes != int64(len("EHLO tcp4\r\n")) || end.Totals.ToClient.Bytes != int64(len(origin.Banner)+len("EHLO tcp4\r\n")) {
				t.Errorf("totals: %s", end)
			}
		})
	}
}

// tcp connects the client to port 443 of host.
func (s *site) tcp(t *testing.T, network, host string) net.Conn {
	t.Helper()
	ctx := soon(t)
	c, err := s.dialer()(ctx, network, host+":443")
	if err != nil {
		t.Fatal(err)
	}
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	t.Cleanup(func() { c.Close() })
	return c
}

// testBlocked: a refusal in the words of TLS, and in those of HTTP.
func testBlocked(t *testing.T, g *gateway) {
	for _, network := range families {
		c := g.tcp(t, network, blockedHost)
		leaf, err := leafOf(c, clients.Trust(g.roots, blockedHost))
		if leaf != nil || err == nil || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("leaf %v, %v", leaf, err)
		}
		l := g.log.of(t, c.LocalAddr())
		if r := l.one(t, audit.ConnBlock); r.Action != "block" || r.SNI != blockedHost {
			t.Errorf("conn.block: %s", r)
		}
		l.ended(t, audit.StateBlocked, "blocked")

		plain := g.dial(t, network, blockedHost, 80, nil)
		io.WriteString(plain, "GET /never HTTP/1.1\r\nHost: "+blockedHost+"\r\n\r\n")
		if answer, err := plain.Rest(); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 403 ")) {
			t.Errorf("%q (%v)", answer, err)
		}
		plain.Close() // the gateway gives a client time to read a refusal
		g.log.of(t, plain.LocalAddr()).ended(t, audit.StateBlocked, "blocked")
	}
	for _, c := range g.origin.Conns() {
		if hello := c.Hello(); hello != nil && hello.ServerName == blockedHost || strings.Contains(strings.Join(c.URIs(), " "), "/never") {
			t.Error("the blocked host was dialled")
		}
	}
}

// testBadCertificates: the client gets an alert that says what is wrong, and no
// certificate.
func testBadCertificates(t *testing.T, g *gateway) {
	for host, want := range map[string]struct{ alert, reason string }{
		expiredHost:   {"expired certificate", "expired: "},
		notYetHost:    {"expired certificate", "not-yet-valid: "}, // which has the same alert
		wrongHost:     {"bad certificate", "name-mismatch: "},
		selfHost:      {"unknown certificate authority", "self-signed: "},
		untrustedHost: {"unknown certificate authority", "untrusted: "},
	} {
		for _, network := range families {
			t.Run(host+" "+network, func(t *testing.T) {
				c := g.tcp(t, network, host)
				leaf, err := leafOf(c, clients.Trust(g.roots, host))
				if leaf != nil {
					t.Errorf("a leaf was issued: %v by %v", leaf.Subject, leaf.Issuer)
				}
				if err == nil || !strings.Contains(err.Error(), want.alert) {
					t.Errorf("%v, expected the alert %q", err, want.alert)
				}
				l := g.log.of(t, c.LocalAddr())
				if r := l.one(t, audit.TLSFail); !strings.HasPrefix(r.Reason, want.reason) || r.SNI != host {
					t.Errorf("tls.fail: %s", r)
				}
				l.ended(t, audit.StateFailed)
			})
		}
	}
	// A real client says so, too.
	report, err := realClients[0].run(g.site, context.WithoutCancel(soon(t)), g.machine(t), clients.Job{URL: "wss://" + expiredHost + "/echo"})
	if err != nil || !strings.Contains(report.Error, "alert certificate expired") {
		t.Errorf("%+v (%v)", report, err)
	}
}
