package mitm

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// change puts other settings in force.
func (g *gateway) change(f func(*Settings)) {
	s := *g.inForce.Load()
	f(&s)
	g.inForce.Store(&s)
}

// A live WebSocket keeps the settings that it was accepted under, but for what
// is recorded of it; a new one has those in force.
func TestSettingsChange(t *testing.T) {
	h := newHub(t, "ws", "", func(p *Proxy) { p.Settings().Hold = 1000 })
	before := h.open()
	h.change(func(s *Settings) { s.Hold, s.Payload, s.Level = 2000, audit.PayloadRedacted, audit.Messages })
	after := h.open()
	text := strings.Repeat("x", 1500)
	carry := func(s *socket, opcode frames.Opcode, text string) {
		t.Helper()
		m := s.client.frame(opcode, text)
		s.client.send(m)
		s.server.expect(m)
	}
	carry(before, frames.Text, "live")
	carry(before, frames.Ping, "no longer on record")
	carry(after, frames.Text, text)
	h.change(func(s *Settings) { s.Payload = audit.PayloadNone })
	carry(after, frames.Text, "without")

	messages := h.ledger.wait(t, audit.WSMessage, 3)
	for i, want := range []string{"live", text, ""} {
		if got := string(messages[i].Msg.Payload); got != want {
			t.Errorf("message %d is recorded with %q, expected %q", i, got, want)
		}
	}
	if list := h.ledger.of(audit.WSControl); len(list) > 0 {
		t.Errorf("recorded below the level: %+v", list)
	}
	before.client.send(before.client.frame(frames.Text, text))
	before.client.expectClose(frames.MessageTooBig, "message over 1000 bytes")
}

// A longer idle timeout spares a live WebSocket, none at all does, and one
// that is put back ends it.
func TestIdleTimeoutChanges(t *testing.T) {
	var accepted, back atomic.Bool
	s := openSocket(t, "ws", "", func(p *Proxy) {
		p.Settings = func() *Settings {
			if accepted.Swap(true) && !back.Load() {
				return new(Settings)
			}
			return &Settings{IdleTimeout: 10 * time.Millisecond}
		}
	})
	time.Sleep(100 * time.Millisecond) // in which it would end
	m := s.client.frame(frames.Text, "still here")
	s.client.send(m)
	s.server.expect(m)
	back.Store(true)
	s.client.expectClose(frames.GoingAway, "")
	s.server.expectClose(frames.GoingAway, "")
}
