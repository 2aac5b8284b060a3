package mitm

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"framegate/audit"
	"framegate/examples/traffic"
	"framegate/frames"
)

// Byte identity: with no edit, what leaves the gateway is what came, byte for
// byte. A control frame may leave before fragments that are still held; nothing
// else moves. The tests here compare whole streams, to their end, at the level
// of what TLS carries.

// A mode is a way of holding messages.
type mode struct {
	name   string
	adjust func(*Proxy)
	// held is how many bytes are still held of a message of which these frames
	// have come, the last one not among them: what a control frame overtakes.
	held func(message []sent) int
}

var modes = []mode{
	{"whole", func(*Proxy) {}, all},
	{"stream", func(p *Proxy) { p.Settings().Hold, p.Settings().Stream = smallHold, true }, upToHold},
}

const smallHold = 300

// upToHold is what is held where a message leaves in parts once it is over Hold.
// Of a compressed one only the payload is known, which may be a little larger.
func upToHold(message []sent) int {
	limit, size := int64(smallHold), int64(0)
	for i, f := range message {
		h, _, _ := frames.ConsumeHeader(f.wire)
		if i == 0 && h.RSV != 0 {
			limit = smallHold + smallHold/4 + 64
		}
		if size += h.Length; size > limit {
			return 0
		}
	}
	return all(message)
}

// all is what is held where a message leaves only when it is complete.
func all(message []sent) (sum int) {
	for _, f := range message {
		sum += len(f.wire)
	}
	return sum
}

// sent is one frame as it was sent.
type sent struct {
	op   frames.Opcode
	fin  bool
	wire []byte
}

// expected returns the bytes that are to leave for stream, in the one order
// that is right.
func (m *mode) expected(stream []sent) []byte {
	var out, held []byte
	var message []sent
	for _, f := range stream {
		if f.op.IsControl() {
			out = append(out, f.wire...)
			continue
		}
		message, held = append(message, f), append(held, f.wire...)
		keep := 0
		if f.fin {
			message = nil
		} else {
			keep = m.held(message)
		}
		n := len(held) - keep
		out, held = append(out, held[:n]...), held[n:]
	}
	return out // what is held of a message that never ended does not leave
}

// What the model says, in letters: small ones for fragments.
func TestIdentityModel(t *testing.T) {
	for stream, want := range map[string]string{
		"":                 "",
		"Tt+Tt+BT":         "Tt+Tt+BT",
		"Tt-":              "T",
		"t-P+P":            "Pt-+P",
		"t-P-Q-+T":         "PQt---+T",
		"PtQ+b-QPP-Q-Q+TQ": "PQt+QPPQQb---+TQ",
		"t-C":              "C",
	} {
		var frame []sent
		for _, c := range []byte(stream) {
			op := map[byte]frames.Opcode{'P': frames.Ping, 'Q': frames.Pong, 'C': frames.Close}[c]
			frame = append(frame, sent{op, c < 'a' && c != '-', []byte{c}})
		}
		if got := modes[0].expected(frame); string(got) != want {
			t.Errorf("%s leaves as %s, want %s", stream, got, want)
		}
	}
}

// A variant is all that a WebSocket may be for the identity of its bytes.
type variant struct {
	mode
	scheme            string
	deflate, takeover bool
}

func (v *variant) String() string {
	return fmt.Sprintf("%s, %s, deflate %v, takeover %v", v.name, v.scheme, v.deflate, v.takeover)
}

var variants = func() (list []variant) {
	for _, m := range modes {
		for _, scheme := range []string{"ws", "wss"} {
			list = append(list, variant{m, scheme, false, false}, variant{m, scheme, true, true}, variant{m, scheme, true, false})
		}
	}
	return list
}()

// shadows has rules for everything, none of which edits anything.
const shadows = `
[[rule]]
id = "noted"
action = "log"
match.opcode = ["text", "binary", "ping", "pong", "close"]

[[rule]]
id = "redacted"
action = "redact"
mode = "shadow"
match.regex = ['[a-z]']

[[rule]]
id = "closed"
action = "close"
mode = "shadow"
match.opcode = ["text", "binary", "ping", "pong", "close"]
`

// hub starts a gateway whose WebSockets are of this variant.
func (v *variant) hub(t *testing.T) *hub {
	answer := upgradeAnswer
	if v.deflate {
		answer = with(answer, "+Sec-WebSocket-Extensions: permessage-deflate"+parameters(v.takeover))
	}
	return newHubWith(t, v.scheme, answer, shadows, v.adjust)
}

