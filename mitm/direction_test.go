package mitm

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// otherWay undoes or adds a mask.
var otherWay = map[frames.Direction]frames.Direction{frames.ToServer: frames.ToClient, frames.ToClient: frames.ToServer}

// violations are the frames that end a WebSocket, with what answers them.
// Evidence is the header of the offending frame.
var violations = []struct {
	name     string
	code     frames.Code
	bad      func(p *peer) string
	evidence int // bytes at the end of bad that are not of the offending frame's header
}{
	{"RSV bit", 1002, func(p *peer) string { return flip(p.frame(frames.Text, ""), 0, 0x40) }, 0},
	{"reserved data opcode", 1002, func(p *peer) string { return p.frame(3, "") }, 0},
	{"reserved control opcode", 1002, func(p *peer) string { return p.frame(0xb, "") }, 0},
	{"masking", 1002, func(p *peer) string { return frameOf(otherWay[p.dir], true, frames.Text, "") }, 0},
	{"16-bit length for 5 bytes", 1002, func(p *peer) string { return lengthen(p, "\xfe\x00\x05") }, 0},
	{"64-bit length for 5 bytes", 1002, func(p *peer) string { return lengthen(p, "\xff\x00\x00\x00\x00\x00\x00\x00\x05") }, 0},
	{"64-bit length with the top bit", 1002, func(p *peer) string { return lengthen(p, "\xff\x80\x00\x00\x00\x00\x00\x00\x05") }, 0},
	{"ping of 126 bytes", 1002, func(p *peer) string { return p.frame(frames.Ping, strings.Repeat("x", 126)) }, 126},
	{"fragmented ping", 1002, func(p *peer) string { return p.part(frames.Ping, "") }, 0},
	{"continuation of nothing", 1002, func(p *peer) string { return p.frame(frames.Continuation, "") }, 0},
	{"text that is not UTF-8", 1007, func(p *peer) string { return p.frame(frames.Text, "a\xff") }, 2},
	{"close of one byte", 1002, func(p *peer) string { return p.frame(frames.Close, "x") }, 1},
	{"close code 1005", 1002, func(p *peer) string { return p.frame(frames.Close, "\x03\xed") }, 2},
	{"close reason that is not UTF-8", 1007, func(p *peer) string { return p.frame(frames.Close, "\x03\xe8\xff") }, 3},
	{"message over the limit", 1009, func(p *peer) string { return lengthen(p, "\xfe\x04\x01") }, 0},
	{"HTTP", 1002, func(p *peer) string { return "GET /" }, 3},
}

func flip(s string, at int, bits byte) string {
	b := []byte(s)
	b[at] ^= bits
	return string(b)
}

// lengthen makes the header of a text frame with this length field.
func lengthen(p *peer, length string) string {
	if p.dir == frames.ToClient {
		return "\x81" + flip(length, 0, 0x80)
	}
	return "\x81" + length + "\x01\x02\x03\x04"
}

// Who breaks the protocol gets the code for it, the other side 1001. What came
// before it in the same bytes has arrived, and nothing of it or after it.
func TestViolations(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		h := newHub(t, scheme, "", func(p *Proxy) { p.Hold = 1024 })
		ended := 0
		for dir := range frames.Direction(2) {
			for _, v := range violations {
				name := fmt.Sprintf("%s %v", v.name, dir)
				s := h.open()
				from, to := s.sides(dir)
				good := from.frame(frames.Text, "good") + from.frame(frames.Ping, "")
				bad := v.bad(from)
				from.send(good + bad + from.frame(frames.Text, "after"))
				to.expect(good)
				to.expectClose(frames.GoingAway, "")
				_, payload, _ := from.read()
				if code, reason, err := frames.ParseClose([]byte(payload)); err != nil || code != v.code || reason == "" {
					t.Errorf("%s: closed with %q (%v), want %d", name, payload, err, v.code)
				}
				from.expectEnd() // and need not wait for anything
				from.closeWrite()
				to.send(to.closing(frames.GoingAway, ""))
				to.expectEnd()
				to.closeWrite()
				ended++
				e := h.ended(ended)
				messages := []audit.Tally{tallyOf("good"), tallyOf()}
				checkEnd(t, e, audit.StateFailed, messages[dir], messages[1-dir])
				list := h.ledger.of(audit.WSViolation)
				if len(list) != ended {
					t.Fatalf("%s: %d violations recorded, want %d", name, len(list), ended)
				}
				r := list[ended-1]
				if want := bad[:len(bad)-v.evidence]; string(r.Evidence) != want {
					t.Errorf("%s: evidence %x, want %x", name, r.Evidence, want)
				}
				if r.Code != int(v.code) || r.Action != "close" || r.Msg.Dir != dir.String() || r.Reason == "" || r.Reason != e.Reason || r.Conn != e.Conn {
					t.Errorf("%s: recorded as %+v", name, r)
				}
				closed := h.ledger.of(audit.WSClose)[ended-1]
				if closed.Code != int(v.code) || closed.Msg.Dir != dir.String() {
					t.Errorf("%s: ws.close is %+v", name, closed)
				}
			}
		}
	})
}

