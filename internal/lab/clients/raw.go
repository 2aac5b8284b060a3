package clients

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"

	"framegate/frames"
	"framegate/internal/lab/wire"
)

// maxHead is the largest HTTP head that a Raw takes.
const maxHead = 1 << 20

// RawOptions say where a Raw goes.
type RawOptions struct {
	// Dial makes the TCP connection; nil means that of a zero net.Dialer.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Network string      // "tcp4", "tcp6"; empty means "tcp"
	Address string      // host:port
	TLS     *tls.Config // nil means no TLS; a ServerName that is an IP address sends no SNI
}

// A Raw is a client that does nothing by itself, and keeps a record of what it
// sent and received.
type Raw struct {
	*wire.Conn
	r *bufio.Reader
}

// DialRaw connects and does the TLS handshake. All that happens on the
// connection ends with ctx's deadline.
func DialRaw(ctx context.Context, o RawOptions) (*Raw, error) {
	dial, network := o.Dial, o.Network
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if network == "" {
		network = "tcp"
	}
	tcp, err := dial(ctx, network, o.Address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		tcp.SetDeadline(deadline)
	}
	if o.TLS == nil {
		return newRaw(wire.New(tcp, nil)), nil
	}
	var client *tls.Conn
	conn := wire.New(tcp, func(tcp net.Conn) *tls.Conn {
		client = tls.Client(tcp, o.TLS)
		return client
	})
	if err := client.HandshakeContext(ctx); err != nil {
		conn.Cut()
		return nil, err
	}
	return newRaw(conn), nil
}

func newRaw(c *wire.Conn) *Raw { return &Raw{c, bufio.NewReader(c)} }

// Trust returns a TLS configuration that trusts roots alone and asks for name.
// It offers http/1.1 and h2 as a browser does.
func Trust(roots *x509.CertPool, name string) *tls.Config {
	return &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"h2", "http/1.1"}}
}

// RSAOnly returns a copy of config for a client that cannot do ECDSA. In TLS
// 1.2 the suites say so.
func RSAOnly(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.MaxVersion = tls.VersionTLS12
	config.CipherSuites = []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	return config
}

// OddHead returns a correct upgrade request that is worded as no library would:
// order, case, spacing and doubled headers have to survive on the way to the
// server. more are further header lines.
func OddHead(host, target string, more ...string) string {
	head := "GET " + target + " HTTP/1.1\r\n" +
		"sec-websocket-VERSION:13\r\n" +
		"X-Lab-Twice: one\r\n" +
		"hOsT:   " + host + "\r\n" +
		"UPGRADE: WebSocket\r\n" +
		"x-lab-twice:\ttwo \r\n" +
		"Cookie: a=1; b=\"2\"\r\n" +
		"Connection: keep-alive,  Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"X-Lab-Empty:\r\n"
	for _, line := range more {
		head += line + "\r\n"
	}
	return head + "\r\n"
}

// Head reads an HTTP head up to and including its empty line.
func (c *Raw) Head() ([]byte, error) {
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		line, err := c.r.ReadSlice('\n')
		head = append(head, line...)
		if err != nil && err != bufio.ErrBufferFull {
			return head, err
		}
		if len(head) > maxHead {
			return head, errors.New("head too long")
		}
	}
	return head, nil
}

// Upgrade sends a request head and reads the head of the reply, which it
// expects to be a 101.
func (c *Raw) Upgrade(head string) ([]byte, error) {
	if _, err := io.WriteString(c, head); err != nil {
		return nil, err
	}
	reply, err := c.Head()
	if err == nil && !bytes.HasPrefix(reply, []byte("HTTP/1.1 101 ")) {
		err = fmt.Errorf("no 101 but %.60q", reply)
	}
	return reply, err
}

// Rest reads everything up to the end of the stream.
func (c *Raw) Rest() ([]byte, error) { return io.ReadAll(c.r) }

// Frame reads one frame and returns its payload unmasked.
func (c *Raw) Frame() (frames.Header, []byte, error) { return wire.ReadFrame(c.r) }

// Send sends one masked frame.
func (c *Raw) Send(fin bool, op frames.Opcode, payload []byte) error {
	_, err := c.Write(frames.AppendFrame(nil, frames.Header{Fin: fin, Opcode: op, Masked: true, Mask: newMask()}, payload))
	return err
}

// newMask returns an unpredictable masking key (RFC 6455, Section 5.3).
func newMask() (key [4]byte) {
	rand.Read(key[:])
	return key
}

// Bye does the closing handshake from our side: it sends Close with code, takes
// what still comes, and returns the payload of the other side's Close.
func (c *Raw) Bye(code frames.Code, reason string) ([]byte, error) {
	if err := c.Send(true, frames.Close, frames.AppendClose(nil, code, reason)); err != nil {
		return nil, err
	}
	for {
		h, payload, err := c.Frame()
		if err != nil {
			return nil, err
		}
		if h.Opcode == frames.Close {
			c.Rest()
			return payload, c.Close()
		}
	}
}
