package endtoend

import (
	"bufio"
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"io"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/wire"
)

// A frame is one as it was on the wire, and its payload unmasked.
type frame struct {
	frames.Header
	payload []byte
}

// framesOf parses what follows the HTTP head in one direction.
func framesOf(t *testing.T, stream []byte) []frame {
	t.Helper()
	_, rest, ok := bytes.Cut(stream, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("no head in %.200q", stream)
	}
	var list []frame
	for r := bufio.NewReader(bytes.NewReader(rest)); ; {
		h, payload, err := wire.ReadFrame(r)
		switch {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatalf("after %d frames: %v", len(list), err)
		}
		list = append(list, frame{h, payload})
	}
}

// masked is one frame of a client.
func masked(fin bool, op frames.Opcode, payload string) []byte {
	h := frames.Header{Fin: fin, Opcode: op, Masked: true, Mask: [4]byte{0xa1, 0x0b, 0, byte(len(payload))}}
	return frames.AppendFrame(nil, h, []byte(payload))
}

// testIdentity: what one side sent is byte for byte what the other received,
// heads and frames, under each kind of TLS and without.
func testIdentity(t *testing.T, g *gateway) {
	tls12 := clients.Trust(g.roots, chatHost)
	tls12.MaxVersion = tls.VersionTLS12
	tls13 := clients.Trust(g.roots, chatHost)
	tls13.MinVersion = tls.VersionTLS13
	for _, tt := range []struct {
		name    string
		host    string
		config  *tls.Config
		version uint16
		rsa     bool
	}{
		{"tls13", chatHost, tls13, tls.VersionTLS13, false},
		{"tls12", chatHost, tls12, tls.VersionTLS12, false},
		{"rsa", rsaHost, clients.RSAOnly(clients.Trust(g.roots, rsaHost)), tls.VersionTLS12, true},
		{"plain", chatHost, nil, 0, false},
	} {
		for _, network := range families {
			t.Run(tt.name+" "+network, func(t *testing.T) {
				port := uint16(443)
				if tt.config == nil {
					port = 80
				}
				c := g.dial(t, network, tt.host, port, tt.config)
				if tt.config != nil {
					state := c.TLS()
					_, rsaKey := state.PeerCertificates[0].PublicKey.(*rsa.PublicKey)
					if state.Version != tt.version || rsaKey != tt.rsa || state.NegotiatedProtocol != "http/1.1" {
						t.Errorf("version %x, RSA %v, protocol %q", state.Version, rsaKey, state.NegotiatedProtocol)
					}
				}
				talk(t, g, c, tt.host, "/echo?identity="+tt.name+network)
			})
		}
	}
}

// talk upgrades with an odd head, early frames in the same write, fragments and
// pings, closes, and compares all bytes of both legs.
func talk(t *testing.T, g *gateway, c *clients.Raw, host, target string) ledger {
	t.Helper()
	big := string(bytes.Repeat([]byte{0, 0xff, 'x'}, 30000))
	early := bytes.Join([][]byte{
		masked(true, frames.Text, "early"),
		masked(true, frames.Ping, "early ping"),
		masked(true, frames.Binary, big),
		masked(false, frames.Text, "in "),
		masked(false, frames.Continuation, ""),
		masked(true, frames.Continuation, "parts"),
		masked(true, frames.Text, ""),
	}, nil)
	head := clients.OddHead(host, target, "Origin: https://"+host)
	if _, err := c.Upgrade(head + string(early)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"early", "early ping", big, "in ", "", "parts", ""} {
		if _, got, err := c.Frame(); err != nil || string(got) != want {
			t.Fatalf("got %.60q (%v), expected %.60q", got, err, want)
		}
	}
	if err := c.Send(true, frames.Pong, []byte("unasked")); err != nil {
		t.Fatal(err)
	}
	if answer, err := c.Bye(frames.NormalClosure, "bye"); err != nil || string(answer) != "\x03\xe8bye" {
		t.Fatalf("close: %q (%v)", answer, err)
	}
	server := g.serverSide(t, target)
	finished(t, server)
	same(t, "to the server", c.Sent(), server.Received())
	same(t, "to the client", server.Sent(), c.Received())
	if c.Ended() != io.EOF || server.Ended() != io.EOF {
		t.Errorf("ended with %v at the client, %v at the server", c.Ended(), server.Ended())
	}
	l := g.log.of(t, c.LocalAddr())
	want := []said{{"text", "early", 1}, {"binary", big, 1}, {"text", "in parts", 3}, {"text", "", 1}}
	compareMessages(t, l.messages("to-server"), want)
	compareMessages(t, l.messages("to-client"), want)
	l.ended(t, audit.StateInspected)
	return l
}

// same compares what was sent with what was received.
func same(t *testing.T, where string, sent, received []byte) {
	t.Helper()
	if !bytes.Equal(sent, received) {
		at := 0
		for at < min(len(sent), len(received)) && sent[at] == received[at] {
			at++
		}
		t.Errorf("%s: %d bytes sent, %d received, different from byte %d: %.60q and %.60q",
			where, len(sent), len(received), at, sent[at:], received[at:])
	}
}

// testPingInFragments: a ping inside a fragmented message does not wait for its
// end, and no frame is changed.
func testPingInFragments(t *testing.T, g *gateway) {
	c := g.wss(t, "tcp6", chatHost)
	const target = "/echo?ping-in-fragments"
	if _, err := c.Upgrade(clients.OddHead(chatHost, target)); err != nil {
		t.Fatal(err)
	}
	c.Write(masked(false, frames.Text, "first "))
	c.Write(masked(true, frames.Ping, "still there"))
	// The pong comes although the message is not whole.
	if h, payload, err := c.Frame(); err != nil || h.Opcode != frames.Pong || string(payload) != "still there" {
		t.Fatalf("%v %q (%v)", h.Opcode, payload, err)
	}
	c.Write(masked(true, frames.Continuation, "second"))
	for _, want := range []string{"first ", "second"} {
		if _, payload, err := c.Frame(); err != nil || string(payload) != want {
			t.Fatalf("%q (%v), expected %q", payload, err, want)
		}
	}
	if _, err := c.Bye(frames.NormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	server := g.serverSide(t, target)
	finished(t, server)
	head := clients.OddHead(chatHost, target)
	want := bytes.Join([][]byte{[]byte(head), masked(true, frames.Ping, "still there"),
		masked(false, frames.Text, "first "), masked(true, frames.Continuation, "second")}, nil)
	same(t, "to the server", want, server.Received()[:len(want)])
	compareMessages(t, g.log.of(t, c.LocalAddr()).messages("to-server"), []said{{"text", "first second", 2}})
}
