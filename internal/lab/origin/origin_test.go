package origin_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"reflect"
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

func TestFaultsInTheReply(t *testing.T) {
	s := start(t)
	for _, test := range []struct{ fault, status, has, lacks string }{
		{"accept", "101", "sec-websocket-ACCEPT: ", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{"no-accept", "101", "Upgrade: websocket", "ccept:"},
		{"protocol", "101", "Upgrade: h2c", "websocket\r\n"},
		{"extension", "101", "Sec-WebSocket-Extensions: x-lab-unknown; level=3", "-"},
		{"subprotocol", "101", "Sec-WebSocket-Protocol: lab.not.offered", "lab.v1"},
		{"refuse", "403", "Content-Length: 4", "Upgrade"},
		{"drip", "101", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "-"},
		{"unasked", "101", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "-"},
	} {
		_, reply := s.upgraded(t, "/fault/"+test.fault, "Sec-WebSocket-Protocol: lab.v1, lab.v2")
		if !strings.HasPrefix(reply, "HTTP/1.1 "+test.status+" ") || !strings.Contains(reply, test.has) ||
			test.lacks != "-" && strings.Contains(reply, test.lacks) {
			t.Errorf("%s: %q", test.fault, reply)
		}
	}
	c := s.dial(t, nil)
	if _, err := c.Upgrade("GET /fault/unasked HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Error(err)
	}
	if _, reply := s.upgraded(t, "/nowhere"); !strings.HasPrefix(reply, "HTTP/1.1 404 ") {
		t.Errorf("unknown path: %q", reply)
	}
}

func TestFaultsInTheStream(t *testing.T) {
	s := start(t)
	type outcome struct {
		header  frames.Header
		payload string
	}
	for _, test := range []struct {
		target string
		want   outcome
	}{
		{"early", outcome{frames.Header{Fin: true, Opcode: frames.Text, Length: 5}, "early"}},
		{"early?hex=" + hex.EncodeToString([]byte("\x89\x01x")), outcome{frames.Header{Fin: true, Opcode: frames.Ping, Length: 1}, "x"}},
		{"bytes?hex=" + hex.EncodeToString([]byte("\xf3\x01y")), outcome{frames.Header{Fin: true, RSV: 7, Opcode: 3, Length: 1}, "y"}},
		{"masked", outcome{frames.Header{Fin: true, Opcode: frames.Text, Masked: true, Mask: [4]byte{1, 2, 3, 4}, Length: 6}, "masked"}},
		{"close?code=1005&reason=r", outcome{frames.Header{Fin: true, Opcode: frames.Close, Length: 3}, "\x03\xedr"}},
	} {
		c, _ := s.upgraded(t, "/fault/"+test.target)
		if err := c.Send(true, frames.Text, []byte("go")); err != nil {
			t.Fatal(err)
		}
		h, payload, err := c.Frame()
		if got := (outcome{h, string(payload)}); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v (%v)", test.target, got, err)
		}
	}

	c, _ := s.upgraded(t, "/fault/eof")
	c.Send(true, frames.Text, []byte("go"))
	if rest, err := c.Rest(); len(rest) > 0 || err != nil {
		t.Errorf("eof: %q, %v", rest, err)
	}
	c, _ = s.upgraded(t, "/fault/reset")
	c.Send(true, frames.Text, []byte("go"))
	if rest, err := c.Rest(); len(rest) > 0 || err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("reset: %q, %v", rest, err)
	}
	c, _ = s.upgraded(t, "/fault/half-close")
	c.CloseWrite()
	wantFrame(t, c, true, frames.Text, "late")
	if rest, err := c.Rest(); len(rest) > 0 || err != nil {
		t.Errorf("half-close: %q, %v", rest, err)
	}
	// A reset by the client shows as one in the record.
	c, _ = s.upgraded(t, "/echo?reset")
	c.Reset()
	o, err := s.Find(t.Context(), "/echo?reset")
	if err != nil {
		t.Fatal(err)
	}
	if <-o.Done(); !strings.Contains(o.Ended().Error(), "reset") {
		t.Errorf("ended with %v", o.Ended())
	}
}

func TestEveryFaultIsTested(t *testing.T) {
	tested := []string{
		"accept", "bytes", "close", "drip", "early", "eof", "extension", "half-close", "masked",
		"no-accept", "protocol", "refuse", "reset", "subprotocol", "unasked",
	}
	if got := origin.Faults(); !slices.Equal(got, tested) {
		t.Errorf("faults are %q", got)
	}
}

