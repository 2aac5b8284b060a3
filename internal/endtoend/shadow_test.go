package endtoend

import (
	"slices"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
)

// TestShadow: a file on trial is recorded beside the policy, with the ids of the
// policy if it likes, and changes nothing. SIGHUP reads it anew.
func TestShadow(t *testing.T) {
	s := newSite(t, settings{policy: rule("words", "alpha", "drop")})
	s.write(t, "trial.toml", rule("words", "alpha", "close")+rule("more", "omega", "close"))
	s.flags = []string{"--shadow", s.path("trial.toml")}
	g := s.start(t)
	c := s.wss(t, "tcp4", chatHost)
	if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?shadow")); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"alpha", "omega"} {
		c.Send(true, frames.Text, []byte(text))
	}
	if h, payload, err := c.Frame(); err != nil || string(payload) != "omega" {
		t.Fatalf("%v %q (%v), expected omega", h.Opcode, payload, err)
	}
	s.write(t, "trial.toml", rule("third", "omega", "drop"))
	g.signal(t, syscall.SIGHUP)
	g.log.waitFor(t, audit.PolicyLoad, 2)
	c.Send(true, frames.Text, []byte("omega"))
	if h, payload, err := c.Frame(); err != nil || string(payload) != "omega" {
		t.Fatalf("%v %q (%v), expected omega", h.Opcode, payload, err)
	}
	c.Send(true, frames.Close, []byte("\x03\xe8"))
	c.Close()

	l := g.log.of(t, c.LocalAddr())
	want := []struct {
		action        string
		rules, shadow []string
	}{
		{"drop", []string{"words"}, []string{"words"}},
		{"allow", nil, []string{"more"}},
		{"allow", nil, []string{"third"}},
	}
	got := l.messages("to-server")
	if len(got) != len(want) {
		t.Fatalf("%d messages recorded", len(got))
	}
	for i, w := range want {
		if r := got[i]; r.Action != w.action || !slices.Equal(r.Rules, w.rules) || !slices.Equal(r.Shadow, w.shadow) {
			t.Errorf("recorded %s", r)
		}
	}
	if got[0].Policy == got[2].Policy {
		t.Error("the version does not tell that the trial has changed")
	}
}
