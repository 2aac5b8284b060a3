package mitm

import (
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// A message of max_message passes, and one of a byte more is refused: by its
// header, before any of it has come, if that tells. After it the closing
// handshake is found as ever; here there is no other end to it.
func TestStreamMaxMessage(t *testing.T) {
	const limit = 5000
	text := script(1, limit+1)
	random := func(p *peer, _ *deflater, n int) string { return p.frame(frames.Binary, text[:n]) }
	squeezed := func(p *peer, d *deflater, n int) string {
		return compressed(p.dir, true, frames.Binary, d.compress(text[:n]))
	}
	bomb := func(p *peer, d *deflater, n int) string {
		return compressed(p.dir, true, frames.Binary, d.compress(strings.Repeat("a", n)))
	}
	fragments := func(p *peer, _ *deflater, n int) string {
		return p.part(frames.Binary, text[:2000]) + p.part(frames.Continuation, "") + p.part(frames.Continuation, text[2000:n]) + p.frame(frames.Continuation, "")
	}
	stream := func(p *Proxy) { streaming(p); p.Settings().MaxMessage = limit }
	below := func(p *Proxy) { streaming(p); p.Settings().Hold, p.Settings().MaxMessage = limit, 1 }
	block := func(p *Proxy) { p.Settings().Hold, p.Settings().MaxMessage = limit, 1<<20 }
	ratio := func(p *Proxy) { streaming(p); p.Settings().MaxRatio = 100 }
	for _, c := range []struct {
		name    string
		adjust  func(*Proxy)
		message func(p *peer, d *deflater, n int) string
		good    int // bytes
		bad     int
	}{
		{"stream plain", stream, random, limit, limit + 1},
		{"stream fragments", stream, fragments, limit, limit + 1},
		{"stream compressed", stream, squeezed, limit, limit + 1},
		{"stream bomb", stream, bomb, limit, limit + 1},
		{"stream large bomb", stream, bomb, limit, 1 << 20},
		{"stream, max below hold", below, random, limit, limit + 1},
		{"stream, ratio", ratio, bomb, 1 << 20, 1<<20 + 1},
		{"block plain", block, random, limit, limit + 1},
		{"block fragments", block, fragments, limit, limit + 1},
		{"block compressed", block, squeezed, limit, limit + 1},
		{"block bomb", block, bomb, limit, limit + 1},
	} {
		for dir := range frames.Direction(2) {
			for _, takeover := range []bool{true, false} {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					s := openStreaming(t, "ws", "", takeover, func(p *Proxy) {
						p.Settings().Stream = false
						c.adjust(p)
						p.closeWait = 2 * patience
					})
					from, to := s.sides(dir)
					d := newDeflater(t, takeover)
					good := c.message(from, d, c.good)
					from.send(good)
					to.expect(good)

					bad := c.message(from, d, c.bad)
					first, rest := bad, ""
					if strings.HasSuffix(c.name, "plain") {
						first, rest = beginning(bad, 0)
					}
					from.send(first)
					h, payload, _ := from.read()
					if code, _, _ := frames.ParseClose([]byte(payload)); h.Opcode != frames.Close || code != frames.MessageTooBig {
						t.Fatalf("%v frame with %d, want Close with 1009", h.Opcode, code)
					}
					from.send(rest + from.frame(frames.Binary, strings.Repeat("x", 2*limit)) + from.frame(frames.Ping, "") + from.closing(1009, ""))
					from.expectEnd()

					left := ""
					for {
						h, payload, raw := to.read()
						if h.Opcode == frames.Close {
							if payload != "\x03\xe9" {
								t.Errorf("closed with %q", payload)
							}
							break
						}
						left += raw
					}
					if len(left) >= len(bad) || !strings.HasPrefix(bad, left) {
						t.Errorf("%d bytes left of %d", len(left), len(bad))
					}
					to.send(to.closing(frames.GoingAway, ""))
					to.expectEnd()
					// Neither peer has ended its connection.
					if e := s.ended(1); e.State != audit.StateFailed {
						t.Errorf("ended as %s: %s", e.State, e.Reason)
					}
					if e := s.only(audit.WSViolation); e.Code != 1009 || e.Msg.Dir != dir.String() || len(e.Evidence) == 0 {
						t.Errorf("recorded %+v", e)
					}
				})
			}
		}
	}
}

