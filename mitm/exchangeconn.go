package mitm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// An exchangeConn is the client's side as net/http's server sees it: one head
// after the other, each with its body and not a byte more. An upgrade never
// reaches the server; it looks like the end of the stream.
type exchangeConn struct {
	net.Conn // what the leg carries plaintext by
	leg      *leg
	flow     *flow
	onClose  func()

	mu       sync.Mutex
	quiet    sync.Cond // the deadline has changed
	deadline time.Time
	head     *requestHead // of the exchange under way
	rest     []byte       // of its bytes, what the server has not read
	body     body
	done     bool // the exchange was answered
	upgrade  *requestHead
	err      error
}

// begin makes head the one of the exchange under way. The server is shown a
// target that it parses in any case; the one that counts is in head.
func (c *exchangeConn) begin(head *requestHead) {
	c.head, c.body, c.done = head, head.body, false
	_, fields, _ := bytes.Cut(head.raw, []byte("\r\n"))
	c.rest = fmt.Appendf(nil, "%s / HTTP/1.%d\r\n%s", head.method, head.minor, fields)
}

func (c *exchangeConn) current() *requestHead {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head
}

// finished is called when an exchange was answered: the next head may be read.
func (c *exchangeConn) finished() {
	c.mu.Lock()
	c.done = true
	c.mu.Unlock()
}

// Read implements net.Conn.
func (c *exchangeConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if len(c.rest) == 0 && c.body.done() {
		if !c.done {
			c.mu.Unlock()
			return c.waitForEnd()
		}
		c.mu.Unlock()
		if err := c.nextHead(); err != nil {
			return 0, err
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.leg.Read(p)
	k, berr := c.body.consume(p[:n])
	c.leg.unread(p[k:n])
	if berr != nil {
		c.err = berr
		return k, berr
	}
	return k, err
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
		c.hurry()
	}
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
		c.leg.wire.SetReadDeadline(time.Now().Add(c.flow.proxy.handshakeTimeout()))
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
	err := c.leg.wire.SetReadDeadline(t)
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	c.quiet.Broadcast()
	return err
}

// SetDeadline implements net.Conn.
func (c *exchangeConn) SetDeadline(t time.Time) error {
	c.leg.wire.SetWriteDeadline(t)
	return c.SetReadDeadline(t)
}

// Close implements net.Conn. The flow closes the socket itself.
func (c *exchangeConn) Close() error {
	c.SetReadDeadline(time.Unix(1, 0))
	c.onClose()
	return nil
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
