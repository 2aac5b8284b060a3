package mitm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// An exchangeConn is the client's side as net/http's server sees it: one head
// after the other, each with its body and not a byte more. An upgrade never
// reaches the server; it looks like the end of the stream.
type exchangeConn struct {
	net.Conn // what the leg carries plaintext by
	leg      *leg
	flow     *flow

	mu       sync.Mutex
	quiet    sync.Cond // the deadline has changed
	deadline time.Time
	head     *requestHead // of the exchange under way
	rest     []byte       // of its bytes, what the server has not read
	body     body
	served   bool // the exchange has reached the handler
	done     bool // the handler is done with it
	over     bool // no exchange may follow this one
	upgrade  *requestHead
	err      error // why there is no next head
	bad      error // what is wrong with a body; the answer to it says so
}

// begin makes head the one of the exchange under way. The server is shown a
// target that it parses in any case; the one that counts is in head.
func (c *exchangeConn) begin(head *requestHead) {
	c.head, c.body, c.served, c.done = head, head.body, false, false
	_, fields, _ := bytes.Cut(head.raw, []byte("\r\n"))
	c.rest = fmt.Appendf(nil, "%s / HTTP/1.%d\r\n%s", head.method, head.minor, fields)
}

// current returns the head of the exchange that the handler begins with. It is
// nil if net/http's server has made out a request where there is none.
func (c *exchangeConn) current() *requestHead {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.served || c.over {
		c.over = true
		return nil
	}
	c.served = true
	return c.head
}

// finished is called when the handler is done with an exchange; whole says
// whether it has seen the end of the body. If not, nobody can tell where
// net/http's server takes the next head to begin, and so there is no next.
func (c *exchangeConn) finished(whole bool) {
	c.mu.Lock()
	c.done = true
	c.over = c.over || !whole || !c.body.done()
	c.mu.Unlock()
}

// ended reports whether no exchange may follow.
func (c *exchangeConn) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// blame says that net/http finds fault with the body that is being read, and
// for which reason; what was found before stands.
func (c *exchangeConn) blame(err error) {
	c.mu.Lock()
	c.bad = cmp.Or(c.bad, err)
	c.mu.Unlock()
}

// fault returns what is wrong with the body that is being read.
func (c *exchangeConn) fault() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bad
}

// ready reports whether the server waits for the next exchange: it has sent
// the last of the answer, and has set the deadline of being idle.
func (c *exchangeConn) ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done && time.Until(c.deadline) > 0
}

// Read implements net.Conn. Of net/http's server one goroutine reads at a time.
func (c *exchangeConn) Read(p []byte) (int, error) {
	if c.ended() {
		return 0, io.EOF
	}
	if len(c.rest) == 0 && c.body.done() {
		if !c.ready() {
			return c.waitForEnd()
		}
		if err := c.nextHead(); err != nil {
			return 0, err
		}
	}
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	if err := c.fault(); err != nil {
		return 0, err
	}
	c.readBodyBy(time.Now().Add(c.flow.proxy.stall))
	n, err := c.leg.Read(p)
	k, bad := c.body.consume(p[:n])
	if errors.Is(err, os.ErrDeadlineExceeded) && c.flow.ctx.Err() == nil && c.readBodyBy(time.Time{}) {
		bad = errStalled
	}
	if bad != nil {
		c.blame(bad)
		return 0, bad // and none of it, or the server would make out a fault of its own
	}
	c.leg.unread(p[k:n])
	c.readBodyBy(time.Time{})
	return k, err
}

// stall is how long an exchange may go without a single byte of a body that is
// being read from the client or written to it. Servers take a minute (nginx's
// client_body_timeout and send_timeout).
const stall = time.Minute

var errStalled = errors.New("the request body does not go on")

// readBodyBy sets the deadline of reading from a body, unless the server has one
// of its own in force, and reports whether it did.
func (c *exchangeConn) readBodyBy(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.IsZero() {
		c.flow.readBy(t)
	}
	return c.deadline.IsZero()
}

// Write implements net.Conn. A client that does not read has an end, too.
func (c *exchangeConn) Write(p []byte) (int, error) {
	c.flow.writeBy(time.Now().Add(c.flow.proxy.stall))
	return c.Conn.Write(p)
}

// nextHead reads the head of the next exchange. Waiting for its first byte is
// being idle; from then on it has the time of any head.
func (c *exchangeConn) nextHead() error {
	if c.upgrade != nil || c.err != nil {
		return io.EOF
	}
	if len(c.leg.back) == 0 {
		var b [1]byte
		n, err := c.Conn.Read(b[:])
		c.leg.unread(b[:n])
		if err != nil {
			return err
		}
	}
	c.hurry()
	head, err := readHead(c.leg, parseRequest)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && c.overdue():
		return err // the server wants its goroutine back
	case err != nil:
		c.err = err
		return io.EOF
	case head.upgrade():
		c.upgrade = head
		return io.EOF
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin(head)
	return nil
}

// hurry sets the deadline of a head, unless the server has called the read off.
func (c *exchangeConn) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.IsZero() || time.Until(c.deadline) > 0 {
		c.flow.readBy(time.Now().Add(c.flow.settings.handshakeTimeout()))
	}
}

// overdue reports whether the deadline that the server set has passed.
func (c *exchangeConn) overdue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.deadline.IsZero() && time.Until(c.deadline) <= 0
}

// waitForEnd is where net/http's server waits, while an answer is under way,
// for the client to go away. What the client sends ahead is kept for later.
func (c *exchangeConn) waitForEnd() (int, error) {
	if len(c.leg.back) == 0 {
		var b [1]byte
		n, err := c.Conn.Read(b[:])
		c.leg.unread(b[:n])
		if err != nil {
			return 0, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.deadline.IsZero() || time.Until(c.deadline) > 0 {
		c.quiet.Wait()
	}
	return 0, os.ErrDeadlineExceeded
}

// SetReadDeadline implements net.Conn.
func (c *exchangeConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.flow.readBy(t)
	c.mu.Unlock()
	c.quiet.Broadcast()
	return nil
}

// SetDeadline implements net.Conn.
func (c *exchangeConn) SetDeadline(t time.Time) error {
	c.leg.wire.SetWriteDeadline(t)
	return c.SetReadDeadline(t)
}

// CloseWrite ends the answers. net/http's server does so, and then waits for a
// moment, where the client has not been read to its end.
func (c *exchangeConn) CloseWrite() error {
	c.leg.closeWrite(true)
	return nil
}

// Close implements net.Conn. The flow closes the socket itself.
func (c *exchangeConn) Close() error {
	return c.SetReadDeadline(time.Unix(1, 0))
}

// oneConn is a listener that accepts one connection and ends with it.
type oneConn struct {
	conn   *exchangeConn
	taken  bool
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return l.conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// An exchangeBody is the body of a request as the transport reads it.
type exchangeBody struct {
	io.ReadCloser
	conn  *exchangeConn
	whole atomic.Bool // its end was seen
}

func (b *exchangeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var network net.Error
	switch {
	case err == io.EOF:
		b.whole.Store(true)
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, http.ErrBodyReadAfterClose) && !errors.As(err, &network):
		b.conn.blame(bad("the HTTP engine refused the body"))
	}
	return n, err
}