func TestWeb(t *testing.T) {
	s := start(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: clients.Trust(s.pki.Roots(), name)}}
	defer client.CloseIdleConnections()
	do := func(method, target, body string, headers ...string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.tls+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		reply, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		got, err := io.ReadAll(reply.Body)
		if err != nil {
			t.Fatal(err)
		}
		return reply, string(got)
	}
	if reply, body := do("GET", "/plain", ""); body != origin.PlainText || reply.Header.Get("Etag") != `"lab-1"` {
		t.Errorf("plain: %q", body)
	}
	if reply, body := do("HEAD", "/plain", ""); body != "" || reply.ContentLength != int64(len(origin.PlainText)) {
		t.Errorf("HEAD: %q, length %d", body, reply.ContentLength)
	}
	if reply, body := do("GET", "/chunked", ""); body != "chunk 0\nchunk 1\nchunk 2\n" || reply.Trailer.Get("X-Lab-Trailer") != "the end" ||
		!slices.Equal(reply.TransferEncoding, []string{"chunked"}) {
		t.Errorf("chunked: %q, trailer %v", body, reply.Trailer)
	}
	if _, body := do("POST", "/upload", "body", "Expect", "100-continue"); body != "body" {
		t.Errorf("upload: %q", body)
	}
	if _, body := do("GET", "/events?n=2", ""); body != "id: 0\ndata: event 0\n\nid: 1\ndata: event 1\n\n" {
		t.Errorf("events: %q", body)
	}
	if _, body := do("GET", "/big?size=100001", ""); len(body) != 100001 || body[:3] != "abc" {
		t.Errorf("big: %d bytes", len(body))
	}
	if reply, _ := do("POST", "/result?run=7", "{}"); reply.StatusCode != 204 {
		t.Errorf("result: %s", reply.Status)
	}
	if body, err := s.Result(t.Context(), "7"); string(body) != "{}" || err != nil {
		t.Errorf("result: %q (%v)", body, err)
	}
	for _, target := range []string{"/big?size=x", "/events?n="} {
		if reply, _ := do("GET", target, ""); reply.StatusCode != 400 {
			t.Errorf("%s: %s", target, reply.Status)
		}
	}
	s.HandleHTTP("/more", http.NotFoundHandler())
	if reply, _ := do("GET", "/more", ""); reply.StatusCode != 404 {
		t.Errorf("more: %s", reply.Status)
	}
}

func TestBannerSpeaksFirst(t *testing.T) {
	s := start(t)
	c, err := clients.DialRaw(t.Context(), clients.RawOptions{Address: s.banner})
	if err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, len(origin.Banner))
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != origin.Banner {
		t.Fatalf("%q (%v)", greeting, err)
	}
	io.WriteString(c, "EHLO lab\r\n")
	c.CloseWrite()
	if rest, err := c.Rest(); string(rest) != "EHLO lab\r\n" || err != nil {
		t.Errorf("%q (%v)", rest, err)
	}
}

func TestLeaves(t *testing.T) {
	s := start(t,
		origin.Leaf{Names: []string{"good.test"}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fd88:2::a")}},
		origin.Leaf{Names: []string{"rsa.test"}, Key: origin.RSA2048},
		origin.Leaf{Names: []string{"weak.test"}, Key: origin.RSA1024},
		origin.Leaf{Names: []string{"expired.test"}, Defect: origin.Expired},
		origin.Leaf{Names: []string{"early.test"}, Defect: origin.NotYetValid},
		origin.Leaf{Names: []string{"wrong.test"}, Defect: origin.WrongHost},
		origin.Leaf{Names: []string{"self.test"}, Defect: origin.SelfSigned},
		origin.Leaf{Names: []string{"rogue.test"}, Defect: origin.UntrustedRoot},
	)
	as := func(target any) func(error) bool { return func(err error) bool { return errors.As(err, target) } }
	invalid := func(reason x509.InvalidReason) func(error) bool {
		return func(err error) bool {
			var e x509.CertificateInvalidError
			return errors.As(err, &e) && e.Reason == reason
		}
	}
	ok := func(err error) bool { return err == nil }
	for _, test := range []struct {
		name string
		want func(error) bool
	}{
		{"good.test", ok},
		{"127.0.0.1", ok}, // without SNI
		{"rsa.test", ok},
		{"weak.test", ok},
		{"expired.test", invalid(x509.Expired)},
		{"early.test", invalid(x509.Expired)},
		{"wrong.test", as(new(x509.HostnameError))},
		{"self.test", as(new(x509.UnknownAuthorityError))},
		{"rogue.test", as(new(x509.UnknownAuthorityError))},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := clients.Trust(s.pki.Roots(), test.name)
			config.MinVersion, config.MaxVersion = version, version
			c, err := clients.DialRaw(t.Context(), clients.RawOptions{Address: s.tls, TLS: config})
			if !test.want(err) {
				t.Errorf("%s: %v", test.name, err)
			}
			if err == nil && c.TLS().Version != version {
				t.Errorf("%s: TLS version %x", test.name, c.TLS().Version)
			}
		}
	}
	c := s.dial(t, clients.RSAOnly(clients.Trust(s.pki.Roots(), "rsa.test")))
	if key, ok := c.TLS().PeerCertificates[0].PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() != 2048 {
		t.Errorf("key %T", c.TLS().PeerCertificates[0].PublicKey)
	}
	if _, err := clients.DialRaw(t.Context(), clients.RawOptions{Address: s.tls, TLS: clients.RSAOnly(clients.Trust(s.pki.Roots(), "good.test"))}); err == nil {
		t.Error("a client without ECDSA took an ECDSA leaf")
	}
	if sni := s.Conns()[2].Hello().ServerName; sni != "" {
		t.Errorf("SNI %q for an address", sni)
	}
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
