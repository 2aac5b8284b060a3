package origin_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/examples/traffic"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

const name = "chat.demo.test"

// site is an origin on the loopback address.
type site struct {
	*origin.Server
	pki                *origin.PKI
	tls, plain, banner string // host:port
}

func start(t *testing.T, leaves ...origin.Leaf) *site {
	t.Helper()
	pki, err := origin.NewPKI()
	if err != nil {
		t.Fatal(err)
	}
	if leaves == nil {
		leaves = []origin.Leaf{{Names: []string{name}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}}
	}
	config, err := pki.Config(leaves...)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Server: origin.New(), pki: pki}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, address := range []*string{&s.tls, &s.plain, &s.banner} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		*address = ln.Addr().String()
		switch address {
		case &s.tls:
			s.ServeTLS(ln, config)
		case &s.plain:
			s.ServePlain(ln)
		default:
			s.ServeBanner(ln)
		}
	}
	return s
}

func (s *site) dial(t *testing.T, config *tls.Config) *clients.Raw {
	t.Helper()
	address := s.plain
	if config != nil {
		address = s.tls
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	c, err := clients.DialRaw(ctx, clients.RawOptions{Address: address, TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Cut() })
	return c
}

// upgraded dials over TLS and upgrades on target, whatever the reply's status.
func (s *site) upgraded(t *testing.T, target string, more ...string) (*clients.Raw, string) {
	t.Helper()
	c := s.dial(t, clients.Trust(s.pki.Roots(), name))
	if _, err := io.WriteString(c, clients.OddHead(name, target, more...)); err != nil {
		t.Fatal(err)
	}
	reply, err := c.Head()
	if err != nil {
		t.Fatalf("%s: %v after %q", target, err, reply)
	}
	return c, string(reply)
}

func wantFrame(t *testing.T, c *clients.Raw, fin bool, op frames.Opcode, payload string) {
	t.Helper()
	h, got, err := c.Frame()
	if err != nil || h.Fin != fin || h.Opcode != op || string(got) != payload {
		t.Fatalf("got fin=%v %s %.60q (%v), want fin=%v %s %.60q", h.Fin, h.Opcode, got, err, fin, op, payload)
	}
}

// wantSame compares both ends' records of one connection that is over.
func (s *site) wantSame(t *testing.T, c *clients.Raw, uri string) *origin.Conn {
	t.Helper()
	o, err := s.Find(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	<-o.Done()
	for _, pair := range []struct {
		what      string
		sent, got []byte
	}{
		{"plaintext to server", c.Sent(), o.Received()},
		{"plaintext to client", o.Sent(), c.Received()},
		{"network to server", c.Net.Sent(), o.Net.Received()},
		{"network to client", o.Net.Sent(), c.Net.Received()},
	} {
		if !bytes.Equal(pair.sent, pair.got) {
			t.Errorf("%s: %d bytes sent, %d received", pair.what, len(pair.sent), len(pair.got))
		}
	}
	return o
}

func TestEchoKeepsFragments(t *testing.T) {
	s := start(t)
	c, reply := s.upgraded(t, "/echo?fragments")
	if !strings.HasPrefix(reply, "HTTP/1.1 101 ") || !strings.Contains(reply, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
		t.Fatalf("reply %q", reply) // the key and its answer are those of RFC 6455, Section 1.3
	}
	long := strings.Repeat("0123456789", 7000)
	for _, f := range []struct {
		fin     bool
		op      frames.Opcode
		payload string
	}{
		{true, frames.Text, "whole"},
		{false, frames.Binary, "a"},
		{false, frames.Continuation, ""},
		{true, frames.Continuation, long},
		{true, frames.Text, ""},
	} {
		if err := c.Send(f.fin, f.op, []byte(f.payload)); err != nil {
			t.Fatal(err)
		}
		wantFrame(t, c, f.fin, f.op, f.payload)
	}
	if err := c.Send(true, frames.Ping, []byte("p")); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, c, true, frames.Pong, "p")
	payload, err := c.Bye(4000, "bye")
	if code, reason, _ := frames.ParseClose(payload); code != 4000 || reason != "bye" || err != nil {
		t.Errorf("close %d %q (%v)", code, reason, err)
	}
	o := s.wantSame(t, c, "fragments")
	if hello := o.Hello(); hello == nil || hello.ServerName != name || !slices.Contains(hello.SupportedProtos, "h2") {
		t.Errorf("hello %+v", hello)
	}
	if o.TLS().NegotiatedProtocol != "http/1.1" || o.Ended() != io.EOF {
		t.Errorf("protocol %q, ended %v", o.TLS().NegotiatedProtocol, o.Ended())
	}
}

func TestHeadComesBack(t *testing.T) {
	s := start(t)
	c, reply := s.upgraded(t, "/head", "X-Last: \x80\xff")
	wantFrame(t, c, true, frames.Binary, clients.OddHead(name, "/head", "X-Last: \x80\xff"))
	wantFrame(t, c, true, frames.Binary, reply)
}

// The upgrade is a later request on its connection, and frames follow its head
// at once.
func TestUpgradeOnKeepAlive(t *testing.T) {
	s := start(t)
	c := s.dial(t, nil)
	get := "GET /plain HTTP/1.1\r\nHost: " + name + "\r\n\r\n"
	ping := frames.AppendFrame(nil, frames.Header{Fin: true, Opcode: frames.Ping, Masked: true}, []byte("early"))
	if _, err := io.WriteString(c, get+clients.OddHead(name, "/head")+string(ping)); err != nil {
		t.Fatal(err)
	}
	if head, err := c.Head(); err != nil || !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		t.Fatalf("%q (%v)", head, err)
	}
	rest, err := c.Head()
	if body, reply, ok := bytes.Cut(rest, []byte("HTTP/1.1 101 ")); err != nil || !ok || string(body) != origin.PlainText || len(reply) == 0 {
		t.Fatalf("%q (%v)", rest, err)
	}
	wantFrame(t, c, true, frames.Binary, clients.OddHead(name, "/head"))
	if _, _, err := c.Frame(); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, c, true, frames.Pong, "early")
}

