package mitm

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// The closing handshake belongs to the peers, whoever begins it, and what
// comes behind a Close frame goes nowhere.
func TestClosingHandshake(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		h := newHub(t, scheme, "")
		ended := 0
		for _, c := range []struct {
			payload string
			code    frames.Code
			reason  string
		}{
			{"", frames.NoStatus, ""},
			{"\x03\xe8", 1000, ""},
			{"\x03\xe9going away", 1001, "going away"},
			{"\x0b\xb8" + strings.Repeat("r", 123), 3000, strings.Repeat("r", 123)},
			{"\x13\x87grüße", 4999, "grüße"},
		} {
			for dir := range frames.Direction(2) {
				s := h.open()
				from, to := s.sides(dir)
				bye, answer := from.frame(frames.Close, c.payload), to.closing(1000, "seen")
				from.send(bye + from.frame(frames.Text, "after"))
				to.expect(bye)
				to.send(to.frame(frames.Text, "still") + answer + to.frame(frames.Text, "after"))
				from.expect(to.frame(frames.Text, "still") + answer)
				s.server.closeWrite()
				s.client.expectEnd()
				s.client.closeWrite()
				s.server.expectEnd()
				ended++
				messages := []audit.Tally{tallyOf("still"), tallyOf()}
				checkEnd(t, h.ended(ended), audit.StateInspected, messages[1-dir], messages[dir])
				e := h.ledger.of(audit.WSClose)[ended-1]
				if e.Code != int(c.code) || e.Reason != c.reason || e.Msg.Dir != dir.String() {
					t.Errorf("ws.close is %+v, want %d %q %v", e, c.code, c.reason, dir)
				}
			}
		}
		// Both at the same time, of which neither is an answer.
		s := h.open()
		s.client.send(s.client.closing(4001, "mine"))
		s.server.send(s.server.closing(4002, "mine"))
		s.server.expectClose(4001, "mine")
		s.client.expectClose(4002, "mine")
		s.server.closeWrite()
		s.client.expectEnd()
		s.client.closeWrite()
		checkEnd(t, h.ended(ended+1), audit.StateInspected, tallyOf(), tallyOf())
	})
}

// An end without a Close frame is carried over as it is, and the other
// direction goes on for as long as it has something to say.
func TestEndWithoutClose(t *testing.T) {
	for _, end := range []string{"FIN", "close_notify", "FIN without close_notify"} {
		for dir := range frames.Direction(2) {
			t.Run(fmt.Sprintf("%s %v", end, dir), func(t *testing.T) {
				scheme := "wss"
				if end == "FIN" {
					scheme = "ws"
				}
				s := openSocket(t, scheme, "")
				from, to := s.sides(dir)
				from.send(from.frame(frames.Text, "last") + from.frame(frames.Text, "lost")[:3])
				if end == "close_notify" {
					from.closeWrite()
				} else {
					from.tcp.CloseWrite()
				}
				to.expect(from.frame(frames.Text, "last"))
				if end == "FIN without close_notify" {
					// To crypto/tls the two are one, so look below it.
					if b, err := io.ReadAll(to.tcp); len(b) > 0 || err != nil {
						t.Errorf("%d bytes before the FIN (%v)", len(b), err)
					}
				} else {
					to.expectEnd()
				}
				to.send(to.frame(frames.Text, "half open") + to.closing(1000, ""))
				from.expect(to.frame(frames.Text, "half open") + to.closing(1000, ""))
				to.closeWrite()
				from.expectEnd()
				messages := [2]audit.Tally{tallyOf("last"), tallyOf("half open")}
				checkEnd(t, s.ended(1), audit.StateInspected, messages[dir], messages[1-dir])
				if e := s.only(audit.WSClose); e.Code != int(frames.AbnormalClosure) || e.Msg.Dir != dir.String() || e.Reason == "" {
					t.Errorf("ws.close is %+v", e)
				}
			})
		}
	}
}

// A reset on one side is a reset on the other.
func TestReset(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for dir := range frames.Direction(2) {
			s := openSocket(t, scheme, "")
			from, to := s.sides(dir)
			from.send(from.frame(frames.Text, "last"))
			to.expect(from.frame(frames.Text, "last"))
			from.reset()
			to.expectReset()
			messages := []audit.Tally{tallyOf("last"), tallyOf()}
			checkEnd(t, s.ended(1), audit.StateInspected, messages[dir], messages[1-dir])
			if e := s.only(audit.WSClose); e.Code != int(frames.AbnormalClosure) || e.Msg.Dir != dir.String() || !strings.Contains(e.Reason, "reset") {
				t.Errorf("ws.close is %+v", e)
			}
		}
	})
}

// A verdict stands in the ledger although the other side is gone already.
func TestVerdictOnHalfASocket(t *testing.T) {
	s := openSocket(t, "wss", rules)
	s.server.closeWrite()
	s.client.expectEnd()
	s.client.send(s.client.frame(frames.Text, "poison"))
	s.server.expectClose(frames.GoingAway, "")
	s.client.closeWrite()
	if e := s.ended(1); e.State != audit.StateBlocked {
		t.Errorf("ended as %s: %s", e.State, e.Reason)
	}
}

