package endtoend

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"framegate/audit"
	"framegate/internal/lab"
)

// sharedPolicy is the policy of TestGateway: what it looks for occurs only in
// the tests of it.
const sharedPolicy = `
[policy]
name = "shared"

[[connection]]
id       = "bank"
host     = ["` + bankHost + `"]
decision = "bypass"

[[connection]]
id       = "blocked"
host     = ["` + blockedHost + `"]
decision = "block"

[[rule]]
id     = "note"
action = "log"
match  = { contains = ["note this"] }

[[rule]]
id     = "loss"
action = "drop"
match  = { contains = ["drop this"] }

[[rule]]
id     = "end"
action = "close"
reason = "not allowed here"
match  = { contains = ["close this"] }

[[rule]]
id     = "loss-back"
action = "drop"
scope  = { direction = "to-client" }
match  = { contains = ["lose this coming back"] }

[[rule]]
id     = "end-back"
action = "close"
reason = "not allowed back"
scope  = { direction = "to-client" }
match  = { contains = ["end this coming back"] }
` + redactRules

// TestGateway is all that one gateway can be asked while it runs. The parts run
// side by side, as its clients do in life.
func TestGateway(t *testing.T) {
	s := newSite(t, settings{policy: sharedPolicy})
	g := s.start(t)
	g.log.waitFor(t, audit.PolicyLoad, 1) // the log has its file
	idle := g.descriptors(t)

	real := startRealServers(t, g)
	t.Run("serves", func(t *testing.T) {
		for _, part := range []struct {
			name string
			test func(*testing.T, *gateway)
		}{
			{"clients", testClients},
			{"actions", testActions},
			{"deflate", func(t *testing.T, g *gateway) { testDeflate(t, g, real) }},
			{"deflate identity", testDeflateIdentity},
			{"redact", func(t *testing.T, g *gateway) { testRedact(t, g, real) }},
			{"extensions", testExtensions},
			{"identity", testIdentity},
			{"ping in fragments", testPingInFragments},
			{"no sni", testNoSNI},
			{"split hello", testSplitHello},
			{"bypass", testBypass},
			{"half-close", testBypassHalfClose},
			{"client certificate", testClientCertificate},
			{"opaque", testOpaque},
			{"blocked", testBlocked},
			{"bad certificates", testBadCertificates},
			{"faults", testFaults},
			{"offence", testOffence},
			{"http", testHTTP},
			{"event by event", testEvents},
			{"continue", testContinue},
			{"upgrade after requests", testUpgradeAfterRequests},
			{"fronting", testFronting},
			{"explicit", testExplicit},
			{"explicit with curl", testExplicitCurl},
			{"explicit limits", testExplicitLimits},
			{"own port", testOwnPort},
			{"quic", testQUIC},
			{"own connections", testOwnConnections},
			{"excluded", testExcluded},
		} {
			t.Run(part.name, func(t *testing.T) {
				t.Parallel()
				part.test(t, g)
			})
		}
	})

	// All clients are gone.
	checkWholeLog(t, g.log)
	eventually(t, func() error {
		if now := g.descriptors(t); len(now) > len(idle) {
			return fmt.Errorf("descriptors before the first connection %q, after the last %q", idle, now)
		}
		return nil
	})
	g.signal(t, syscall.SIGQUIT) // Go's runtime prints all goroutines and exits with 2
	if code := g.wait(t); code != 2 {
		t.Errorf("exit %d on SIGQUIT", code)
	}
	said := g.console.String()
	dump := said[max(0, strings.Index(said, "SIGQUIT")):]
	for _, stack := range strings.Split(dump, "\n\n") {
		if strings.HasPrefix(stack, "goroutine ") && (strings.Contains(stack, "framegate/mitm.") || strings.Contains(stack, "goproxy")) {
			t.Errorf("a goroutine of a connection is left:\n%s", stack)
		}
	}
	if !strings.Contains(dump, "goroutine ") {
		t.Errorf("no goroutines in %q", dump)
	}
}

// eventually waits for something that nothing announces.
func eventually(t *testing.T, met func() error) {
	t.Helper()
	ctx := soon(t)
	for {
		err := met()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// checkWholeLog checks what holds for a log after the last connection: no
// record is missing, each connection ended once, and none came from the
// gateway itself.
func checkWholeLog(t *testing.T, log *journal) {
	t.Helper()
	log.wait(t, "the end of every connection", func(list []record) bool {
		return len(ledger(list).all(audit.ConnOpen)) <= len(ledger(list).all(audit.ConnClose))
	})
	states := []string{audit.StateInspected, audit.StateBypassed, audit.StateBlocked, audit.StateOpaque, audit.StateFailed}
	clients := []netip.Prefix{netip.MustParsePrefix("10.88.1.2/32"), netip.MustParsePrefix("fd88:1::2/128")}
	conns := make(map[string]ledger)
	for i, r := range log.all(t) {
		if r.Seq != uint64(i)+1 {
			t.Fatalf("record %d bears seq %d", i+1, r.Seq)
		}
		if r.Policy == "" && r.Event != audit.AuditGap {
			t.Errorf("no policy: %s", r)
		}
		if r.Conn == "" {
			continue
		}
		conns[r.Conn] = append(conns[r.Conn], r)
		client, err := netip.ParseAddrPort(r.Client)
		if err != nil || !slices.ContainsFunc(clients, func(p netip.Prefix) bool { return p.Contains(client.Addr()) }) {
			t.Errorf("not of a client of the %s: %s", lab.Client, r)
		}
	}
	for _, l := range conns {
		l.check(t)
		if end := l.one(t, audit.ConnClose); !slices.Contains(states, end.State) {
			t.Errorf("state: %s", end)
		}
	}
}
