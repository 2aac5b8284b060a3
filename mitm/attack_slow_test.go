package mitm

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// A body that does not go on is given up (R-U-Dead-Yet); one that goes on, however slowly, is not.
func TestAttackSlowBody(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"length": post + "Content-Length: 100\r\n\r\nsome",
		"chunks": chunked + "64\r\nsome",
		"size":   chunked + "6",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := countingOrigin(t)
			g := newGateway(t, o.addr, "", func(p *Proxy) { p.stall = 200 * time.Millisecond })
			c := g.dial()
			send(t, c, head)
			r := newReader(c)
			if status, body := answer(t, r); status != 408 || !strings.HasPrefix(body, "framegate: ") {
				t.Errorf("%d %q", status, body)
			}
			if rest := readAll(t, r); rest != "" {
				t.Errorf("behind the answer: %q", rest)
			}
			c.Close()
			checkRecorded(t, g, g.ended(1), []int{408})
			if got := strictRequests(o.received()); len(got) > 0 {
				t.Errorf("the server sees %q", got)
			}
		})
	}
	t.Run("steady", func(t *testing.T) {
		t.Parallel()
		o := countingOrigin(t)
		g := newGateway(t, o.addr, "", func(p *Proxy) { p.stall, p.Settings().HandshakeTimeout = 2*time.Second, 300*time.Millisecond })
		c := g.dial()
		send(t, c, post+"Content-Length: 6\r\n\r\n")
		for range 6 {
			<-time.After(400 * time.Millisecond)
			send(t, c, "x")
		}
		if status, _ := answer(t, newReader(c)); status != 200 {
			t.Errorf("status %d", status)
		}
	})
}

// Nor does a client that asks and never reads (slow read) stay for ever.
func TestAttackSlowReader(t *testing.T) {
	t.Parallel()
	o := newHTTPOrigin(t, secure("valid"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 64<<10))
		}
	}))
	g := newGateway(t, o.addr, "", func(p *Proxy) { p.stall = 500 * time.Millisecond })
	c := g.dialTLS(g.trust(originName))
	send(t, c, "GET / HTTP/1.1\r\nHost: "+originName+"\r\n\r\n")
	g.ended(1) // and the client is still there
	if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Reason != "the client does not read" {
		t.Errorf("%s", g.ledger)
	}
}

// A head is looked at once however it comes (CVE-2023-43669: a head that came
// in pieces was parsed anew for each).
func TestAttackSlowHead(t *testing.T) {
	t.Parallel()
	s := newStage(t, "ws")
	client := s.connect()
	request := with(upgradeRequest, "+X-Long: "+strings.Repeat("x", maxHead-len(upgradeRequest)-20))
	go func() {
		for i := range request {
			io.WriteString(client, request[i:i+1])
		}
	}()
	server := <-s.servers
	server.expectHead(request)
	server.send(upgradeAnswer)
	client.expect(upgradeAnswer)
	client.closeWrite()
	server.closeWrite()
	s.ended(1)
}

// A ClientHello may come in records of one byte each, up to the size of a
// handshake message (RFC 8446, Section 4), and has no more than its time.
func TestAttackLongHello(t *testing.T) {
	g := newGateway(t, unreachable(t), "")
	c := g.dial()
	var b []byte
	for _, x := range append([]byte{1, 0, 0xff, 0xff, 3, 3}, make([]byte, 0x1ffff)...) {
		b = append(b, 22, 3, 1, 0, 1, x)
	}
	c.Write(b) // which may fail: nobody has to read it to its end
	if got, err := io.ReadAll(c); len(got) > 0 && got[0] != 21 || isTimeout(err) {
		t.Errorf("answered by %x (%v)", got, err)
	}
	if e := g.ended(1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsClientHello) {
		t.Errorf("%+v", e)
	}
}

// memory returns what the heap and the stacks take.
func memory() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what lay in a pool goes with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// A frame that is announced and does not come takes the memory of what has come
// of it, and no other WebSocket is the slower for it.
func TestAttackSlowFrames(t *testing.T) {
	const count, most = 100, 64 << 10 // both ends and the test's own buffers included
	h := newHub(t, "ws", "")
	live := h.open()
	before := memory()
	for range count {
		s := h.open()
		frame := s.client.frame(frames.Binary, strings.Repeat("x", 1<<20))
		s.client.send(frame[:24])
		frame = s.server.frame(frames.Binary, strings.Repeat("x", 1<<20))
		s.server.send(frame[:24])
		live.client.send(live.client.frame(frames.Text, "on"))
		live.server.expect(live.client.frame(frames.Text, "on"))
	}
	each := (memory() - before) / count
	t.Logf("%d bytes for each of %d WebSockets with a frame of 1 MiB under way in either direction", each, count)
	if each > most {
		t.Errorf("%d bytes for each, want at most %d", each, most)
	}
	live.finish()
}

// Over the limit of half-open connections the oldest goes, and who shakes hands
// at once gets through.
func TestAttackHalfOpenOldestGoes(t *testing.T) {
	const limit, flood = 20, 100
	h := newHub(t, "wss", "", func(p *Proxy) { p.Settings().MaxHalfOpen = limit })
	live := h.open()
	var hello []byte
	tls.Client(&helloOnly{hello: &hello}, h.client).Handshake()
	for i := range flood {
		c := h.dial()
		switch i % 3 {
		case 0:
			send(t, c, string(hello[:len(hello)/2]))
		case 1:
			send(t, c, "GET / HTTP/1.1\r\nHo")
		}
		h.ledger.wait(t, audit.ConnOpen, 2+i)
	}
	ended := h.ledger.wait(t, audit.ConnClose, flood-limit)
	for _, e := range ended {
		if e.State != audit.StateFailed || !strings.HasSuffix(e.Reason, errCrowded.Error()) {
			t.Errorf("ended as %s: %s", e.State, e.Reason)
		}
	}
	live.client.send(live.client.frame(frames.Text, "on"))
	live.server.expect(live.client.frame(frames.Text, "on"))
	second := h.open() // takes the place of one more, and gives it back
	second.client.send(second.client.frame(frames.Text, "on"))
	second.server.expect(second.client.frame(frames.Text, "on"))
	h.ledger.wait(t, audit.ConnClose, flood-limit+1)
	if !settles(func() bool {
		h.halfOpen.mu.Lock()
		defer h.halfOpen.mu.Unlock()
		return h.halfOpen.list.Len() == limit-1
	}) {
		t.Errorf("%d are half-open, want %d", h.halfOpen.list.Len(), limit-1)
	}
}

// helloOnly keeps the ClientHello and goes no further.
type helloOnly struct {
	net.Conn
	hello *[]byte
}

func (c *helloOnly) Write(p []byte) (int, error) {
	*c.hello = append(*c.hello, p...)
	return 0, io.ErrClosedPipe
}
func (c *helloOnly) Close() error                     { return nil }
func (c *helloOnly) SetWriteDeadline(time.Time) error { return nil }
