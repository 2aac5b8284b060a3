package mitm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
)

// After a fault in a long message nothing more of it leaves.
func TestStreamViolation(t *testing.T) {
	text := script(1, 4000)
	for _, c := range []struct {
		name        string
		compress    bool
		first, then string
		code        frames.Code
	}{
		{"not UTF-8", false, text, "\xff", 1007},
		{"a character that is cut off", false, text + "\xf0\x9f", "x", 1007},
		{"surrogate", false, text, "\xed\xa0\x80", 1007},
		{"corrupt", true, "", strings.Repeat("\xff", 300), 1007},
	} {
		for dir := range frames.Direction(2) {
			for _, fragments := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %v %v", c.name, dir, fragments), func(t *testing.T) {
					t.Parallel()
					s := openStreaming(t, "ws", "", true)
					from, to := s.sides(dir)
					h := frames.Header{Fin: true, Opcode: frames.Text, Masked: dir == frames.ToServer, Mask: [4]byte{1, 2, 3, 4}}
					payload := c.first
					if c.compress {
						payload, h.RSV = newDeflater(t, true).compress(text), 4
					}
					first, rest := beginning(string(frames.AppendFrame(nil, h, []byte(payload+c.then+text))), len(payload))
					if fragments {
						h.Fin = false
						first = string(frames.AppendFrame(nil, h, []byte(payload)))
						rest = from.part(frames.Continuation, c.then+text)
					}
					from.send(first)
					to.expect(first)
					from.send(rest)
					_, reason, _ := strings.Cut(s.ledger.wait(t, audit.WSViolation, 1)[0].Reason, ": ")
					from.expectClose(c.code, reason)
					if fragments {
						to.expectClose(frames.GoingAway, "")
						to.send(to.closing(frames.GoingAway, ""))
					}
					from.Close()
					if got := to.rest(); got != "" {
						t.Errorf("%q followed", got)
					}
					to.Close()
					if e := s.ended(1); e.State != audit.StateFailed {
						t.Errorf("ended as %s: %s", e.State, e.Reason)
					}
					m, v := s.only(audit.WSMessage), s.only(audit.WSViolation)
					if m.Reason != "ended within the message" || m.Msg.WireSize != int64(len(first)) {
						t.Errorf("recorded %+v, %+v", m, m.Msg)
					}
					if all := s.ledger.String(); strings.Index(all, m.Event) > strings.Index(all, v.Event) {
						t.Errorf("in the wrong order:\n%s", all)
					}
					if v.Code != int(c.code) || v.Msg.Dir != dir.String() || len(v.Evidence) == 0 {
						t.Errorf("recorded %+v", v)
					}
				})
			}
		}
	}
}

// The record of a message that never ends has the rules that match what there
// was of it.
func TestStreamUnfinishedRules(t *testing.T) {
	for _, c := range []struct {
		name, first, then string
		rules, shadow     []string
		action            string
	}{
		{"noted", "interesting", "", []string{"seen"}, []string{"would-drop"}, "log"},
		{"nothing", "nothing", "", nil, nil, "allow"},
		{"a fault behind what is noted", "interesting", "\xff", []string{"seen"}, []string{"would-drop"}, "log"},
	} {
		for dir := range frames.Direction(2) {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				s := openSocket(t, "ws", rules, streaming, quickly)
				from, to := s.sides(dir)
				text := script(1, 2000) + c.first
				first, rest := beginning(from.frame(frames.Text, text+c.then+text), len(text))
				from.send(first)
				to.expect(first)
				if c.then == "" {
					from.closeWrite()
				} else {
					from.send(rest)
					from.expectClose(frames.InvalidPayload, "text message is not UTF-8")
				}
				if got := to.rest(); got != "" {
					t.Errorf("%q followed", got)
				}
				from.Close()
				to.Close()
				s.ended(1)
				e := s.only(audit.WSMessage)
				if e.Action != c.action || e.Code != 0 || e.Reason != "ended within the message" || !slices.Equal(e.Rules, c.rules) || !slices.Equal(e.Shadow, c.shadow) {
					t.Errorf("recorded %+v", e)
				}
			})
		}
	}
}

// A rule that matches what was held decides, though a fault comes in the same frame.
func TestStreamFaultBehindRefusal(t *testing.T) {
	for dir := range frames.Direction(2) {
		s := openSocket(t, "ws", rules, streaming)
		from, to := s.sides(dir)
		from.send(from.part(frames.Text, "the poison") + from.part(frames.Continuation, script(1, 2000)+"\xff"))
		from.expectClose(4001, "no poison")
		to.expectClose(frames.GoingAway, "")
		from.Close()
		to.Close()
		if e := s.ended(1); e.State != audit.StateBlocked {
			t.Errorf("ended as %s: %s", e.State, e.Reason)
		}
		if e := s.only(audit.WSMessage); e.Action != "close" || e.Code != 4001 || !slices.Equal(e.Rules, []string{"poison"}) {
			t.Errorf("recorded %+v", e)
		}
	}
}
