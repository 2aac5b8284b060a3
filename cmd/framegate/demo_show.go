package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
)

// showNetwork shows where everything is and what redirects the client.
func (d *demo) showNetwork(ctx context.Context) error {
	d.say("  client  %-11s --  %-11s gateway  --  %-11s server", d.net.Addr(lab.Client, false), d.net.Addr(lab.Gateway, false), d.net.Addr(lab.Server, false))
	d.say("          %-11s --  %-11s          --  %-11s", d.net.Addr(lab.Client, true), d.net.Addr(lab.Gateway, true), d.net.Addr(lab.Server, true))
	d.say("\nThe gateway runs `framegate run`; `framegate redirect up` has set its rules:")
	for _, tool := range []string{"iptables-save", "ip6tables-save"} {
		rules, err := d.net.Command(ctx, lab.Gateway, tool, "-t", "nat").Output()
		if err != nil {
			return fmt.Errorf("%s: %w", tool, err)
		}
		found := false
		for line := range strings.Lines(string(rules)) {
			if strings.Contains(line, "REDIRECT") {
				found = true
				d.say("  %-14s %s", strings.TrimSuffix(tool, "-save"), strings.TrimSpace(line))
			}
		}
		d.claim(found, "%s redirects TCP to the gateway", strings.TrimSuffix(tool, "-save"))
	}
	return nil
}

// dial connects the client to a host, through TLS if port is 443.
func (d *demo) dial(ctx context.Context, family, host string, port uint16) (*clients.Raw, error) {
	o := clients.RawOptions{
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return d.net.Dial(ctx, lab.Client, network, address)
		},
		Network: family,
		Address: d.address(family, host, port).String(),
	}
	if port == 443 {
		o.TLS = clients.Trust(d.roots, host)
	}
	return clients.DialRaw(ctx, o)
}

// showUpgrade follows one handshake: whom the client believes to talk to, who
// answers, and that neither head was touched.
func (d *demo) showUpgrade(ctx context.Context, family string) error {
	d.section("One handshake over %s", familyName(family))
	to := d.address(family, chatHost, 443)
	c, err := d.dial(ctx, family, chatHost, 443)
	if err != nil {
		return err
	}
	defer c.Close()
	sent := clients.OddHead(chatHost, "/head?over="+family, "Origin: https://"+chatHost, "Cookie: session=none")
	reply, err := c.Upgrade(sent)
	if err != nil {
		return err
	}
	_, received, err := c.Frame()
	if err != nil {
		return err
	}
	_, answered, err := c.Frame()
	if err != nil {
		return err
	}
	if _, err := c.Bye(frames.NormalClosure, "bye"); err != nil {
		return err
	}
	records, err := d.recordsOf(ctx, c.LocalAddr())
	if err != nil {
		return err
	}
	server, err := d.origin.Find(ctx, "/head?over="+family)
	if err != nil {
		return err
	}
	state := c.TLS()
	open := first(records, audit.ConnOpen)
	d.say("  the client dialled            %s as %s", to, chatHost)
	d.say("  and believes to talk to       %s", c.RemoteAddr())
	d.say("  the gateway was redirected    %s, original destination %s", open.Client, open.Server)
	d.say("  the server talks to           %s", server.RemoteAddr())
	d.say("  the client was shown          %s", state.PeerCertificates[0].Issuer.CommonName)
	d.claim(c.RemoteAddr().String() == to.String() && open.Server == to.String(), "the gateway found the destination that the client dialled")
	d.claim(hostOf(server.RemoteAddr()) != hostOf(c.LocalAddr()), "the connection really passes the gateway: the server does not see the client's address")
	d.claim(strings.Contains(state.PeerCertificates[0].Issuer.CommonName, "framegate issuing"), "the client verified a leaf of framegate's authority (%s)", tls.VersionName(state.Version))
	d.say("\n  the request head as the client sent it and as the server received it:")
	d.heads(sent, string(received))
	d.claim(sent == string(received), "request head: %d bytes sent, %d received: identical", len(sent), len(received))
	d.say("\n  the 101 as the server sent it and as the client received it:")
	d.heads(string(answered), string(reply))
	d.claim(bytes.Equal(reply, answered), "101 head: %d bytes sent, %d received: identical", len(answered), len(reply))
	return nil
}

