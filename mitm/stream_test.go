package mitm

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"framegate/audit"
	"framegate/frames"
)

// streaming takes all messages over 1000 bytes in parts.
func streaming(p *Proxy) { p.Settings().Stream, p.Settings().Hold = true, 1000 }

// openStreaming opens a WebSocket on which messages over 1000 bytes are taken in
// parts and permessage-deflate was agreed on.
func openStreaming(t *testing.T, scheme, rules string, takeover bool, adjust ...func(*Proxy)) *socket {
	t.Helper()
	answer := with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate"+parameters(takeover))
	return newHubWith(t, scheme, answer, rules, append([]func(*Proxy){streaming}, adjust...)...).open()
}

// script returns n letters that compress to three quarters, and no better.
func script(seed byte, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

// beginning makes the header of a frame with a payload of n bytes and the start
// of it, and the rest.
func beginning(frame string, n int) (first, rest string) {
	_, header, _ := frames.ConsumeHeader([]byte(frame))
	return frame[:header+n], frame[header+n:]
}

// A long message as it is sent, and as it is to leave: a control frame that
// comes while nothing of the message has left overtakes what is held.
type longMessage struct {
	data, sent, want string
	record           audit.Message
}

// build makes a message of which the payload, compressed if d is not nil, is cut
// into fragments of these lengths, and one more. After each comes what controls
// has for it, and after fragment at that is over, which overtakes what was sent
// before it.
func build(p *peer, d *deflater, data string, lengths []int, at int, over string, controls map[int]string) longMessage {
	m := longMessage{data: data}
	payload, h := data, frames.Header{Opcode: frames.Text, Masked: p.dir == frames.ToServer}
	if d != nil {
		payload, h.RSV = d.compress(data), 4
	}
	wire := 0
	for i, n := range append(lengths, len(payload)) {
		h.Fin = i == len(lengths)
		n = min(n, len(payload))
		for b := range h.Mask {
			if h.Masked {
				h.Mask[b] = byte(rand.Uint32())
			}
		}
		f := string(frames.AppendFrame(nil, h, []byte(payload[:n])))
		payload, h.Opcode, h.RSV = payload[n:], frames.Continuation, 0
		wire += len(f)
		m.sent += f + controls[i]
		m.want += f + controls[i]
		if i == at {
			m.sent += over
			m.want = over + m.want
		}
	}
	m.record = audit.Message{
		Dir: p.dir.String(), Opcode: "text", Size: int64(len(data)), WireSize: int64(wire),
		Frames: len(lengths) + 1, Compressed: d != nil, SHA256: sha256.Sum256([]byte(data)),
	}
	return m
}

// Messages over hold leave as they came, in one frame or many, compressed or
// not, and are recorded whole.
func TestStreamIdentity(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for _, mode := range []string{"plain", "takeover", "no takeover"} {
			s := openStreaming(t, scheme, shadows, mode == "takeover")
			var all [2][]string
			var records []audit.Message
			for dir := range frames.Direction(2) {
				from, to := s.sides(dir)
				var d *deflater
				if mode != "plain" {
					d = newDeflater(t, mode == "takeover")
				}
				over := from.frame(frames.Ping, "overtakes")
				ping, pong := from.frame(frames.Ping, "in its place"), from.frame(frames.Pong, "")
				list := []longMessage{
					build(from, d, "before", nil, 0, "", nil),
					build(from, d, script(1, 100_000), nil, 0, "", nil),
					build(from, d, script(2, 20_000), []int{400, 0, 300, 2000, 0, 1, 5000, 1 << 20, 0},
						2, over, map[int]string{3: ping, 4: pong, 6: ping + pong, 8: ping}),
					build(from, d, script(3, 1001), nil, 0, "", nil),
					build(from, d, script(3, 1000), nil, 0, "", nil),
					build(from, d, script(4, 30_000)+"é€🙂", slices.Repeat([]int{7}, 3000), 0, "", map[int]string{2000: ping}),
					build(from, d, strings.Repeat("a", 300_000), []int{1}, 0, over, nil),
					build(from, d, script(2, 20_000), nil, 0, "", nil),
					build(from, d, "after", nil, 0, "", nil),
				}
				var sent, want strings.Builder
				for _, m := range list {
					sent.WriteString(m.sent)
					want.WriteString(m.want)
					all[dir] = append(all[dir], m.data)
					records = append(records, m.record)
				}
				for _, n := range []int{sent.Len(), 997, 40_000} {
					if n < sent.Len() { // the same once more, cut
						if d != nil && d.takeover {
							break // compressed data cannot be sent twice
						}
						all[dir] = append(all[dir], all[dir][:len(list)]...)
						records = append(records, records[len(records)-len(list):]...)
					}
					go func() {
						for rest := sent.String(); rest != ""; rest = rest[min(n, len(rest)):] {
							from.send(rest[:min(n, len(rest))])
						}
					}()
					to.expect(want.String())
				}
			}
			checkEnd(t, s.finish(), audit.StateInspected, tallyOf(all[0]...), tallyOf(all[1]...))
			got := s.ledger.of(audit.WSMessage)
			if len(got) != len(records) {
				t.Fatalf("%s: %d messages recorded, sent %d", mode, len(got), len(records))
			}
			for i, e := range got {
				e.Msg.Payload = nil
				if m, want := *e.Msg, records[i]; m.Dir != want.Dir || m.Opcode != want.Opcode || m.Size != want.Size || m.WireSize != want.WireSize ||
					m.Frames != want.Frames || m.Compressed != want.Compressed || m.SHA256 != want.SHA256 {
					t.Errorf("%s: message %d is recorded as %+v, want %+v", mode, i, m, want)
				}
			}
		}
	})
}