// generator makes a stream as c leads it.
func (v *variant) generator(t *testing.T, dir frames.Direction, c choices) *generator {
	g := &generator{choices: c, dir: dir}
	if v.deflate {
		g.deflater = newDeflater(t, v.takeover)
	}
	return g
}

// checkIdentity sends both streams at once through another WebSocket of h, each
// with the end of what its peer sends, and compares all that arrives.
func checkIdentity(t *testing.T, v *variant, h *hub, streams [2]*generator) {
	t.Helper()
	s := h.open()
	var both sync.WaitGroup
	for dir, g := range streams {
		from, to := s.sides(frames.Direction(dir))
		to.tcp.SetDeadline(time.Now().Add(patience))
		pieces := g.pieces(g, 40)
		both.Go(func() {
			for _, p := range pieces {
				if _, err := from.Write(p); err != nil {
					t.Errorf("%v: %v", from.dir, err)
				}
			}
			from.closeWrite()
		})
		both.Go(func() {
			got, err := io.ReadAll(to)
			if d := difference(got, v.expected(g.stream)); err != nil || d != "" {
				t.Errorf("%v: %s (%v)", from.dir, d, err)
			}
		})
	}
	both.Wait()
	e := h.ended(len(h.ledger.of(audit.ConnOpen)))
	checkEnd(t, e, audit.StateInspected, tallyOf(streams[0].data...), tallyOf(streams[1].data...))
}

// difference says where got is not want, and nothing if it is.
func difference(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	near := func(b []byte) []byte { return b[i:min(i+16, len(b))] }
	return fmt.Sprintf("%d bytes arrived, want %d; from byte %d on they are [% x], want [% x]",
		len(got), len(want), i, near(got), near(want))
}

// The real corpus: each message in one frame, and in fragments with control
// frames between them.
func TestIdentityCorpus(t *testing.T) {
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			h := v.hub(t)
			for i, set := range traffic.Sets() {
				messages, err := traffic.Load(set)
				if err != nil {
					t.Fatal(err)
				}
				for _, fragments := range []int{0, 1, 7} {
					var streams [2]*generator
					for dir := range frames.Direction(2) {
						streams[dir] = v.generator(t, dir, rand.New(rand.NewPCG(uint64(i), uint64(fragments))))
					}
					for _, m := range messages {
						g := streams[m.Direction]
						switch {
						case !m.Opcode.IsControl():
							g.message(m.Opcode, string(m.Payload), v.deflate, fragments)
						case len(m.Payload) <= 125: // a longer one, which is in the corpus, is a violation
							g.frame(frames.Header{Fin: true, Opcode: m.Opcode}, string(m.Payload))
						}
					}
					checkIdentity(t, &v, h, streams)
				}
			}
		})
	}
}

// Generated streams: each length in one frame, then anything. They end in a
// Close frame, every other time inside a message.
func TestIdentityGenerated(t *testing.T) {
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			h := v.hub(t)
			for seed := range uint64(6) {
				var streams [2]*generator
				for dir := range frames.Direction(2) {
					g := v.generator(t, dir, rand.New(rand.NewPCG(seed, uint64(dir))))
					for _, n := range slices.Concat(shortLengths, longLengths) {
						g.message(frames.Binary, g.noise(n), false, 0)
					}
					for range 60 {
						g.next()
					}
					if seed%2 == 1 {
						g.frame(frames.Header{Opcode: frames.Text}, "never complete")
					}
					g.frame(frames.Header{Fin: true, Opcode: frames.Close}, string(frames.AppendClose(nil, frames.NormalClosure, "done")))
					streams[dir] = g
				}
				checkIdentity(t, &v, h, streams)
			}
		})
	}
}

// A short stream with some of everything, cut at every offset: the gateway has
// seen all before the cut and waits, before the rest is sent.
func TestIdentityCuts(t *testing.T) {
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			l := newLine(t, &v)
			for dir := range frames.Direction(2) {
				g := v.generator(t, dir, rand.New(rand.NewPCG(1, uint64(dir))))
				g.message(frames.Text, "", v.deflate, 0)
				g.message(frames.Text, g.text(20), v.deflate, 3)
				g.control()
				g.message(frames.Binary, g.text(126), false, 0)
				g.message(frames.Binary, g.noise(9), v.deflate, 2)
				g.message(frames.Text, g.text(126), v.deflate, 1)
				g.end()
				whole := g.wire()
				for cut := 1; cut < len(whole); cut++ {
					if err := l.carry(g, [][]byte{whole[:cut], whole[cut:]}); err != nil {
						t.Fatalf("%v, cut at %d of %d: %v", dir, cut, len(whole), err)
					}
				}
			}
		})
	}
}