// flood sends messages until the connection ends.
func flood(p *peer, sent *atomic.Int64) {
	b := strings.Repeat(p.frame(frames.Binary, strings.Repeat("x", 1000)), 64)
	for {
		n, err := io.WriteString(p, b)
		sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// Whatever a peer does about our Close, the connection ends.
func TestCloseIsNotAnswered(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for name, then := range map[string]func(p *peer){
			"silence": func(*peer) {},
			"data":    func(p *peer) { flood(p, new(atomic.Int64)) },
			"pings": func(p *peer) {
				for {
					if _, err := io.WriteString(p, p.frame(frames.Ping, "")); err != nil {
						return
					}
				}
			},
			"nonsense": func(p *peer) { io.Copy(p, strings.NewReader(strings.Repeat("\xff", 1<<24))) },
		} {
			for dir := range frames.Direction(2) {
				s := openSocket(t, scheme, rules, quickly)
				from, to := s.sides(dir)
				from.send(from.frame(frames.Text, "poison"))
				from.expectClose(4001, "no poison")
				to.expectClose(frames.GoingAway, "")
				var busy sync.WaitGroup
				busy.Go(func() { then(from) })
				busy.Go(func() { then(to) })
				if e := s.ended(1); e.State != audit.StateBlocked {
					t.Errorf("%s: ended as %s: %s", name, e.State, e.Reason)
				}
				busy.Wait()
			}
		}
	})
}

// After their closing handshake the peers have little time for their TCP
// connections, and what they send buys them no more.
func TestNothingAfterTheHandshake(t *testing.T) {
	for _, talk := range []bool{false, true} {
		s := openSocket(t, "wss", "", quickly)
		s.client.send(s.client.closing(1000, ""))
		s.server.expectClose(1000, "")
		s.server.send(s.server.closing(1000, ""))
		s.client.expectClose(1000, "")
		var busy sync.WaitGroup
		if talk {
			busy.Go(func() { flood(s.client, new(atomic.Int64)) })
			busy.Go(func() { flood(s.server, new(atomic.Int64)) })
		}
		checkEnd(t, s.ended(1), audit.StateInspected, tallyOf(), tallyOf())
		busy.Wait()
	}
}

// A peer that never answers the other's Close is cut off.
func TestCloseIsNotAnsweredByPeer(t *testing.T) {
	s := openSocket(t, "ws", "", quickly)
	s.client.send(s.client.closing(1000, ""))
	s.server.expectClose(1000, "")
	s.client.expectEnd()
	s.server.expectEnd()
	checkEnd(t, s.ended(1), audit.StateInspected, tallyOf(), tallyOf())
	if e := s.only(audit.WSClose); e.Code != 1000 || e.Msg.Dir != "to-server" {
		t.Errorf("ws.close is %+v", e)
	}
}

// stuck waits until a flood gets nowhere.
func stuck(t *testing.T, sent *atomic.Int64) {
	t.Helper()
	last, same := int64(-1), 0
	if !settles(func() bool {
		n := sent.Load()
		if n == last && n > 0 {
			same++
		} else {
			same = 0
		}
		last = n
		return same == 5
	}) {
		t.Fatal("the flood does not end")
	}
}

// A peer that does not read cannot keep the other from its Close frame, nor
// the connection from its end.
func TestCloseToPeerThatDoesNotRead(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for dir := range frames.Direction(2) {
			s := openSocket(t, scheme, "", func(p *Proxy) { p.closeWait = time.Second / 2 })
			from, to := s.sides(dir)
			var busy sync.WaitGroup
			var sent atomic.Int64
			busy.Go(func() { flood(from, &sent) })
			stuck(t, &sent)
			to.send(to.frame(frames.Ping, "")) // this way is free
			from.expect(to.frame(frames.Ping, ""))
			s.stop()
			from.expectClose(frames.GoingAway, "")
			if e := s.ended(1); e.State != audit.StateInspected {
				t.Errorf("ended as %s: %s", e.State, e.Reason)
			}
			busy.Wait()
		}
	})
}

// Nor can two that do not read, each of which the other waits for.
func TestCloseToPeersThatDoNotRead(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := openSocket(t, scheme, "", quickly)
		var busy sync.WaitGroup
		var sent [2]atomic.Int64
		busy.Go(func() { flood(s.client, &sent[0]) })
		busy.Go(func() { flood(s.server, &sent[1]) })
		stuck(t, &sent[0])
		stuck(t, &sent[1])
		s.stop()
		if e := s.ended(1); e.State != audit.StateInspected {
			t.Errorf("ended as %s: %s", e.State, e.Reason)
		}
		busy.Wait()
	})
}

// An upgraded connection on which nothing passes ends, if so configured.
func TestIdleTimeout(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := openSocket(t, scheme, "", func(p *Proxy) { p.Settings().IdleTimeout = 50 * time.Millisecond })
		s.client.expectClose(frames.GoingAway, "")
		s.server.expectClose(frames.GoingAway, "")
		s.client.send(s.client.closing(frames.GoingAway, ""))
		s.server.send(s.server.closing(frames.GoingAway, ""))
		s.client.expectEnd()
		s.server.expectEnd()
		checkEnd(t, s.ended(1), audit.StateInspected, tallyOf(), tallyOf())
		if e := s.only(audit.WSClose); e.Code != 1001 || e.Reason != "idle timeout" || e.Msg != nil {
			t.Errorf("ws.close is %+v", e)
		}
	})
}