// However a connection ends within a message, both sides end, and there is a
// record of what has left.
func TestStreamEndsWithin(t *testing.T) {
	for _, c := range []struct {
		name   string
		adjust func(*Proxy)
		state  string
		// in a frame, and between two
		act func(t *testing.T, s *socket, from, to *peer, inside bool)
	}{
		{"sender ends", nil, audit.StateInspected, func(t *testing.T, s *socket, from, to *peer, _ bool) {
			from.closeWrite()
			to.expectEnd()
		}},
		{"sender resets", nil, audit.StateInspected, func(t *testing.T, s *socket, from, to *peer, _ bool) {
			from.reset()
			to.expectReset()
		}},
		{"receiver ends", nil, audit.StateInspected, func(t *testing.T, s *socket, from, to *peer, _ bool) {
			to.closeWrite()
			from.expectEnd()
		}},
		{"receiver resets", nil, audit.StateInspected, func(t *testing.T, s *socket, from, to *peer, _ bool) {
			to.reset()
			from.expectReset()
		}},
		{"drain", nil, audit.StateInspected, func(t *testing.T, s *socket, from, to *peer, inside bool) {
			s.stop()
			from.expectClose(frames.GoingAway, "")
			to.expectGone(inside, frames.GoingAway, "")
		}},
		{"idle", func(p *Proxy) { p.Settings().IdleTimeout = time.Second }, audit.StateInspected,
			func(t *testing.T, s *socket, from, to *peer, inside bool) {
				from.expectClose(frames.GoingAway, "")
				to.expectGone(inside, frames.GoingAway, "")
			}},
		{"refusal in the other direction", nil, audit.StateBlocked, func(t *testing.T, s *socket, from, to *peer, inside bool) {
			to.send(to.frame(frames.Text, "poison"))
			from.expectClose(frames.GoingAway, "")
			to.expectGone(inside, 4001, "no poison")
		}},
		{"violation in the other direction", nil, audit.StateFailed, func(t *testing.T, s *socket, from, to *peer, inside bool) {
			to.send(frameOf(to.dir, true, 3, ""))
			from.expectClose(frames.GoingAway, "")
			h, _, _, err := readFrame(to)
			if inside == (err == nil && h.Opcode == frames.Close) {
				t.Errorf("%v frame (%v)", h.Opcode, err)
			}
		}},
		{"Close in the other direction", nil, audit.StateInspected, func(t *testing.T, s *socket, from, to *peer, _ bool) {
			to.send(to.closing(1000, ""))
			from.expectClose(1000, "")
			from.closeWrite()
			to.expectEnd()
		}},
		{"audit fails for a while", func(p *Proxy) { p.closeWait = patience }, audit.StateFailed, func(t *testing.T, s *socket, from, to *peer, inside bool) {
			s.ledger.fail.Store(&errDiskFull)
			to.send(to.frame(frames.Text, "not recorded"))
			from.expectClose(frames.InternalError, "")
			if inside {
				to.expectGone(inside, 0, "")
			} else {
				to.expectClose(frames.InternalError, "")
			}
			s.ledger.fail.Store(nil)
			from.Close()
			to.Close()
		}},
	} {
		for _, scheme := range []string{"ws", "wss"} {
			for dir := range frames.Direction(2) {
				for _, inside := range []bool{true, false} {
					for _, compress := range []bool{true, false} {
						t.Run(c.name, func(t *testing.T) {
							t.Parallel()
							adjust := []func(*Proxy){quickly}
							if c.adjust != nil {
								adjust = append(adjust, c.adjust)
							}
							s := openStreaming(t, scheme, rules, true, adjust...)
							from, to := s.sides(dir)
							text := script(1, 20_000)
							if compress {
								text = newDeflater(t, true).compress(text)
							}
							h := frames.Header{Fin: inside, Opcode: frames.Text, Masked: dir == frames.ToServer, Mask: [4]byte{1, 2, 3, 4}}
							if compress {
								h.RSV = 4
							}
							if !inside {
								text = text[:5000]
							}
							first, _ := beginning(string(frames.AppendFrame(nil, h, []byte(text))), 5000)
							from.send(first)
							to.expect(first)
							c.act(t, s, from, to, inside)
							e := s.ended(1)
							if e.State != c.state {
								t.Errorf("ended as %s: %s", e.State, e.Reason)
							}
							got := slices.DeleteFunc(s.ledger.of(audit.WSMessage), func(e audit.Event) bool { return e.Msg.Dir != dir.String() })
							if len(got) != 1 || got[0].Reason != "ended within the message" || got[0].Msg.WireSize != int64(len(first)) ||
								got[0].Msg.Frames != 1 || got[0].Msg.Compressed != compress || !compress && got[0].Msg.Size != 5000 {
								t.Errorf("recorded %+v", got)
							}
							from.Close()
							to.Close()
						})
					}
				}
			}
		}
	}
}