// A part of a message is with the receiver before the rest was sent, and the
// last byte alone stays back until the record is written.
func TestStreamParts(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := openStreaming(t, scheme, "", true)
		for dir := range frames.Direction(2) {
			from, to := s.sides(dir)
			d := newDeflater(t, true)
			for _, frame := range []string{
				from.frame(frames.Binary, script(1, 50_000)),
				compressed(dir, true, frames.Binary, d.compress(script(2, 50_000))),
			} {
				before := len(s.ledger.of(audit.WSMessage))
				rest := frame
				for _, n := range []int{0, 1, 10_000, 20_000} {
					var first string
					if n == 0 {
						first, rest = beginning(rest, 0)
					} else {
						first, rest = rest[:n], rest[n:]
					}
					from.send(first)
					to.expect(first)
				}
				last := len(rest) - 1
				from.send(rest[:last])
				to.expect(rest[:last])
				if n := len(s.ledger.of(audit.WSMessage)); n != before {
					t.Errorf("%d records before the last byte was sent", n-before)
				}
				from.send(rest[last:])
				to.expect(rest[last:])
				if n := len(s.ledger.of(audit.WSMessage)); n != before+1 {
					t.Errorf("%d records when the message has left", n-before)
				}
			}
		}
		s.finish()
	})
}

// readFragments reads a message of one fragment or more, that the gateway has
// made: not compressed, and to a server under fresh masks. Of an unfinished
// message it returns what there is, and the frame behind it.
func (p *peer) readFragments(op frames.Opcode, masks map[[4]byte]bool) (data string, behind frames.Header) {
	p.t.Helper()
	for {
		h, payload, _ := p.read()
		if h.Opcode == frames.Close {
			return data, h
		}
		if h.RSV != 0 || h.Opcode != op || h.Masked != (p.dir == frames.ToClient) || h.Masked && masks[h.Mask] {
			p.t.Fatalf("fragment %+v, expected %v", h, op)
		}
		masks[h.Mask] = true
		data += payload
		op = frames.Continuation
		if h.Fin {
			return data, h
		}
	}
}

const atEnd = `
[[rule]]
id = "at-end"
action = "drop"
match.regex = ['at the end\z']
`

