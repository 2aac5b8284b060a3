package mitm

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// held sets how much of messages may be held.
func held(n int64) func(*Proxy) { return func(p *Proxy) { p.Settings().HeldMemory = n } }

// from opens a WebSocket for one of many clients.
func (h *hub) from(client int) *socket {
	h.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, 0, byte(1+client))}}
	c, err := d.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(6 * patience))
	return h.openOn(c.(*net.TCPConn))
}

// occupy takes all memory for a client that is no client of the test's.
func (h *hub) occupy() (release func()) {
	h.t.Helper()
	c := want(h.Settings().HeldMemory, "192.0.2.1")
	if !settles(func() bool { return h.held.snapshot(0).Bytes == 0 }) || !h.held.take(h.Settings().HeldMemory, c) {
		h.t.Fatal("not all of the memory is free")
	}
	return func() { h.held.give(c) }
}

// waiting waits until n directions wait for memory.
func (h *hub) waiting(n int64) {
	h.t.Helper()
	if !settles(func() bool { return h.held.snapshot(0).Waiting == n }) {
		h.t.Fatalf("%+v, want %d that wait", h.held.snapshot(0), n)
	}
}

// arrives reads what is to arrive.
func arrives(c io.Reader, want string) error {
	b := make([]byte, 32<<10)
	for at := 0; at < len(want); {
		n, err := c.Read(b[:min(len(b), len(want)-at)])
		if string(b[:n]) != want[at:at+n] {
			return fmt.Errorf("other bytes arrive than were sent, from %d on", at)
		}
		if at += n; err != nil {
			return fmt.Errorf("after %d bytes of %d: %w", at, len(want), err)
		}
	}
	return nil
}

const deflate = "+Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover"

// messages makes one of each kind that has to be held, and small ones.
func heldMessages(t *testing.T, dir frames.Direction) []string {
	z := newDeflater(t, false)
	text := script(byte(dir), heldSize)
	third := heldSize / 3
	return []string{
		frameOf(dir, true, frames.Text, "small"),
		frameOf(dir, true, frames.Text, text),
		frameOf(dir, true, frames.Binary, text[:70<<10]),
		frameOf(dir, false, frames.Text, text[:10]) + frameOf(dir, true, frames.Continuation, text[10:]),
		frameOf(dir, false, frames.Text, text[:third]) + frameOf(dir, false, frames.Continuation, text[third:2*third]) +
			frameOf(dir, true, frames.Continuation, text[2*third:]),
		frameOf(dir, false, frames.Text, text[:50000]) + strings.Repeat(frameOf(dir, false, frames.Continuation, text[:5000]), 30) +
			frameOf(dir, true, frames.Continuation, text[:50000]),
		compressed(dir, true, frames.Text, z.compress(text)),
		compressed(dir, true, frames.Text, z.compress(strings.Repeat("a", heldSize))),
		compressed(dir, false, frames.Text, z.compress(text)[:2*third]) +
			frameOf(dir, true, frames.Continuation, z.compress(text)[2*third:]),
	}
}

// However many connections want to hold a message at the same time, no more is
// held than may be, and one more for a connection of which the other direction
// holds one already, and all of them arrive as they were sent. The servers do not
// read while they write, as simple ones do.
func TestHeldMemory(t *testing.T) {
	const sockets, each, memory = 200, 2, 6 * heldSize
	h := newHubWith(t, "ws", with(upgradeAnswer, deflate), "", held(memory), func(p *Proxy) { p.Settings().Hold = heldSize })
	requests, answers := heldMessages(t, frames.ToServer), heldMessages(t, frames.ToClient)
	var all sync.WaitGroup
	for i := range sockets {
		s := h.from(i % 20)
		r := rand.New(rand.NewPCG(uint64(i), 3))
		var sent, answered []string
		for range each {
			sent = append(sent, requests[r.IntN(len(requests))])
			answered = append(answered, answers[r.IntN(len(answers))])
		}
		all.Go(func() {
			for _, m := range sent {
				if _, err := io.WriteString(s.client, m); err != nil {
					t.Errorf("socket %d: client: %v", i, err)
				}
			}
		})
		all.Go(func() {
			for j, m := range sent {
				if err := arrives(s.server, m); err != nil {
					t.Errorf("socket %d: server: %v", i, err)
					return
				}
				if _, err := io.WriteString(s.server, answered[j]); err != nil {
					t.Errorf("socket %d: server: %v", i, err)
				}
			}
		})
		all.Go(func() {
			if err := arrives(s.client, strings.Join(answered, "")); err != nil {
				t.Errorf("socket %d: client: %v", i, err)
			}
		})
	}
	all.Wait()
	h.held.mu.Lock()
	defer h.held.mu.Unlock()
	if h.held.most > memory+4*heldSize || h.held.waits == 0 || h.held.ended > 0 {
		t.Errorf("%d bytes were held, %d waits, %d ended", h.held.most, h.held.waits, h.held.ended)
	}
}

