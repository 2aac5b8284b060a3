package endtoend

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"net"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
)

// testNoSNI: a client that dials an address sends no SNI, and gets a leaf for
// the address.
func testNoSNI(t *testing.T, g *gateway) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			addr := g.address(t, network, chatHost, 443).Addr()
			c := g.dial(t, network, chatHost, 443, clients.Trust(g.roots, addr.String()))
			leaf := c.TLS().PeerCertificates[0]
			if err := leaf.VerifyHostname(addr.String()); err != nil || leaf.VerifyHostname(chatHost) != nil {
				t.Errorf("leaf for %v and %v: %v", leaf.DNSNames, leaf.IPAddresses, err)
			}
			l := talk(t, g, c, chatHost, "/echo?no-sni="+network)
			if r := l.one(t, audit.WSOpen); r.SNI != "" || r.Host != chatHost {
				t.Errorf("ws.open: %s", r)
			}
		})
	}
}

// testSplitHello: a ClientHello in one-byte segments, and one in many records.
func testSplitHello(t *testing.T, g *gateway) {
	for name, split := range map[string]func([]byte) [][]byte{
		"segments": func(b []byte) (parts [][]byte) {
			for i := range b {
				parts = append(parts, b[i:i+1])
			}
			return parts
		},
		// RFC 8446, Section 5.1: "Handshake messages MAY be coalesced into a
		// single TLSPlaintext record or fragmented across several records".
		"records": func(b []byte) (parts [][]byte) {
			const size = 50
			for body := b[5:]; len(body) > 0; body = body[min(size, len(body)):] {
				part := body[:min(size, len(body))]
				record := binary.BigEndian.AppendUint16(bytes.Clone(b[:3]), uint16(len(part)))
				parts = append(parts, append(record, part...))
			}
			return parts
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := clients.DialRaw(soon(t), clients.RawOptions{
				Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					tcp, err := g.dialer()(ctx, network, address)
					return &splitConn{Conn: tcp, split: split}, err
				},
				Network: "tcp4", Address: chatHost + ":443", TLS: clients.Trust(g.roots, chatHost),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Cut()
			if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?split="+name)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Bye(frames.NormalClosure, ""); err != nil {
				t.Fatal(err)
			}
			l := g.log.of(t, c.LocalAddr())
			l.ended(t, audit.StateInspected)
			if open := l.one(t, audit.WSOpen); open.SNI != chatHost {
				t.Errorf("sni: %s", open)
			}
		})
	}
}

// A splitConn writes its first bytes in parts.
type splitConn struct {
	net.Conn
	split func([]byte) [][]byte // nil after the first write
}

func (c *splitConn) Write(b []byte) (int, error) {
	if c.split == nil {
		return c.Conn.Write(b)
	}
	parts := c.split(b)
	c.split = nil
	for _, p := range parts {
		if _, err := c.Conn.Write(p); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// CloseWrite is what wire.Conn needs.
func (c *splitConn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// leafOf returns what a server showed, verified or not, and the error of the
// handshake.
func leafOf(c net.Conn, config *tls.Config) (leaf *x509.Certificate, err error) {
	config = config.Clone()
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(s tls.ConnectionState) error {
		leaf = s.PeerCertificates[0]
		return nil
	}
	return leaf, tls.Client(c, config).Handshake()
}
