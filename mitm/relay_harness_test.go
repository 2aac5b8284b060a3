package mitm

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// The key and the answer to it of RFC 6455, Section 1.3.
const (
	sampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

const (
	upgradeRequest = "GET /chat?room=1 HTTP/1.1\r\nHost: " + originName + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + sampleKey + "\r\nSec-WebSocket-Version: 13\r\n\r\n"
	upgradeAnswer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + sampleAccept + "\r\n\r\n"
)

// A peer is one end of a WebSocket in the hands of a test.
type peer struct {
	net.Conn // TLS, or tcp itself
	tcp      *net.TCPConn
	dir      frames.Direction // of what it sends
	t        testing.TB
}

// A socket is an open WebSocket through a gateway.
type socket struct {
	*hub
	client, server *peer
}

// A hub is a gateway with an origin that says yes to every WebSocket.
type hub struct {
	*gateway
	client  *tls.Config // nil without TLS
	answer  string
	servers chan *peer
}

// schemes runs a test over TLS and without.
func schemes(t *testing.T, test func(t *testing.T, scheme string)) {
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			test(t, scheme)
		})
	}
}

func newHub(t testing.TB, scheme, rules string, adjust ...func(*Proxy)) *hub {
	t.Helper()
	return newHubWith(t, scheme, upgradeAnswer, rules, adjust...)
}

// newHubWith is newHub with a server that gives its own answer to the upgrade.
func newHubWith(t testing.TB, scheme, answer, rules string, adjust ...func(*Proxy)) *hub {
	t.Helper()
	h := &hub{answer: answer, servers: make(chan *peer)}
	done := make(chan struct{})
	config := secure("valid")
	o := newOrigin(t, func(c *tap) {
		p := &peer{Conn: c.TCPConn, tcp: c.TCPConn, dir: frames.ToClient, t: t}
		if scheme == "wss" {
			p.Conn = tls.Server(c.TCPConn, config)
		}
		if _, err := readRawHead(p); err != nil {
			return
		}
		io.WriteString(p, answer)
		select {
		case h.servers <- p:
			<-done
		case <-done:
		}
	})
	h.gateway = newGateway(t, o.addr, rules, adjust...)
	if scheme == "wss" {
		h.client = h.trust(originName)
	}
	t.Cleanup(func() { close(done) })
	return h
}

// open opens another WebSocket through the gateway.
func (h *hub) open() *socket {
	h.t.Helper()
	return h.openOn(h.dial())
}

// openOn opens a WebSocket on a connection to the gateway.
func (h *hub) openOn(tcp *net.TCPConn) *socket {
	h.t.Helper()
	client := &peer{Conn: tcp, tcp: tcp, dir: frames.ToServer, t: h.t}
	if h.client != nil {
		client.Conn = tls.Client(tcp, h.client)
	}
	send(h.t, client, with(upgradeRequest, "+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-odd"))
	expect(h.t, client, h.answer)
	return &socket{h, client, <-h.servers}
}

// openSocket opens a WebSocket through a gateway of its own.
func openSocket(t *testing.T, scheme, rules string, adjust ...func(*Proxy)) *socket {
	t.Helper()
	return newHub(t, scheme, rules, adjust...).open()
}

// sides returns the sender and the receiver of a direction.
func (s *socket) sides(dir frames.Direction) (from, to *peer) {
	if dir == frames.ToServer {
		return s.client, s.server
	}
	return s.server, s.client
}

// readRawHead reads an HTTP head and not a byte more.
func readRawHead(c io.Reader) (string, error) {
	var head []byte
	var b [1]byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return string(head), err
		}
		head = append(head, b[0])
	}
	return string(head), nil
}

// frame makes one frame as this peer sends it.
func (p *peer) frame(op frames.Opcode, payload string) string {
	return frameOf(p.dir, true, op, payload)
}

// part makes a fragment that is not the last one.
func (p *peer) part(op frames.Opcode, payload string) string {
	return frameOf(p.dir, false, op, payload)
}

func frameOf(dir frames.Direction, fin bool, op frames.Opcode, payload string) string {
	h := frames.Header{Fin: fin, Opcode: op}
	if dir == frames.ToServer {
		h.Masked, h.Mask = true, [4]byte{0x37, 0xfa, 0x21, 0x3d}
	}
	return string(frames.AppendFrame(nil, h, []byte(payload)))
}

// closing makes a Close frame.
func (p *peer) closing(code frames.Code, reason string) string {
	return p.frame(frames.Close, string(frames.AppendClose(nil, code, reason)))
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p, s); err != nil {
		p.t.Fatalf("%v: %v", p.dir, err)
	}
}

