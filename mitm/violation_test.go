package mitm

import (
	"fmt"
	"strings"
	"testing"

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
		h := newHub(t, scheme, "", func(p *Proxy) { p.Settings().Hold = 1024 })
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
		s := openSocket(t, "wss", "", func(p *Proxy) { p.Settings().Hold = hold })
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
