package mitm

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// reconcile fails the test unless the counts say what the records say. It is
// called at the end of every gateway of the tests, when nothing is left of it.
func (g *gateway) reconcile(t testing.TB) {
	t.Helper()
	if g.Settings().Level != audit.Frames {
		return
	}
	x := g.Snapshot()
	want := map[string]int64{}
	for _, e := range g.ledger.of("") {
		for _, id := range e.Rules {
			if e.Msg != nil {
				want["rule "+id+" enforce"]++
			}
		}
		for _, id := range e.Shadow {
			want["rule "+id+" shadow"]++
		}
		switch e.Event {
		case audit.ConnOpen:
			want["opened"]++
		case audit.ConnClose:
			want["closed "+e.State]++
			if e.Totals == nil {
				continue
			}
			for dir, tally := range map[string]audit.Tally{"to-server": e.Totals.ToServer, "to-client": e.Totals.ToClient} {
				if e.Totals.ToServer.Messages+e.Totals.ToClient.Messages == 0 {
					want["unseen "+dir+" "+e.State] += tally.Bytes
				} else {
					want["messages of "+dir] += tally.Messages
					want["bytes of "+dir] += tally.Bytes
				}
			}
		case audit.WSMessage:
			want["messages "+e.Msg.Dir+" "+e.Action]++
			want["bytes "+e.Msg.Dir+" "+e.Action] += e.Msg.Size
		case audit.TLSFail:
			reason, _, _ := strings.Cut(e.Reason, ":")
			want["fail "+reason]++
		}
	}
	got := map[string]int64{"opened": x.Opened}
	add := func(name string, list []Count) {
		for _, c := range list {
			got[name+" "+strings.Join(c.Labels, " ")] += c.N
		}
	}
	add("closed", x.Closed)
	add("unseen", x.Unseen)
	add("messages", x.Messages)
	add("bytes", x.Bytes)
	for _, c := range x.Messages {
		got["messages of "+c.Labels[0]] += c.N
	}
	for _, c := range x.Bytes {
		got["bytes of "+c.Labels[0]] += c.N
	}
	add("fail", x.Verify)
	for _, c := range x.TLSFail {
		if c.Labels[1] != "verification" {
			got["fail "+c.Labels[1]] += c.N
		}
	}
	for kind := range []int{hitEnforced, hitShadow} { // of all policies that there were
		if m := g.Stats.hits[kind].byID.Load(); m != nil {
			for id, n := range *m {
				got["rule "+id+" "+hitKinds[kind]] = n.Load()
			}
		}
	}
	none := func(_ string, n int64) bool { return n == 0 }
	maps.DeleteFunc(got, none)
	maps.DeleteFunc(want, none)
	if !maps.Equal(got, want) {
		t.Errorf("the counts do not agree with the records:\ngot  %v\nwant %v", got, want)
	}
	if x.Live != 0 || x.HalfOpen != 0 || x.WebSockets != 0 {
		t.Errorf("%d connections, %d half-open and %d WebSockets are live after the end", x.Live, x.HalfOpen, x.WebSockets)
	}
}

func find(t *testing.T, list []Count, labels ...string) int64 {
	t.Helper()
	for _, c := range list {
		if slices.Equal(c.Labels, labels) {
			return c.N
		}
	}
	t.Fatalf("no count %v in %v", labels, list)
	return 0
}

const statsRules = `
[[connection]]
id = "bank"
host = ["bank.test"]
decision = "block"
[[rule]]
id = "note"
action = "log"
[rule.match]
contains = ["note"]
[[rule]]
id = "drop"
action = "drop"
[rule.match]
contains = ["bad"]
[[rule]]
id = "try"
mode = "shadow"
action = "close"
[rule.match]
contains = ["note"]
[[rule]]
id = "idle"
action = "log"
[rule.match]
contains = ["nobody says this"]
`

