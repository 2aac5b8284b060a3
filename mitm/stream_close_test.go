package mitm

import (
	"compress/flate"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
)

// rest reads to the end of the stream, in which a Close frame may be cut off or
// TLS without a close_notify.
func (p *peer) rest() string {
	p.t.Helper()
	b, err := io.ReadAll(p)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		p.t.Errorf("after %d bytes: %v", len(b), err)
	}
	return string(b)
}

// refused checks how a streamed message ended that must not pass: the sender
// gets code and reason, and the record has them.
func (s *socket) refused(n int, from, to *peer, code frames.Code, reason string, rules ...string) {
	s.t.Helper()
	from.expectClose(code, reason)
	from.send(from.closing(code, ""))
	from.Close()
	to.Close()
	if e := s.ended(n); e.State != audit.StateBlocked || !slices.Equal(e.Rules, rules) {
		s.t.Errorf("ended as %s by %v: %s", e.State, e.Rules, e.Reason)
	}
	all := s.ledger.of(audit.WSMessage)
	e := all[len(all)-1]
	if e.Action != "close" || e.Code != int(code) || e.Reason != reason || !slices.Equal(e.Rules, rules) || e.Msg.Dir != from.dir.String() {
		s.t.Errorf("recorded %+v", e)
	}
}

const streamRules = `
[[rule]]
id = "closing"
action = "close"
code = 4001
reason = "no poison"
match.contains = ["a-poison"]

[[rule]]
id = "dropping"
action = "drop"
match.contains = ["a-secret"]

[[rule]]
id = "redacting"
action = "redact"
match.regex = ['\bkey-\d{4}\b']

[[rule]]
id = "longest"
action = "close"
match.regex = ['BEGIN[^E]*END']
`

// The longest match that is found wherever it is cut.
var longest = "BEGIN" + strings.Repeat("x", 4<<10-8) + "END"

// A match that is cut is found, and what completes it does not leave. Within a
// frame no Close frame can follow.
func TestStreamMatchCut(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		h := newHub(t, scheme, streamRules, streaming)
		ended := 0
		for dir := range frames.Direction(2) {
			for _, c := range []struct {
				match, rule string
				code        frames.Code
				reason      string
			}{
				{"a-poison", "closing", 4001, "no poison"},
				{"a-secret", "dropping", 1008, "policy violation"},
				{" key-1234 ", "redacting", 1008, "policy violation"},
				{longest, "longest", 1008, "policy violation"},
			} {
				for _, cut := range []int{1, 2, len(c.match) / 2, len(c.match) - 2, len(c.match) - 1} {
					for _, fragments := range []bool{false, true} {
						s := h.open()
						from, to := s.sides(dir)
						start := strings.Repeat("start ", 700) + c.match[:cut]
						end := c.match[cut:] + strings.Repeat(" end", 300)
						first, rest := beginning(from.frame(frames.Text, start+end), len(start))
						if fragments {
							first, rest = from.part(frames.Text, start), from.part(frames.Continuation, end)
						}
						from.send(first)
						to.expect(first)
						from.send(rest)
						if fragments {
							to.expectClose(frames.GoingAway, "")
							to.send(to.closing(frames.GoingAway, ""))
						}
						if got := to.rest(); got != "" {
							t.Errorf("%v, %s cut at %d: %q followed", dir, c.rule, cut, got)
						}
						ended++
						s.refused(ended, from, to, c.code, c.reason, c.rule)
					}
				}
			}
		}
	})
}