// heads shows two heads that should be one.
func (d *demo) heads(sent, received string) {
	d.indented("    | ", sent)
	if sent != received {
		d.say("  but")
		d.indented("    | ", received)
	}
}

// showDecisions shows what is not a plain inspection: bypass, block, a bad
// certificate of the server, and WebSocket without TLS.
func (d *demo) showDecisions(ctx context.Context) error {
	d.section("Decisions about connections")
	if err := d.showBypass(ctx); err != nil {
		return err
	}
	for _, refused := range []struct{ host, event, alert, why string }{
		{blockedHost, audit.ConnBlock, "access denied", "a rule blocks the host"},
		{expiredHost, audit.TLSFail, "expired certificate", "the server's certificate has expired"},
	} {
		local, err := d.refusedTLS(ctx, refused.host)
		if err == nil || local == nil {
			return fmt.Errorf("%s: expected a refusal, got %v", refused.host, err)
		}
		records, rerr := d.recordsOf(ctx, local)
		if rerr != nil {
			return rerr
		}
		d.say("  %-18s  the client gets: %v", refused.host, err)
		d.claim(strings.Contains(err.Error(), refused.alert) && first(records, refused.event).Event != "",
			"%s: refused with the alert %q, since %s, and recorded as %s", refused.host, refused.alert, refused.why, refused.event)
	}
	return d.showPlain(ctx)
}

// showBypass lets the client, which trusts framegate alone, see the server's
// own certificate.
func (d *demo) showBypass(ctx context.Context) error {
	local, err := d.refusedTLS(ctx, bankHost)
	if local == nil {
		return err
	}
	var verify *tls.CertificateVerificationError
	if !errors.As(err, &verify) {
		return fmt.Errorf("%s: expected the server's own certificate, got %v", bankHost, err)
	}
	records, err := d.recordsOf(ctx, local)
	if err != nil {
		return err
	}
	issuer := verify.UnverifiedCertificates[0].Issuer.CommonName
	bypass := first(records, audit.ConnBypass)
	d.say("  %-18s  the client is shown the server's own certificate, issued by %q", bankHost, issuer)
	d.claim(!strings.Contains(issuer, "framegate issuing") && strings.Join(bypass.Rules, "") == "bank-bypass",
		"%s: passed through unseen by rule bank-bypass, and recorded as such", bankHost)
	return nil
}

// refusedTLS makes a handshake that is expected to fail.
func (d *demo) refusedTLS(ctx context.Context, host string) (local net.Addr, err error) {
	tcp, err := d.net.Dial(ctx, lab.Client, "tcp4", net.JoinHostPort(host, "443"))
	if err != nil {
		return nil, err
	}
	defer tcp.Close()
	err = tls.Client(tcp, clients.Trust(d.roots, host)).HandshakeContext(ctx)
	return tcp.LocalAddr(), err
}

// showPlain makes a WebSocket without TLS.
func (d *demo) showPlain(ctx context.Context) error {
	c, err := d.dial(ctx, "tcp6", chatHost, 80)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?plain")); err != nil {
		return err
	}
	if err := c.Send(true, frames.Text, []byte("hello")); err != nil {
		return err
	}
	_, back, err := c.Frame()
	if err != nil {
		return err
	}
	if _, err := c.Bye(frames.NormalClosure, ""); err != nil {
		return err
	}
	records, err := d.recordsOf(ctx, c.LocalAddr())
	if err != nil {
		return err
	}
	d.say("  %-18s  ws:// on port 80 over IPv6: sent %q, got %q back", chatHost, "hello", back)
	d.claim(string(back) == "hello" && countOf(records, audit.WSMessage) == 2, "ws:// without TLS is inspected like wss://: both messages are recorded")
	return nil
}

func familyName(family string) string {
	if family == "tcp4" {
		return "IPv4"
	}
	return "IPv6"
}

func hostOf(a net.Addr) netip.Addr {
	ap, _ := netip.ParseAddrPort(a.String())
	return ap.Addr().Unmap()
}