// expectGone reads how the gateway ends a WebSocket: with a Close frame, unless
// what was sent ends within a frame.
func (p *peer) expectGone(inside bool, code frames.Code, reason string) {
	p.t.Helper()
	if !inside {
		p.expectClose(code, reason)
	}
	if got := p.rest(); got != "" {
		p.t.Errorf("%q followed", got)
	}
}

// The last part of a message that cannot be recorded does not leave.
func TestStreamNotRecorded(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for dir := range frames.Direction(2) {
			s := openSocket(t, scheme, rules, streaming)
			from, to := s.sides(dir)
			first, rest := beginning(from.frame(frames.Binary, script(1, 9000)), 8999)
			from.send(first)
			to.expect(first)
			s.ledger.fail.Store(&errDiskFull)
			from.send(rest)
			from.expectClose(frames.InternalError, "")
			to.expectGone(true, 0, "")
			s.ledger.fail.Store(nil)
			from.Close()
			to.Close()
			if e := s.ended(1); e.State != audit.StateFailed || !strings.Contains(e.Reason, errDiskFull.Error()) {
				t.Errorf("ended as %s: %s", e.State, e.Reason)
			}
		}
	})
}

// A Close frame of the other peer passes while a message is under way, which may
// be completed and answered.
func TestStreamCloseWithin(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for dir := range frames.Direction(2) {
			s := openSocket(t, scheme, rules, streaming)
			from, to := s.sides(dir)
			first, rest := beginning(from.frame(frames.Binary, script(1, 9000)), 5000)
			from.send(first)
			to.expect(first)
			to.send(to.closing(1000, "enough"))
			from.expectClose(1000, "enough")
			from.send(rest + from.closing(1000, ""))
			to.expect(rest + from.closing(1000, ""))
			s.server.closeWrite()
			s.client.expectEnd()
			s.client.closeWrite()
			s.server.expectEnd()
			messages := []audit.Tally{tallyOf(script(1, 9000)), tallyOf()}
			checkEnd(t, s.ended(1), audit.StateInspected, messages[dir], messages[1-dir])

			// The sender's own Close, between fragments: the message never ends.
			s = openSocket(t, scheme, rules, streaming)
			from, to = s.sides(dir)
			sent := from.part(frames.Text, script(1, 5000)) + from.closing(1000, "")
			from.send(sent + from.frame(frames.Continuation, "too late"))
			to.expect(sent)
			to.send(to.closing(1000, ""))
			from.expectClose(1000, "")
			from.Close()
			to.Close()
			s.ended(1)
			if e := s.only(audit.WSMessage); e.Reason != "ended within the message" || e.Msg.Size != 5000 {
				t.Errorf("recorded %+v, %+v", e, e.Msg)
			}
		}
	})
}

// A message is judged to its end by the policy under which it began.
func TestStreamReload(t *testing.T) {
	forbid := func(word string) string {
		return "[[rule]]\nid = \"no-" + word + "\"\naction = \"drop\"\nmatch.contains = [\"" + word + "\"]\n"
	}
	schemes(t, func(t *testing.T, scheme string) {
		for dir := range frames.Direction(2) {
			s := openSocket(t, scheme, forbid("old"), streaming)
			from, to := s.sides(dir)
			old := s.policy.Load().Version()
			first, rest := beginning(from.frame(frames.Binary, script(1, 9000)+"new"), 5000)
			from.send(first)
			to.expect(first)
			s.reload(forbid("new"))
			from.send(rest)
			to.expect(rest)

			passed := from.frame(frames.Binary, "old "+script(2, 5000))
			from.send(from.frame(frames.Text, "new") + passed)
			to.expect(passed)
			first, rest = beginning(from.frame(frames.Binary, script(3, 9000)+"new"), 5000)
			from.send(first)
			to.expect(first)
			s.reload(forbid("other"))
			from.send(rest)
			if got := to.rest(); len(got) >= len(rest) {
				t.Error("judged by the wrong policy")
			}
			s.refused(1, from, to, frames.PolicyViolation, "policy violation", "no-new")
			var versions []string
			for _, e := range s.ledger.of(audit.WSMessage) {
				versions = append(versions, e.Policy)
			}
			now := versions[len(versions)-1]
			if want := []string{old, now, now, now}; now == old || !slices.Equal(versions, want) {
				t.Errorf("judged by %v, expected %v", versions, want)
			}
		}
	})
}