// Compressed, a match may be cut within a symbol. What has left inflates to less
// than the match.
func TestStreamMatchCutCompressed(t *testing.T) {
	for _, takeover := range []bool{true, false} {
		answer := with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate"+parameters(takeover))
		h := newHubWith(t, "ws", answer, streamRules, streaming)
		ended := 0
		for dir := range frames.Direction(2) {
			before, after := script(1, 4000), script(2, 3000)
			payload := newDeflater(t, takeover).compress(before + "a-poison" + after)
			// Where the match is, with some on either side.
			d := newDeflater(t, takeover)
			near := len(d.compress(before))
			for cut := 40; cut < 160; cut += 4 {
				s := h.open()
				from, to := s.sides(dir)
				frame := compressed(dir, true, frames.Text, payload)
				first, rest := beginning(frame, near-100) // this much has nothing of it for sure
				from.send(first)
				to.expect(first)
				from.send(rest[:cut])
				from.send(rest[cut:])
				got := first + to.rest()
				if len(got) >= len(frame) || !strings.HasPrefix(frame, got) {
					t.Fatalf("%d bytes left of %d", len(got), len(frame))
				}
				head, n, _ := frames.ConsumeHeader([]byte(got))
				data := []byte(got)[n:]
				frames.Mask(data, data, head.Mask, 0)
				text, _ := io.ReadAll(flate.NewReader(strings.NewReader(string(data))))
				if len(text) >= len(before+"a-poison") {
					t.Errorf("%v, cut at %d: the receiver can read %d bytes, the match ends at %d", dir, cut, len(text), len(before)+8)
				}
				ended++
				s.refused(ended, from, to, 4001, "no poison", "closing")
			}
		}
	}
}

// What is known only at the end is known before the last byte leaves.
func TestStreamVerdictAtEnd(t *testing.T) {
	text := script(1, 4000)
	for name, c := range map[string]struct {
		rules, good, bad string
		code             frames.Code
		reason, rule     string
	}{
		"except": {`
[[rule]]
id = "r"
action = "drop"
match.contains = ["-one-"]
except.contains = ["-two-"]`, "-one-" + text + "-two-", "-one-" + text + "-three-", 1008, "policy violation", "r"},
		"min_size": {`
[[rule]]
id = "r"
action = "close"
code = 4002
reason = "too long"
match.min_size = "4001B"`, text, text + "x", 4002, "too long", "r"},
		"max_size": {`
[[rule]]
id = "r"
action = "redact"
match.contains = ["-one-"]
match.max_size = "4005B"`, "-one-" + text + "x", "-one-" + text, 1008, "policy violation", "r"},
		"default drop": {`
[policy]
default = "drop"
[[rule]]
id = "ok"
action = "allow"
match.contains = ["-one-"]`, "-one-" + text, text, 1008, "policy violation", ""},
		"default close": {`
[policy]
default = "close"
[[rule]]
id = "ok"
action = "log"
match.regex = ['-one-$']`, text + "-one-", text + "-one-.", 1008, "policy violation", ""},
		"anchored": {`
[[rule]]
id = "r"
action = "close"
match.regex = ['-one-\z']`, "-one-" + text, text + "-one-", 1008, "policy violation", "r"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate"+parameters(false))
			h := newHubWith(t, "ws", answer, c.rules, streaming)
			ended := 0
			for dir := range frames.Direction(2) {
				for how, frame := range map[string]func(p *peer, d *deflater, text string) string{
					"plain": func(p *peer, _ *deflater, text string) string { return p.frame(frames.Text, text) },
					"fragments": func(p *peer, _ *deflater, text string) string {
						return p.part(frames.Text, text[:2000]) + p.part(frames.Continuation, text[2000:]) + p.frame(frames.Continuation, "")
					},
					"compressed": func(p *peer, d *deflater, text string) string {
						return compressed(p.dir, true, frames.Text, d.compress(text))
					},
				} {
					s := h.open()
					from, to := s.sides(dir)
					d := newDeflater(t, false)
					good, bad := frame(from, d, c.good), frame(from, d, c.bad)
					from.send(good)
					to.expect(good)
					// Of fragments the last is empty, and held until its header is whole.
					left := len(bad) - 1
					if how == "fragments" {
						left = len(bad) - len(from.frame(frames.Continuation, ""))
					}
					from.send(bad[:len(bad)-1])
					to.expect(bad[:left])
					from.send(bad[len(bad)-1:])
					if how == "fragments" {
						to.expectClose(frames.GoingAway, "")
						to.send(to.closing(frames.GoingAway, ""))
					}
					if got := to.rest(); got != "" {
						t.Errorf("%v, %s: %q followed", dir, how, got)
					}
					ended++
					rules := []string{c.rule}
					if c.rule == "" {
						rules = nil
					}
					s.refused(ended, from, to, c.code, c.reason, rules...)
				}
			}
		})
	}
}