func TestReplay(t *testing.T) {
	s := start(t)
	for _, set := range traffic.Sets() {
		messages, err := traffic.Load(set)
		if err != nil {
			t.Fatal(err)
		}
		var want []traffic.Message
		expect := 0
		for _, m := range messages {
			if m.Direction == frames.ToClient {
				m.Time = 0
				want = append(want, m)
				if !m.Opcode.IsControl() {
					expect++
				}
			}
		}
		c, _ := s.upgraded(t, "/replay?set="+set)
		got, err := c.Replay(messages, expect)
		if err != nil {
			t.Errorf("%s: %v", set, err)
			continue
		}
		for i := range got {
			got[i].Time = 0
		}
		if !slices.ContainsFunc(want, func(m traffic.Message) bool { return m.Opcode == frames.Close }) {
			got = got[:len(got)-1] // the set has no end of its own
		}
		if !equalMessages(got, want) {
			t.Errorf("%s: %d messages, want %d", set, len(got), len(want))
		}
		s.wantSame(t, c, "set="+set)
	}
	if _, reply := s.upgraded(t, "/replay?set=none"); !strings.HasPrefix(reply, "HTTP/1.1 404 ") {
		t.Errorf("unknown set: %q", reply)
	}
}

func equalMessages(a, b []traffic.Message) bool {
	return slices.EqualFunc(a, b, func(a, b traffic.Message) bool {
		return a.Opcode == b.Opcode && bytes.Equal(a.Payload, b.Payload) && slices.Equal(a.Fragments, b.Fragments)
	})
}

// Close ends everything that is under way, and returns.
func TestCloseEndsAll(t *testing.T) {
	s := start(t)
	c, _ := s.upgraded(t, "/echo")
	idle := s.dial(t, nil)
	banner, err := net.Dial("tcp", s.banner)
	if err != nil {
		t.Fatal(err)
	}
	defer banner.Close()
	io.ReadFull(banner, make([]byte, len(origin.Banner)))
	s.Close()
	for _, r := range []io.Reader{c, idle, banner} {
		if n, err := r.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
	}
}
