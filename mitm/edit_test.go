package mitm

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
)

const redactRules = `
[[rule]]
id = "key"
action = "redact"
match.regex = ['key-\d+']

[[rule]]
id = "name"
action = "redact"
replace = "[somebody]"
match.contains = ["Kim"]

[[rule]]
id = "no-secret"
action = "drop"
match.contains = ["secret"]
`

// expectEdited reads a message that the gateway has edited: one frame, not
// compressed, and to a server under a mask that is neither the sender's nor one
// that was seen before.
func (p *peer) expectEdited(op frames.Opcode, want string, masks map[[4]byte]bool) {
	p.t.Helper()
	h, payload, _ := p.read()
	toServer := p.dir == frames.ToClient
	if !h.Fin || h.RSV != 0 || h.Opcode != op || h.Masked != toServer || payload != want {
		p.t.Errorf("edited message: %+v %q, expected %v %q", h, payload, op, want)
	}
	if toServer && masks[h.Mask] {
		p.t.Errorf("mask %x is not fresh", h.Mask)
	}
	masks[h.Mask] = true
}

func sentMasks(messages ...string) map[[4]byte]bool {
	masks := map[[4]byte]bool{{}: true}
	for _, m := range messages {
		if h, n, _ := frames.ConsumeHeader([]byte(m)); n > 0 && h.Masked {
			masks[h.Mask] = true
		}
	}
	return masks
}

// Several edits of one batch leave in their places, and what is around them as
// it came. The records are of what was sent.
func TestRedact(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := openSocket(t, scheme, redactRules)
		for dir := range frames.Direction(2) {
			from, to := s.sides(dir)
			before := from.frame(frames.Text, "before") + from.frame(frames.Ping, "Kim")
			first := from.frame(frames.Text, `{"a":"key-17"}`)
			second := from.frame(frames.Binary, "key-17, \xffKim")
			dropped := from.frame(frames.Text, "the secret key-17")
			between := from.frame(frames.Text, "between")
			inside := from.frame(frames.Ping, "inside")
			third := from.part(frames.Text, "K") + inside + from.part(frames.Continuation, "") + from.frame(frames.Continuation, "im")
			after := from.part(frames.Text, "af") + from.frame(frames.Continuation, "ter")
			from.send(before + first + second + dropped + between + third + after)

			masks := sentMasks(first)
			to.expect(before)
			to.expectEdited(frames.Text, `{"a":"******"}`, masks)
			to.expectEdited(frames.Binary, "******, \xff[somebody]", masks)
			to.expect(between + inside)
			to.expectEdited(frames.Text, "[somebody]", masks)
			to.expect(after)
		}
		sent := tallyOf("before", `{"a":"key-17"}`, "key-17, \xffKim", "the secret key-17", "between", "Kim", "after")
		checkEnd(t, s.finish(), audit.StateInspected, sent, sent)

		var got []string
		for _, e := range s.ledger.of(audit.WSMessage) {
			if e.Action != "allow" {
				got = append(got, fmt.Sprintf("%s %s %v %d %d", e.Msg.Dir, e.Action, e.Rules, e.Msg.Size, e.Msg.Frames))
			}
			if e.Msg.Size == 14 && e.Msg.SHA256 != sha256.Sum256([]byte(`{"a":"key-17"}`)) {
				t.Error("the record has the digest of something else than what was received")
			}
		}
		var want []string
		for dir := range frames.Direction(2) {
			for _, line := range []string{"redact [key] 14 1", "redact [key name] 12 1", "drop [key no-secret] 17 1", "redact [name] 3 3"} {
				want = append(want, dir.String()+" "+line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("recorded\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// After an edit of a compressed message, the receiver's window lacks what later
// messages build on: with context takeover they leave inflated, without it as
// they came. An edit of one that was not compressed changes nothing for them.
func TestDeflateRedact(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for _, takeover := range []bool{true, false} {
			parameters := ""
			if !takeover {
				parameters = "; server_no_context_takeover; client_no_context_takeover"
			}
			answer := with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate"+parameters)
			s := newHubWith(t, scheme, answer, redactRules).open()
			for dir := range frames.Direction(2) {
				from, to := s.sides(dir)
				d := newDeflater(t, takeover)
				plain := from.frame(frames.Text, "plain key-17")
				first := compressed(dir, true, frames.Text, d.compress(message(1)))
				second := compressed(dir, true, frames.Text, d.compress("key-17 of "+message(2)))
				third := compressed(dir, true, frames.Text, d.compress("a part of "+message(3)))
				c := d.compress("key-17 of Kim, " + message(4))
				fourth := compressed(dir, false, frames.Binary, c[:3]) + from.frame(frames.Continuation, c[3:])
				between := from.frame(frames.Binary, "never compressed")
				fifth := compressed(dir, true, frames.Text, d.compress(message(2)))
				from.send(plain + first + second + third + fourth + between + fifth)

				masks := sentMasks(plain, first, second, third, fourth, fifth)
				to.expectEdited(frames.Text, "plain ******", masks)
				to.expect(first)
				to.expectEdited(frames.Text, "****** of "+message(2), masks)
				if takeover {
					to.expectEdited(frames.Text, "a part of "+message(3), masks)
				} else {
					to.expect(third)
				}
				to.expectEdited(frames.Binary, "****** of [somebody], "+message(4), masks)
				to.expect(between)
				if takeover {
					to.expectEdited(frames.Text, message(2), masks)
				} else {
					to.expect(fifth)
				}
			}
			s.finish()
			var edits []audit.Event
			for _, e := range s.ledger.of(audit.WSMessage) {
				if e.Action == "redact" {
					edits = append(edits, e)
				}
			}
			if len(edits) != 6 {
				t.Fatalf("%d edits recorded, expected 6", len(edits))
			}
			if m := edits[1].Msg; !m.Compressed || m.SHA256 != sha256.Sum256([]byte("key-17 of "+message(2))) {
				t.Errorf("recorded %+v", m)
			}
		}
	})
}

// An edit that cannot be recorded does not leave.
func TestRedactNotRecorded(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for dir := range frames.Direction(2) {
			s := openSocket(t, scheme, redactRules)
			from, to := s.sides(dir)
			s.ledger.fail.Store(&errDiskFull)
			from.send(from.frame(frames.Text, "key-17"))
			to.expectClose(frames.InternalError, "")
			from.expectClose(frames.InternalError, "")
			s.ledger.fail.Store(nil)
			from.send(from.closing(frames.InternalError, ""))
			to.send(to.closing(frames.InternalError, ""))
			from.closeWrite()
			to.closeWrite()
			from.expectEnd()
			to.expectEnd()
			s.ended(1)
		}
	})
}