// A violation inside a fragmented message: nothing of the message passes, and
// what overtook it has passed.
func TestViolationInsideMessage(t *testing.T) {
	s := openSocket(t, "ws", "")
	s.client.send(s.client.part(frames.Text, "half") + s.client.frame(frames.Ping, "p"))
	s.server.expect(s.client.frame(frames.Ping, "p"))
	s.client.send(s.client.frame(frames.Binary, "another"))
	s.server.expectClose(frames.GoingAway, "")
	s.client.expectClose(frames.ProtocolErrorCode, "binary frame inside a fragmented message")
	s.client.closeWrite()
	s.server.closeWrite()
	checkEnd(t, s.ended(1), audit.StateFailed, tallyOf(), tallyOf())
}

// A message of exactly the limit passes, in one frame or in several; one byte
// more does not.
func TestHold(t *testing.T) {
	const hold = 200_000
	whole := strings.Repeat("x", hold)
	for dir := range frames.Direction(2) {
		s := openSocket(t, "wss", "", func(p *Proxy) { p.Hold = hold })
		from, to := s.sides(dir)
		for _, m := range []string{
			from.frame(frames.Text, whole),
			from.part(frames.Text, whole[:1]) + from.frame(frames.Continuation, whole[1:]),
		} {
			go from.send(m)
			to.expect(m)
		}
		from.send(from.part(frames.Binary, whole[:1]))
		from.send(from.frame(frames.Continuation, whole)[:14])
		from.expectClose(frames.MessageTooBig, fmt.Sprintf("message over %d bytes", hold))
		to.expectClose(frames.GoingAway, "")
		from.closeWrite()
		to.closeWrite()
		totals := []audit.Tally{tallyOf(whole, whole), tallyOf()}
		checkEnd(t, s.ended(1), audit.StateFailed, totals[dir], totals[1-dir])
	}
}

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

var errDiskFull = errors.New("no space left on device")

// What cannot be recorded is not forwarded, and ends the WebSocket.
func TestAuditFails(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for dir := range frames.Direction(2) {
			s := openSocket(t, scheme, rules)
			from, to := s.sides(dir)
			good := from.frame(frames.Text, "good")
			from.send(good)
			to.expect(good)
			s.ledger.fail.Store(&errDiskFull)
			from.send(good + from.frame(frames.Text, "poison") + good + from.part(frames.Text, "") + from.frame(frames.Close, ""))
			from.expectClose(frames.InternalError, "")
			to.expectClose(frames.InternalError, "")
			s.ledger.fail.Store(nil)
			from.send(from.closing(frames.InternalError, ""))
			to.send(to.closing(frames.InternalError, ""))
			from.closeWrite()
			to.closeWrite()
			from.expectEnd()
			to.expectEnd()
			e := s.ended(1)
			if e.State != audit.StateFailed || !strings.Contains(e.Reason, errDiskFull.Error()) {
				t.Errorf("ended as %s: %s", e.State, e.Reason)
			}
		}
	})
}

// failOnce fails at one call of Record.
type failOnce struct {
	audit.Sink
	left atomic.Int32
}

func (f *failOnce) Record(events ...audit.Event) error {
	if f.left.Add(-1) == 0 {
		return errDiskFull
	}
	return f.Sink.Record(events...)
}

// A batch may be more than one hand-over to the log. Whichever fails, what was
// not recorded is not forwarded.
func TestAuditFailsInBatch(t *testing.T) {
	for at := int32(3); at < 7; at++ { // the first two are conn.open and ws.open
		s := openSocket(t, "ws", "", func(p *Proxy) {
			f := &failOnce{Sink: p.Audit}
			f.left.Store(at)
			p.Audit = f
		})
		var batch strings.Builder
		for i := range 4*passSize + 1 {
			batch.WriteString(s.client.frame(frames.Text, fmt.Sprint(i)))
		}
		s.client.send(batch.String())
		passed := 0
		for {
			h, payload, _ := s.server.read()
			if h.Opcode == frames.Close {
				break
			}
			if payload != fmt.Sprint(passed) {
				t.Fatalf("message %s after %d others", payload, passed)
			}
			passed++
		}
		s.client.expectClose(frames.InternalError, "")
		s.client.closeWrite()
		s.server.closeWrite()
		if e := s.ended(1); e.State != audit.StateFailed {
			t.Errorf("ended as %s: %s", e.State, e.Reason)
		}
		if recorded := len(s.ledger.of(audit.WSMessage)); passed > recorded {
			t.Errorf("%d messages passed, %d are recorded", passed, recorded)
		}
	}
}

// A connection whose beginning cannot be recorded is refused.
func TestAuditFailsAtAccept(t *testing.T) {
	h := newHub(t, "ws", "")
	h.ledger.fail.Store(&errDiskFull)
	c, err := net.Dial("tcp", h.addr)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if !isReset(err) {
		t.Errorf("%v, want a reset", err)
	}
	if d := h.destinations(); len(d) > 0 {
		t.Errorf("connected to %v", d)
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