func (p *peer) expect(s string) {
	p.t.Helper()
	expect(p.t, p, s)
}

// read reads one frame, as it came and what it says.
func (p *peer) read() (h frames.Header, payload, raw string) {
	p.t.Helper()
	h, payload, raw, err := readFrame(p)
	if err != nil {
		p.t.Fatalf("read of what is sent %v: %v (after %q)", 1-p.dir, err, raw)
	}
	return h, payload, raw
}

func readFrame(c io.Reader) (h frames.Header, payload, raw string, err error) {
	var b []byte
	for n := 0; n == 0; {
		b = append(b, 0)
		if _, err := io.ReadFull(c, b[len(b)-1:]); err != nil {
			return h, "", string(b[:len(b)-1]), err
		}
		if h, n, err = frames.ConsumeHeader(b); err != nil {
			return h, "", string(b), err
		}
	}
	data := make([]byte, h.Length)
	_, err = io.ReadFull(c, data)
	raw = string(b) + string(data)
	frames.Mask(data, data, h.Mask, 0)
	return h, string(data), raw, err
}

// expectClose reads a Close frame, made by the gateway or by the other peer.
func (p *peer) expectClose(code frames.Code, reason string) {
	p.t.Helper()
	h, payload, _ := p.read()
	c, r, err := frames.ParseClose([]byte(payload))
	if h.Opcode != frames.Close || err != nil || c != code || r != reason {
		p.t.Fatalf("%v frame %d %q (%v), want Close with %d %q", h.Opcode, c, r, err, code, reason)
	}
	if h.Masked != (p.dir == frames.ToClient) {
		p.t.Fatalf("Close frame to %v: masked is %v", p.dir, h.Masked)
	}
}

// expectEnd reads the end of the stream.
func (p *peer) expectEnd() {
	p.t.Helper()
	var b [1]byte
	if n, err := p.Read(b[:]); n != 0 || err != io.EOF {
		p.t.Fatalf("read %q (%v), want the end of what is sent %v", b[:n], err, 1-p.dir)
	}
}

// closeWrite ends what the peer sends, with a close_notify if it speaks TLS.
func (p *peer) closeWrite() {
	p.Conn.(interface{ CloseWrite() error }).CloseWrite()
	p.tcp.CloseWrite()
}

// reset breaks the connection off.
func (p *peer) reset() {
	p.tcp.SetLinger(0)
	p.tcp.Close()
}

// expectReset reads until the connection is broken off.
func (p *peer) expectReset() {
	p.t.Helper()
	if _, err := io.Copy(io.Discard, p.Conn); !isReset(err) {
		p.t.Fatalf("%v, want a reset", err)
	}
}

// finish carries out the closing handshake that the client begins, and waits
// for the end of the connection's records.
func (s *socket) finish() audit.Event {
	s.t.Helper()
	s.client.send(s.client.closing(frames.NormalClosure, ""))
	s.server.expectClose(frames.NormalClosure, "")
	s.server.send(s.server.closing(frames.NormalClosure, ""))
	s.server.closeWrite()
	s.client.expectClose(frames.NormalClosure, "")
	s.client.expectEnd()
	s.client.closeWrite()
	s.server.expectEnd()
	return s.ended(1)
}

// tallyOf is what is to be recorded of data messages that went one way.
func tallyOf(messages ...string) audit.Tally {
	var t audit.Tally
	for _, m := range messages {
		t.Messages++
		t.Bytes += int64(len(m))
		sum := sha256.Sum256([]byte(m))
		t.SHA256 = sha256.Sum256(slices.Concat(t.SHA256[:], sum[:]))
	}
	return t
}

// checkEnd compares the record that closes the connection's entry.
func checkEnd(t *testing.T, e audit.Event, state string, toServer, toClient audit.Tally) {
	t.Helper()
	if e.State != state {
		t.Errorf("ledger state %q (%s), want %q", e.State, e.Reason, state)
	}
	if e.Totals == nil {
		t.Fatal("no totals")
	}
	if want := (audit.Totals{ToServer: toServer, ToClient: toClient}); *e.Totals != want {
		t.Errorf("totals %+v, want %+v", *e.Totals, want)
	}
}

// only returns the only record with this name.
func (g *gateway) only(name string) audit.Event {
	g.t.Helper()
	list := g.ledger.of(name)
	if len(list) != 1 {
		g.t.Fatalf("%d records of %s, want one; there are:\n%s", len(list), name, g.ledger)
	}
	return list[0]
}

// quickly shortens what the relay waits for.
func quickly(p *Proxy) { p.closeWait, p.halfWait = 100*time.Millisecond, 100*time.Millisecond }

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