// Who waits for memory does not read, and that is all: its other direction goes
// on, and so do all connections that have no need of more.
func TestHeldWaits(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		h := newHubWith(t, scheme, with(upgradeAnswer, deflate), "", held(4*mib))
		release := h.occupy()
		for _, m := range heldMessages(t, frames.ToServer)[1:] {
			s, other := h.open(), h.open()
			go io.WriteString(s.client, m+s.client.frame(frames.Ping, "behind"))
			h.waiting(1)
			s.server.send(s.server.frame(frames.Text, "answer") + s.server.frame(frames.Ping, "p"))
			s.client.expect(s.server.frame(frames.Text, "answer") + s.server.frame(frames.Ping, "p"))
			for _, p := range []*peer{other.client, other.server} {
				from, to := other.sides(p.dir)
				from.send(from.frame(frames.Ping, "p") + from.part(frames.Text, strings.Repeat("x", 60<<10)) + from.frame(frames.Pong, ""))
				to.expect(from.frame(frames.Ping, "p") + from.frame(frames.Pong, ""))
			}
			release()
			if err := arrives(s.server, m+s.client.frame(frames.Ping, "behind")); err != nil {
				t.Fatal(err)
			}
			release = h.occupy()
		}
		release()
	})
}

// Peers that go, and messages that are refused, give back what they had.
func TestHeldGivesBack(t *testing.T) {
	text := script(1, mib)
	for _, c := range []struct {
		name string
		end  func(s *socket)
	}{
		{"client resets", func(s *socket) { s.client.reset() }},
		{"client ends", func(s *socket) { s.client.closeWrite() }},
		{"server resets", func(s *socket) { s.server.reset() }},
		{"server closes", func(s *socket) { s.server.send(s.server.closing(1000, "")); s.server.closeWrite() }},
		{"client closes", func(s *socket) { s.client.send(s.client.closing(1000, "")) }},
		{"too much", func(s *socket) { io.WriteString(s.client, s.client.frame(frames.Continuation, text)) }},
		{"fault", func(s *socket) { s.client.send("\x80\x00") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, "ws", "", held(3*mib), quickly)
			s, other := h.open(), h.open()
			s.client.send(s.client.part(frames.Text, text[:mib/2]))
			if !settles(func() bool { return h.held.snapshot(0).Bytes == 2*mib }) {
				t.Fatalf("%+v", h.held.snapshot(0))
			}
			go io.WriteString(other.client, other.client.frame(frames.Text, text))
			h.waiting(1)
			c.end(s)
			if err := arrives(other.server, other.client.frame(frames.Text, text)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A drain ends those that wait as it ends all, and holds nothing more for it.
func TestHeldDrain(t *testing.T) {
	h := newHubWith(t, "wss", with(upgradeAnswer, deflate), "", held(4*mib))
	release := h.occupy()
	var all sync.WaitGroup
	n := int64(0)
	for _, m := range heldMessages(t, frames.ToServer)[1:] {
		s := h.open()
		n++
		all.Go(func() {
			io.WriteString(s.client, m)
			io.WriteString(s.client, s.client.closing(frames.GoingAway, ""))
		})
		for _, p := range []*peer{s.client, s.server} {
			all.Go(func() {
				if f, payload, _, err := readFrame(p); err != nil || f.Opcode != frames.Close || payload != "\x03\xe9" {
					t.Errorf("%v frame %q (%v), want Close with 1001", f.Opcode, payload, err)
				}
				if p == s.server {
					io.WriteString(p, p.closing(frames.GoingAway, ""))
				}
				if k, err := io.Copy(io.Discard, p); k != 0 || err != nil {
					t.Errorf("%d bytes after the Close (%v)", k, err)
				}
				p.Close()
			})
		}
	}
	h.waiting(n)
	h.stop()
	all.Wait()
	h.ended(int(n))
	release()
	if list := h.ledger.of(audit.WSViolation); len(list) > 0 {
		t.Errorf("%+v", list)
	}
}

// A policy that comes into force meanwhile is the one that a message is judged by.
func TestHeldReload(t *testing.T) {
	h := newHubWith(t, "ws", with(upgradeAnswer, deflate), "", held(4*mib))
	for _, m := range heldMessages(t, frames.ToServer)[1:] {
		h.reload("")
		release := h.occupy()
		s := h.open()
		go io.WriteString(s.client, m)
		h.waiting(1)
		h.reload("[[rule]]\nid = \"all\"\naction = \"close\"\ncode = 4000\n[rule.match]\nmin_size = \"1B\"\n")
		release()
		s.client.expectClose(4000, "policy violation")
		s.server.expectClose(1001, "")
		s.client.Close()
		s.server.Close()
	}
	h.ended(8)
}

// To wait for memory is neither to be idle nor to be silent.
func TestHeldIsNotIdle(t *testing.T) {
	h := newHub(t, "ws", "", held(4*mib), quickly, func(p *Proxy) { p.Settings().IdleTimeout = 500 * time.Millisecond })
	release := h.occupy()
	s := h.open()
	m := s.client.frame(frames.Text, script(1, heldSize))
	go io.WriteString(s.client, m)
	h.waiting(1)
	s.server.closeWrite()
	s.client.expectEnd()
	time.Sleep(1200 * time.Millisecond) // more than either may be
	release()
	if err := arrives(s.server, m); err != nil {
		t.Error(err)
	}
}

// A message that stands still while others wait ends with 1013, whoever it is that
// does not go on.
func TestHeldStalled(t *testing.T) {
	soon := func(p *Proxy) {
		quickly(p)
		p.held.grace, p.held.checks = 200*time.Millisecond, 10*time.Millisecond
		p.Settings().Hold = 16 * mib
	}
	long := script(1, 8*mib) // more than sockets take
	for _, c := range []struct {
		name  string
		send  func(s *socket)
		state string
	}{
		{"sender, within a frame", func(s *socket) { io.WriteString(s.client, s.client.frame(frames.Text, long)[:65<<10]) }, audit.StateFailed},
		{"sender, between fragments", func(s *socket) { io.WriteString(s.client, s.client.part(frames.Text, long[:65<<10])) }, audit.StateFailed},
		{"receiver", func(s *socket) { io.WriteString(s.client, s.client.frame(frames.Text, long)) }, audit.StateFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, "ws", "", held(18*mib), soon)
			s, other := h.open(), h.open()
			c.send(s)
			if !settles(func() bool { return h.held.snapshot(0).Bytes > 0 }) {
				t.Fatal("no memory is held")
			}
			m := other.client.frame(frames.Text, long[:heldSize])
			go io.WriteString(other.client, m)
			if err := arrives(other.server, m); err != nil {
				t.Fatal(err)
			}
			s.client.expectClose(frames.TryAgainLater, "out of memory for messages")
			s.client.Close()
			e := h.ended(1)
			if e.State != c.state || e.Reason != stalled {
				t.Errorf("%+v", e)
			}
			if v := h.only(audit.WSViolation); v.Code != 1013 || v.Action != "close" || v.Reason != stalled || v.Msg.Dir != "to-server" {
				t.Errorf("%+v", v)
			}
			if n := h.held.snapshot(0).Ended; n != 1 {
				t.Errorf("%d were ended", n)
			}
			other.finish()
		})
	}
}

// A message that leaves in parts gives back what was held of it with the first.
func TestHeldStream(t *testing.T) {
	h := newHubWith(t, "ws", with(upgradeAnswer, deflate), "", held(3*mib), func(p *Proxy) { p.Settings().Stream = true })
	s := h.open()
	text := script(1, mib)
	first := s.client.part(frames.Text, text)
	s.client.send(first)
	if !settles(func() bool { return h.held.snapshot(0).Bytes == 2*mib }) {
		t.Fatalf("%+v", h.held.snapshot(0))
	}
	second := s.client.part(frames.Continuation, text)
	go io.WriteString(s.client, second)
	if err := arrives(s.server, first+second[:len(second)-2]); err != nil {
		t.Fatal(err)
	}
	if !settles(func() bool { return h.held.snapshot(0).Bytes == 0 }) {
		t.Errorf("%+v", h.held.snapshot(0))
	}
	s.client.send(s.client.frame(frames.Continuation, ""))
	s.server.expect(second[len(second)-2:] + s.client.frame(frames.Continuation, ""))
	s.finish()
}
