package ship

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"
)

// Bounds for a peer that hangs. They are not configured: a target that needs
// longer is as good as dead, and what is sent is tried again.
const (
	connectTimeout = 10 * time.Second // with the TLS handshake
	sendTimeout    = 30 * time.Second // for one batch, request or checkpoint
)

// A dialFunc makes the connections of the gateway itself.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// A stream is the connection to a syslog receiver, made again when it breaks.
type stream struct {
	target Target
	dial   dialFunc
	tls    *tls.Config // nil: plain TCP

	conn  net.Conn
	ended chan struct{} // closed when the peer has ended conn
}

// write brings b to the peer's host, or as far as a socket can tell. After an
// error nothing is known of b.
func (s *stream) write(ctx context.Context, b []byte) error {
	if s.conn != nil {
		select {
		case <-s.ended: // else the first write after the end would succeed
			s.close()
		default:
		}
	}
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return err
		}
	}
	s.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	stop := context.AfterFunc(ctx, func() { s.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := s.conn.Write(b); err != nil {
		s.close()
		return err
	}
	return nil
}

func (s *stream) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c, err := s.dial(ctx, "tcp", s.target.addr)
	if err != nil {
		return err
	}
	if s.tls != nil {
		t := tls.Client(c, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return err
		}
		c = t
	}
	s.conn, s.ended = c, make(chan struct{})
	go watch(c, s.ended)
	return nil
}

// watch reads until the peer ends the connection. A receiver says nothing; what
// it says is passed over.
func watch(c net.Conn, ended chan<- struct{}) {
	io.Copy(io.Discard, c)
	close(ended)
}

func (s *stream) close() {
	if s.conn != nil {
		s.conn.SetWriteDeadline(time.Now().Add(time.Second)) // for TLS to say good-bye
		s.conn.Close()
		s.conn = nil
	}
}

// A syslogCarrier sends records to a syslog receiver.
type syslogCarrier struct {
	stream stream
	format *syslogFormat

	of   *batch // that is rendered
	text []byte
}

func (c *syslogCarrier) send(ctx context.Context, b *batch) error {
	if c.of != b {
		text, err := c.format.records(b)
		if err != nil {
			return &refusedError{fmt.Errorf("not records: %w", err), b.count}
		}
		c.of, c.text = b, text
	}
	err := c.stream.write(ctx, c.text)
	if err == nil {
		c.of, c.text = nil, nil
	}
	return err
}

func (c *syslogCarrier) close() { c.stream.close() }

// A syslogPusher sends checkpoints to a syslog receiver.
type syslogPusher struct {
	stream stream
	format *syslogFormat
}

func (p *syslogPusher) push(ctx context.Context, checkpoints [][]byte) (int, error) {
	newest := checkpoints[len(checkpoints)-1]
	b, err := p.format.checkpoint(newest, time.Now())
	if err != nil {
		return 0, err
	}
	return 1, p.stream.write(ctx, b)
}

func (p *syslogPusher) close() { p.stream.close() }
