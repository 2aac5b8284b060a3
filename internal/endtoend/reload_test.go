package endtoend

import (
	"strings"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/policy"
)

// rule is a policy of one rule.
func rule(id, contains, action string) string {
	return "[[rule]]\nid = \"" + id + "\"\naction = \"" + action + "\"\nmatch = { contains = [\"" + contains + "\"] }\n"
}

// TestReload: SIGHUP changes the rules of an open WebSocket with its next
// message, and a policy with a mistake changes nothing.
func TestReload(t *testing.T) {
	s := newSite(t, settings{policy: rule("first", "alpha", "log")})
	g := s.start(t)
	c := s.wss(t, "tcp6", chatHost)
	if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?reload")); err != nil {
		t.Fatal(err)
	}
	// exchange sends all texts and expects some of them back.
	exchange := func(texts, back string) {
		t.Helper()
		for _, text := range strings.Fields(texts) {
			c.Send(true, frames.Text, []byte(text))
		}
		for _, want := range strings.Fields(back) {
			if h, payload, err := c.Frame(); err != nil || string(payload) != want {
				t.Fatalf("%v %q (%v), expected %q", h.Opcode, payload, err, want)
			}
		}
	}
	version := func() string {
		t.Helper()
		p, err := policy.Load([]string{s.path("policy.toml")})
		if err != nil {
			t.Fatal(err)
		}
		return p.Version()
	}

	first := version()
	exchange("alpha omega", "alpha omega")

	s.write(t, "policy.toml", rule("second", "alpha", "drop"))
	second := version()
	g.signal(t, syscall.SIGHUP)
	if r := g.log.waitFor(t, audit.PolicyLoad, 2); r.Policy != second {
		t.Errorf("policy.load: %s, expected version %s", r, second)
	}
	exchange("alpha omega", "omega")

	s.write(t, "policy.toml", "[[rule]]\nid = \"third\"\nactoin = \"drop\"\n")
	g.signal(t, syscall.SIGHUP)
	if r := g.log.waitFor(t, audit.PolicyReject, 1); r.Policy != second || !strings.Contains(r.Reason, "policy.toml:3:1: ") {
		t.Errorf("policy.reject: %s", r)
	}
	g.console.wait(t, "policy rejected, the one in force stays", second[:12])
	exchange("alpha omega", "omega")

	s.write(t, "policy.toml", "")
	g.signal(t, syscall.SIGHUP)
	g.console.wait(t, "the policy has no rules for messages", "policy.toml")

	s.write(t, "policy.toml", rule("fourth", "omega", "close"))
	fourth := version()
	g.signal(t, syscall.SIGHUP)
	g.log.waitFor(t, audit.PolicyLoad, 4)
	exchange("alpha", "alpha")
	c.Send(true, frames.Text, []byte("omega"))
	if h, payload, err := c.Frame(); err != nil || h.Opcode != frames.Close || !strings.HasPrefix(string(payload), "\x03\xf0") {
		t.Errorf("%v %q (%v), expected Close 1008", h.Opcode, payload, err)
	}
	c.Send(true, frames.Close, []byte("\x03\xf0"))
	c.Close()

	l := g.log.of(t, c.LocalAddr())
	l.ended(t, audit.StateBlocked, "fourth")
	versions := map[string]string{first: "first", second: "second", fourth: "fourth"}
	var got []string
	for _, r := range l.messages("to-server") {
		got = append(got, versions[r.Policy]+" "+r.Action+" "+strings.Join(r.Rules, "+"))
	}
	want := []string{
		"first log first", "first allow ",
		"second drop second", "second allow ",
		"second drop second", "second allow ",
		"fourth allow ", "fourth close fourth",
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("got %q, expected %q:\n%s", got, want, lines(l))
	}
	if open := l.one(t, audit.ConnOpen); open.Policy != first {
		t.Errorf("conn.open: %s", open)
	}

	// A reload reaches new connections as well: now the host is blocked.
	s.write(t, "policy.toml", "[[connection]]\nid = \"now\"\nhost = [\""+chatHost+"\"]\ndecision = \"block\"\n")
	g.signal(t, syscall.SIGHUP)
	g.log.waitFor(t, audit.PolicyLoad, 5)
	blocked := s.tcp(t, "tcp4", chatHost)
	if leaf, err := leafOf(blocked, clients.Trust(s.roots, chatHost)); leaf != nil || err == nil {
		t.Errorf("leaf %v, %v", leaf, err)
	}
	g.log.of(t, blocked.LocalAddr()).ended(t, audit.StateBlocked, "now")

	g.signal(t, syscall.SIGTERM)
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d", code)
	}
	g.log.waitFor(t, audit.GatewayStop, 1)
	checkWholeLog(t, g.log)
}
