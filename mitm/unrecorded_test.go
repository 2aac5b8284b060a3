package mitm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"framegate/audit"
	"framegate/frames"
)

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

// A WebSocket whose opening cannot be recorded is refused, with an answer that a
// browser can show.
func TestAuditFailsAtUpgrade(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		h := newHub(t, scheme, "", func(p *Proxy) {
			f := &failOnce{Sink: p.Audit}
			f.left.Store(2) // the first is conn.open
			p.Audit = f
		})
		var client net.Conn = h.dial()
		if scheme == "wss" {
			client = tls.Client(client, h.client)
		}
		send(t, client, upgradeRequest)
		if got := readAll(t, client); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
			t.Errorf("answered %q", got)
		}
		client.Close()
		if e := h.ended(1); e.State != audit.StateFailed || !strings.Contains(e.Reason, errDiskFull.Error()) {
			t.Errorf("ended as %s: %s", e.State, e.Reason)
		}
		if n := len(h.ledger.of(audit.WSOpen)); n != 0 {
			t.Errorf("%d records of ws.open", n)
		}
	})
}
