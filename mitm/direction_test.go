package mitm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

const rules = `
[policy]
default = "allow"

[[rule]]
id = "no-secret"
action = "drop"
match.contains = ["secret"]

[[rule]]
id = "seen"
action = "log"
match.contains = ["interesting"]

[[rule]]
id = "would-drop"
action = "drop"
mode = "shadow"
match.contains = ["interesting", "new"]

[[rule]]
id = "poison"
action = "close"
code = 4001
reason = "no poison"
match.contains = ["poison"]

[[rule]]
id = "covert"
action = "drop"
match.opcode = ["ping"]
match.contains = ["covert"]

[[rule]]
id = "no-pong"
action = "close"
match.opcode = ["pong"]
match.contains = ["poisoned"]
`

// What rules say of each message of a batch is done, and recorded, and has no
// influence on the others.
func TestVerdicts(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := openSocket(t, scheme, rules)
		for dir := range frames.Direction(2) {
			from, to := s.sides(dir)
			fragmented := func(a, b string) string {
				return from.part(frames.Text, a) + from.frame(frames.Ping, "inside") + from.frame(frames.Continuation, b)
			}
			var batch, want strings.Builder
			for _, part := range []struct {
				frames string
				passes bool
			}{
				{from.frame(frames.Text, "one"), true},
				{from.frame(frames.Text, "a secret"), false},
				{from.frame(frames.Binary, "interesting"), true},
				{from.part(frames.Text, "sec") + from.frame(frames.Continuation, "ret"), false},
				{from.frame(frames.Ping, "covert"), false},
				{from.frame(frames.Ping, "secret"), true}, // the rule does not name ping
				{from.frame(frames.Text, "new"), true},
				{from.frame(frames.Text, "last"), true},
			} {
				batch.WriteString(part.frames)
				if part.passes {
					want.WriteString(part.frames)
				}
			}
			batch.WriteString(fragmented("sec", "ret"))
			want.WriteString(from.frame(frames.Ping, "inside"))
			batch.WriteString(fragmented("pas", "ses"))
			want.WriteString(from.frame(frames.Ping, "inside") + from.part(frames.Text, "pas") + from.frame(frames.Continuation, "ses"))
			from.send(batch.String())
			to.expect(want.String())
		}
		e := s.finish()
		sent := tallyOf("one", "a secret", "interesting", "secret", "new", "last", "secret", "passes")
		checkEnd(t, e, audit.StateInspected, sent, sent)
		var got []string
		for _, e := range s.ledger.of("") {
			if e.Msg != nil && e.Msg.Dir == "to-server" && e.Msg.Frames > 0 {
				got = append(got, fmt.Sprintf("%s %s %v %v", e.Msg.Opcode, e.Action, e.Rules, e.Shadow))
			}
		}
		want := []string{
			"text allow [] []",
			"text drop [no-secret] []",
			"binary log [seen] [would-drop]",
			"text drop [no-secret] []",
			"ping drop [covert] []",
			"ping allow [] []",
			"text allow [] [would-drop]",
			"text allow [] []",
			"ping allow [] []",
			"text drop [no-secret] []",
			"ping allow [] []",
			"text allow [] []",
			"close allow [] []",
		}
		if !slices.Equal(got, want) {
			t.Errorf("recorded:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A rule that closes: its sender learns why, the other side that it is over,
// and what came before in the same bytes has arrived.
func TestVerdictClose(t *testing.T) {
	for _, c := range []struct {
		name   string
		frame  func(p *peer) string
		code   frames.Code
		reason string
		rule   string
		data   []string
	}{
		{"text", func(p *peer) string { return p.frame(frames.Text, "poison") }, 4001, "no poison", "poison", []string{"good", "poison"}},
		{"fragments", func(p *peer) string { return p.part(frames.Text, "poi") + p.frame(frames.Continuation, "son") }, 4001, "no poison", "poison", []string{"good", "poison"}},
		{"pong", func(p *peer) string { return p.frame(frames.Pong, "poisoned") }, 1008, "policy violation", "no-pong", []string{"good"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			schemes(t, func(t *testing.T, scheme string) {
				for dir := range frames.Direction(2) {
					s := openSocket(t, scheme, rules)
					from, to := s.sides(dir)
					good := from.frame(frames.Text, "good")
					from.send(good + c.frame(from) + from.frame(frames.Text, "after") + from.closing(c.code, "")) // and the answer at once
					to.expect(good)
					to.expectClose(frames.GoingAway, "")
					to.send(to.frame(frames.Text, "too late") + to.closing(frames.GoingAway, ""))
					from.expectClose(c.code, c.reason)
					to.expectEnd()
					from.expectEnd()
					from.closeWrite()
					to.closeWrite()
					e := s.ended(1)
					totals := []audit.Tally{tallyOf(c.data...), tallyOf()}
					checkEnd(t, e, audit.StateBlocked, totals[dir], totals[1-dir])
					if !slices.Equal(e.Rules, []string{c.rule}) || e.Reason != c.reason {
						t.Errorf("conn.close is by %v with reason %q", e.Rules, e.Reason)
					}
					if e := s.only(audit.WSClose); e.Code != int(c.code) || e.Reason != c.reason || e.Action != "close" || e.Msg.Dir != dir.String() {
						t.Errorf("ws.close is %+v", e)
					}
					closes := 0
					for _, e := range s.ledger.of("") {
						if e.Event != audit.WSClose && e.Action == "close" {
							closes++
							if e.Code != int(c.code) || e.Reason != c.reason || !slices.Equal(e.Rules, []string{c.rule}) {
								t.Errorf("the verdict is recorded as %+v", e)
							}
						}
					}
					if closes != 1 {
						t.Errorf("%d verdicts to close recorded:\n%s", closes, s.ledger)
					}
				}
			})
		})
	}
}

// The default of a policy is about data and spares control frames.
func TestVerdictDefault(t *testing.T) {
	for dir := range frames.Direction(2) {
		t.Run(dir.String(), func(t *testing.T) {
			s := openSocket(t, "wss", "[policy]\ndefault = \"drop\"\n[[rule]]\nid = \"ok\"\naction = \"allow\"\nmatch.contains = [\"ok\"]\n")
			from, to := s.sides(dir)
			from.send(from.frame(frames.Text, "no") + from.frame(frames.Ping, "") + from.frame(frames.Text, "ok"))
			to.expect(from.frame(frames.Ping, "") + from.frame(frames.Text, "ok"))
			totals := []audit.Tally{tallyOf("no", "ok"), tallyOf()}
			checkEnd(t, s.finish(), audit.StateInspected, totals[dir], totals[1-dir])
			if e := s.ledger.of(audit.WSMessage)[0]; e.Action != "drop" || len(e.Rules) != 0 {
				t.Errorf("recorded as %+v", e)
			}

			s = openSocket(t, "wss", "[policy]\ndefault = \"close\"\n")
			from, to = s.sides(dir)
			from.send(from.frame(frames.Ping, "") + from.frame(frames.Text, "no"))
			to.expect(from.frame(frames.Ping, ""))
			to.expectClose(frames.GoingAway, "")
			from.expectClose(frames.PolicyViolation, "policy violation")
			from.closeWrite()
			to.closeWrite()
			totals = []audit.Tally{tallyOf("no"), tallyOf()}
			checkEnd(t, s.ended(1), audit.StateBlocked, totals[dir], totals[1-dir])
		})
	}
}

// A new policy holds from the next message on, both ways.
func TestReload(t *testing.T) {
	s := openSocket(t, "wss", rules)
	before := s.Policy().Version()
	versions := []string{before, before}
	for dir := range frames.Direction(2) {
		from, to := s.sides(dir)
		from.send(from.frame(frames.Text, "new") + from.part(frames.Text, "half of a secret,"))
		to.expect(from.frame(frames.Text, "new"))
	}
	s.reload(strings.NewReplacer(`"secret"`, `"new"`, `"new"`, `"secret"`).Replace(rules))
	after := s.Policy().Version()
	for dir := range frames.Direction(2) {
		from, to := s.sides(dir)
		from.send(from.frame(frames.Continuation, " which is judged now") + from.frame(frames.Text, "new") + from.frame(frames.Text, "secret"))
		to.expect(from.part(frames.Text, "half of a secret,") + from.frame(frames.Continuation, " which is judged now") + from.frame(frames.Text, "secret"))
		versions = append(versions, after, after, after)
	}
	all := tallyOf("new", "half of a secret, which is judged now", "new", "secret")
	checkEnd(t, s.finish(), audit.StateInspected, all, all)
	var got []string
	for _, e := range s.ledger.of(audit.WSMessage) {
		got = append(got, e.Policy)
	}
	if !slices.Equal(got, versions) {
		t.Errorf("versions %q, want %q", got, versions)
	}
}

// A Close frame that a rule drops ends its direction all the same; the other
// side learns of it by the end of the stream.
func TestDroppedClose(t *testing.T) {
	s := openSocket(t, "wss", "[[rule]]\nid = \"stay\"\naction = \"drop\"\nmatch.opcode = [\"close\"]\n")
	s.client.send(s.client.closing(1000, "bye") + s.client.frame(frames.Text, "discarded"))
	s.client.closeWrite()
	s.server.expectEnd()
	s.server.send(s.server.frame(frames.Text, "hello?"))
	s.client.expect(s.server.frame(frames.Text, "hello?"))
	s.server.closeWrite()
	s.client.expectEnd()
	checkEnd(t, s.ended(1), audit.StateInspected, tallyOf(), tallyOf("hello?"))
	if e := s.only(audit.WSControl); e.Action != "drop" || !slices.Equal(e.Rules, []string{"stay"}) {
		t.Errorf("recorded as %+v", e)
	}
	if e := s.only(audit.WSClose); e.Code != 1000 || e.Reason != "bye" {
		t.Errorf("ws.close is %+v", e)
	}
}

// While nothing comes, a direction holds no buffer, and with a part of a frame
// a small one.
func TestBuffersWhileIdle(t *testing.T) {
	for _, c := range []struct {
		name string
		part func(p *peer) string
		most int
	}{
		{"between frames", func(p *peer) string { return "" }, 0},
		{"inside a header", func(p *peer) string { return p.frame(frames.Text, "x")[:1] }, 1 << minBuffer},
		{"inside a frame", func(p *peer) string { return p.frame(frames.Text, strings.Repeat("x", 200))[:100] }, 1 << minBuffer},
		{"at the start of a long frame", func(p *peer) string { return p.frame(frames.Text, strings.Repeat("x", 1<<20))[:100] }, 1 << minBuffer},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHop(t, false)
			r := &relay{flow: h.flow, ws: &upgrade{}}
			d := newDirection(r, frames.ToServer, &r.down, r.up)
			whole := h.client.frame(frames.Text, strings.Repeat("y", 100_000))
			h.client.send(whole + c.part(h.client))
			done := make(chan error, 1)
			go func() { done <- d.carry() }()
			h.server.expect(whole)
			h.settled(h.client)
			r.down.wire.SetReadDeadline(time.Unix(1, 0))
			if err := <-done; !isTimeout(err) {
				t.Fatal(err)
			}
			if cap(d.in) > c.most {
				t.Errorf("%d bytes are held, want at most %d", cap(d.in), c.most)
			}
			if r.down.wire.store != nil || r.down.wire.ahead != nil || r.up.wire.outBuf != nil {
				t.Error("a wire holds a buffer")
			}
		})
	}
}
