// Package wire is what both ends of a test have in common: a TCP connection,
// with or without TLS, that records every byte which crossed it, so that what
// one end sent can be compared with what the other received.
package wire

import (
	"crypto/tls"
	"fmt"
	"net"
)

// A Conn is a recorded connection. Its own methods move and tell of the
// plaintext; Net tells of what was on the network, the same thing without TLS.
// The records outlive the connection.
type Conn struct {
	*Tape
	Net *Tape

	tls *tls.Conn // nil without TLS
	tcp net.Conn
}

// New returns a recorded connection over tcp, which it then owns. over puts TLS
// over the connection that it is given; nil means no TLS.
func New(tcp net.Conn, over func(net.Conn) *tls.Conn) *Conn {
	c := &Conn{Net: Record(tcp), tcp: tcp}
	c.Tape = c.Net
	if over != nil {
		c.tls = over(c.Net)
		c.Tape = Record(c.tls)
	}
	return c
}

// TLS returns the state of the TLS connection; the zero value without TLS.
func (c *Conn) TLS() tls.ConnectionState {
	if c.tls == nil {
		return tls.ConnectionState{}
	}
	return c.tls.ConnectionState()
}

// CloseWrite ends our direction: with a close_notify under TLS, and a FIN.
func (c *Conn) CloseWrite() error {
	if c.tls != nil {
		if err := c.tls.CloseWrite(); err != nil {
			return err
		}
	}
	half, ok := c.tcp.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("%T has no half-close", c.tcp)
	}
	return half.CloseWrite()
}

// Cut closes the connection without a word of TLS: with a FIN, or with an RST
// if there is something unread.
func (c *Conn) Cut() error { return c.tcp.Close() }

// Reset ends the connection with a TCP RST.
func (c *Conn) Reset() error {
	if tcp, ok := c.tcp.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	return c.tcp.Close()
}