// Many WebSockets at once, and the counts are those of the records, live and
// after the end, which the harness compares.
func TestStats(t *testing.T) {
	h := newHub(t, "wss", statsRules)
	var all sync.WaitGroup
	const sockets, rounds = 8, 20
	for range sockets {
		s := h.open()
		all.Go(func() {
			for range rounds {
				s.client.send(s.client.frame(frames.Text, "a note") + s.client.frame(frames.Text, "bad") + s.client.frame(frames.Text, "plain"))
			}
			io.ReadFull(s.server, make([]byte, rounds*(6+2+4+5+2+4)))
			s.client.send(s.client.frame(frames.Ping, "note"))
			s.server.send(s.server.part(frames.Text, "in two "))
			s.client.tcp.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			io.ReadFull(s.client, make([]byte, 1)) // nothing comes: it is held
			s.client.tcp.SetReadDeadline(time.Now().Add(patience))
			s.server.send(s.server.frame(frames.Ping, "")) // overtakes, and ends no hold
			s.server.send(frameOf(frames.ToClient, true, frames.Continuation, "parts"))
		})
	}
	all.Wait()
	h.ledger.wait(t, audit.WSMessage, sockets*(3*rounds+1))
	if !settles(func() bool { return find(t, h.Snapshot().Messages, "to-client", "allow") == sockets }) {
		t.Error("the counts of live WebSockets do not come")
	}
	x := h.Snapshot()
	for _, tt := range []struct {
		name      string
		got, want int64
	}{
		{"live", x.Live, sockets},
		{"half-open", x.HalfOpen, 0},
		{"WebSockets", x.WebSockets, sockets},
		{"allowed", find(t, x.Messages, "to-server", "allow"), sockets * rounds},
		{"logged", find(t, x.Messages, "to-server", "log"), sockets * rounds},
		{"dropped bytes", find(t, x.Bytes, "to-server", "drop"), sockets * rounds * 3},
		{"hits of a rule", find(t, x.Rules, "note", "enforce"), sockets * rounds},
		{"hits of a rule on trial", find(t, x.Rules, "try", "shadow"), sockets * rounds},
		{"hits of a rule that nothing matches", find(t, x.Rules, "idle", "enforce"), 0},
		{"hits of a connection rule", find(t, x.Rules, "bank", "connection"), 0},
		{"handshakes with clients", find(t, x.Handshakes, "client", "1.3", "full"), sockets},
		{"handshakes with servers", find(t, x.Handshakes, "server", "1.3", "full") + find(t, x.Handshakes, "server", "1.3", "resumed"), sockets},
		{"messages that were held", x.Hold[frames.ToClient].Count, sockets},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, tt.got, tt.want)
		}
	}
	if n := x.Inspect[frames.ToServer].Count; n < sockets || n > sockets*(3*rounds+1) {
		t.Errorf("%d batches of %d messages", n, sockets*(3*rounds+1))
	}
	if h := x.Hold[frames.ToClient]; h.Sum < sockets*15*time.Millisecond || h.Within[5*time.Millisecond] != 0 || h.Within[time.Minute] != sockets {
		t.Errorf("held for 20 ms each: %+v", h)
	}
	h.reload(`[[rule]]
id = "note"
action = "log"
`)
	if x := h.Snapshot(); len(x.Rules) != 1 || find(t, x.Rules, "note", "enforce") != sockets*rounds {
		t.Errorf("after a reload: %v", x.Rules)
	}
	h.stop()
}

// A message over the hold is held until it begins to pass, and no part of it after
// that, whether it comes in fragments or in one frame.
func TestStatsOfStream(t *testing.T) {
	s := openSocket(t, "ws", "", func(p *Proxy) { p.Settings().Hold, p.Settings().Stream = 1000, true })
	whole := s.client.part(frames.Text, strings.Repeat("x", 600)) + frameOf(s.client.dir, false, frames.Continuation, strings.Repeat("y", 6000)) +
		frameOf(s.client.dir, true, frames.Continuation, "end")
	for range 2 {
		batches := func() int64 { return s.Snapshot().Inspect[frames.ToServer].Count }
		before := batches()
		s.client.send(whole[:500])
		if !settles(func() bool { return batches() > before }) {
			t.Fatal("nothing was looked at")
		}
		s.client.send(whole[500:])
		expect(t, s.server, whole)
		s.client.send(s.client.frame(frames.Text, "after"))
		expect(t, s.server, s.client.frame(frames.Text, "after"))
	}
	x := s.Snapshot()
	if n := x.Hold[frames.ToServer].Count; n != 2 {
		t.Errorf("%d holds of two messages that came in pieces and two that came whole", n)
	}
	s.client.send(s.client.closing(1000, ""))
	expect(t, s.server, s.client.closing(1000, ""))
	s.server.send(s.server.closing(1000, ""))
	expect(t, s.client, s.server.closing(1000, ""))
	s.stop()
}

// Whatever peers call themselves and each other, the counts have the same labels
// as before.
func TestStatsAreBounded(t *testing.T) {
	h := newHub(t, "ws", statsRules, func(p *Proxy) { p.Settings().HandshakeTimeout = 50 * time.Millisecond })
	labels := func() string {
		x := h.Snapshot()
		var b strings.Builder
		for _, list := range [][]Count{x.Closed, x.Handshakes, x.TLSFail, x.Verify, x.Messages, x.Bytes, x.Unseen, x.Rules} {
			for _, c := range list {
				fmt.Fprintln(&b, c.Labels)
			}
		}
		fmt.Fprintln(&b, len(x.Inspect), len(x.Hold))
		return b.String()
	}
	before := labels()
	for i := range 20 {
		name := fmt.Sprintf("h%d-%s.test", i, strings.Repeat("x", i))
		c := h.dial()
		tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
		c.Close()
		c = h.dial()
		fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: %s\r\nX-%s: y\r\nConnection: close\r\n\r\n", strings.Repeat("p/", i), name, name)
		c.CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
		c = h.dial()
		fmt.Fprintf(c, "HELO %s\r\n", name)
		c.Close()
	}
	s := h.open()
	s.client.send(s.client.frame(frames.Text, "a note about rule \"x\"") + "\xff\x80\x00\x00\x00\x00")
	h.ledger.wait(t, audit.WSViolation, 1)
	if after := labels(); after != before {
		t.Errorf("labels before:\n%s\nand after:\n%s", before, after)
	}
	h.stop()
}

// What happens to all connections of a policy at once is counted without a lock
// that they share, and without losing any.
func TestStatsHits(t *testing.T) {
	var h hits
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 1000 {
				h.add(fmt.Sprint("rule-", i%100))
			}
		})
	}
	all.Wait()
	for i := range 100 {
		if n := h.count(fmt.Sprint("rule-", i)); n != 80 {
			t.Errorf("rule-%d was hit %d times, want 80", i, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { h.add("rule-7") }); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
}