// A receiver that lacks a message gets those after it inflated, the long ones in
// fragments as they come.
func TestStreamBehind(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		h := newHubWith(t, scheme, with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate"), rules+atEnd, streaming)
		ended := 0
		for dir := range frames.Direction(2) {
			for _, refused := range []string{"", "poison", "secret", "at the end"} {
				s := h.open()
				from, to := s.sides(dir)
				d := newDeflater(t, true)
				masks := sentMasks()
				from.send(compressed(dir, true, frames.Text, d.compress("a secret of "+message(2))))

				for range 2 { // in one frame, and in many that are in one batch
					text := script(5, 70_000) + "é"
					c := d.compress(text)
					first, rest := beginning(compressed(dir, true, frames.Text, c), 30_000)
					from.send(first)
					head, begun, _ := to.read() // before the rest was sent
					if head.Fin || head.RSV != 0 || head.Opcode != frames.Text {
						t.Fatalf("first fragment %+v", head)
					}
					masks[head.Mask] = true
					from.send(rest)
					if data, _ := to.readFragments(frames.Continuation, masks); begun+data != text {
						t.Errorf("%v: received %d bytes, sent %d", dir, len(begun+data), len(text))
					}

					text = strings.Repeat(script(6, 40_000), 3)
					c = d.compress(text)
					ping := from.frame(frames.Ping, "in between")
					from.send(compressed(dir, false, frames.Text, c[:9]) + from.part(frames.Continuation, "") + ping +
						from.part(frames.Continuation, c[9:20_000]) + from.frame(frames.Continuation, c[20_000:]))
					to.expect(ping)
					if data, _ := to.readFragments(frames.Text, masks); data != text {
						t.Errorf("%v: received %d bytes, sent %d", dir, len(data), len(text))
					}
					plain := from.frame(frames.Text, text)
					from.send(plain)
					to.expect(plain)
				}
				ended++
				if refused == "" {
					from.send(compressed(dir, true, frames.Text, d.compress("short")))
					to.expectEdited(frames.Text, "short", masks)
					from.Close()
					to.Close()
					h.ended(ended)
					continue
				}
				text := script(8, 30_000) + refused
				from.send(compressed(dir, true, frames.Text, d.compress(text)))
				data, behind := to.readFragments(frames.Text, masks)
				if len(data) >= len(text) || !strings.HasPrefix(text, data) || behind.Opcode != frames.Close {
					t.Errorf("%v: %d bytes of %d, then %v", dir, len(data), len(text), behind.Opcode)
				}
				if refused == "poison" {
					from.expectClose(4001, "no poison")
				} else {
					from.expectClose(frames.PolicyViolation, "policy violation")
				}
				from.send(from.closing(4001, ""))
				to.send(to.closing(frames.GoingAway, ""))
				from.Close()
				to.Close()
				if e := h.ended(ended); e.State != audit.StateBlocked {
					t.Errorf("ended as %s: %s", e.State, e.Reason)
				}
			}
		}
	})
}

// Our Close comes where a frame has ended, or not at all.
func TestStreamDrainInFlight(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for round := range 10 {
			s := openSocket(t, scheme, "", streaming, quickly)
			var moving sync.WaitGroup
			for _, p := range []*peer{s.client, s.server} {
				sent := []string{
					p.frame(frames.Binary, script(1, 300_000)), p.part(frames.Binary, script(2, 3000)),
					p.frame(frames.Ping, ""), p.frame(frames.Continuation, script(3, 70_000)),
				}
				batch := strings.Join(sent, "")
				moving.Go(func() {
					for {
						if _, err := p.Write([]byte(batch)); err != nil {
							return
						}
					}
				})
				_, other := s.sides(p.dir)
				moving.Go(func() {
					got := make([]byte, 1000+round*40_011)
					if n, err := io.ReadFull(other, got); err != nil || round%2 == int(p.dir) {
						s.stop()
						got = got[:n]
					}
					more, _ := io.ReadAll(other) // up to the end, or to a reset: neither peer answers our Close
					got = append(got, more...)
					for i := 0; len(got) > 0; i++ {
						f := sent[i%len(sent)]
						if strings.HasPrefix(f, string(got)) {
							return // cut off
						}
						if !strings.HasPrefix(string(got), f) {
							h, n, _ := frames.ConsumeHeader(got)
							if h.Opcode != frames.Close || len(got) != n+2 {
								t.Errorf("%v: %d bytes that were not sent, %v frame", p.dir, len(got), h.Opcode)
							}
							return
						}
						got = got[len(f):]
					}
				})
			}
			s.ended(1)
			moving.Wait()
		}
	})
}
