package endtoend

import (
	"bytes"
	"io"
	"net/url"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/wire"
)

const offersHeader = "Sec-WebSocket-Extensions: "

// testExtensions: an answer with an extension that cannot be understood, or
// that was not offered as it was accepted, opens nothing.
func testExtensions(t *testing.T, g *gateway) {
	for i, tt := range []struct{ name, offer, answer, reason string }{
		{"unknown", "x-lab; level=3", "x-lab; level=3", `unknown extension "x-lab"`},
		{"unknown beside deflate", "permessage-deflate, x-lab", "permessage-deflate, x-lab", `unknown extension "x-lab"`},
		{"unknown not offered", "permessage-deflate", "x-lab", `extension "x-lab" was not offered`},
		{"deflate not offered", "x-lab", "permessage-deflate", `extension "permessage-deflate" was not offered`},
		{"nothing offered", "", "permessage-deflate", `extension "permessage-deflate" was not offered`},
		{"twice", "permessage-deflate", "permessage-deflate, permessage-deflate", "accepted twice"},
		{"unknown parameter", "permessage-deflate", "permessage-deflate; odd", `unknown parameter "odd"`},
		{"parameter twice", "permessage-deflate", "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", "more than one"},
		{"bits", "permessage-deflate", "permessage-deflate; server_max_window_bits=16", `invalid value "16"`},
		{"more bits than offered", "permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=11", "over the 10 of the offer"},
		{"client bits not offered", "permessage-deflate", "permessage-deflate; client_max_window_bits=10", "that was not offered"},
		{"not a list", "permessage-deflate", "permessage-deflate; =", "the WebSocket cannot be inspected"},
	} {
		for j, network := range families {
			t.Run(tt.name+" "+network, func(t *testing.T) {
				var more []string
				if tt.offer != "" {
					more = []string{offersHeader + tt.offer}
				}
				c := g.either(t, (i+j)%2 == 0, network, chatHost)
				target := "/deflate?answer=" + url.QueryEscape(tt.answer)
				io.WriteString(c, clients.OddHead(chatHost, target, more...))
				l := checkRefused(t, g, c, 502, tt.reason)
				l.ended(t, audit.StateFailed)
			})
		}
	}
}

// squeezed is a compressed message of a client, in as many frames as there are
// payloads, with the control frames of between after each but the last.
func squeezed(op frames.Opcode, payload []byte, parts int, between ...[]byte) []byte {
	var b []byte
	h := frames.Header{RSV: 4, Opcode: op, Masked: true}
	for ; parts > 0; parts-- {
		n := len(payload) / parts
		h.Fin, h.Mask = parts == 1, [4]byte{0x5e, byte(parts), 0, byte(n)}
		b = frames.AppendFrame(b, h, payload[:n])
		payload = payload[n:]
		h = frames.Header{Opcode: frames.Continuation, Masked: true}
		if parts > 1 {
			b = append(b, bytes.Join(between, nil)...)
		}
	}
	return b
}

// hear reads up to the end of one message, and returns it inflated together with
// the payloads of the control frames in between.
func hear(t *testing.T, c *clients.Raw, in *wire.Inflater) (message string, control []string) {
	t.Helper()
	var payload []byte
	for parts := 0; ; {
		h, b, err := c.Frame()
		switch {
		case err != nil:
			t.Fatalf("after %d frames of a message: %v", parts, err)
		case h.Opcode.IsControl():
			control = append(control, string(b))
			continue
		case (parts == 0) != (h.RSV == 4):
			t.Fatalf("frame %d of a message: %+v", parts, h)
		}
		parts++
		payload = append(payload, b...)
		if h.Fin {
			message, err := in.Inflate(payload)
			if err != nil {
				t.Fatal(err)
			}
			return string(message), control
		}
	}
}

// testDeflateIdentity: with compression, too, what one side sent is byte for
// byte what the other received, fragments and pings between them included, and
// the log has what was said.
func testDeflateIdentity(t *testing.T, g *gateway) {
	big := strings.Repeat("a message that is long but says little ", 3000)
	want := []said{
		{"text", "one message", 1}, {"text", "one message", 1}, {"text", "", 1}, {"binary", big, 1},
		{"text", big, 7}, {"text", "one message in parts", 3}, {"text", "not compressed", 1}, {"text", "one message", 1},
	}
	for i, parameters := range []string{
		"", noTakeover, "; server_max_window_bits=8; client_max_window_bits=8",
		"; server_no_context_takeover; client_max_window_bits=11", "; client_no_context_takeover; server_max_window_bits=15",
	} {
		for j, network := range families {
			t.Run("permessage-deflate"+parameters+" "+network, func(t *testing.T) {
				answer := "permessage-deflate" + parameters
				agreed, err := frames.Agree([]string{"permessage-deflate; client_max_window_bits"}, []string{answer})
				if err != nil {
					t.Fatal(err)
				}
				there, back := agreed[frames.ToServer], agreed[frames.ToClient]
				c := g.either(t, (i+j)%2 == 0, network, chatHost)
				target := "/deflate?identity&answer=" + url.QueryEscape(answer)
				head := clients.OddHead(chatHost, target, offersHeader+"x-lab, permessage-deflate; client_max_window_bits")
				if _, err := c.Upgrade(head); err != nil {
					t.Fatal(err)
				}
				out, in := wire.NewDeflater(there.Takeover, there.Bits), wire.Inflater{NoTakeover: !back.Takeover}
				ping, pong := masked(true, frames.Ping, "still there"), masked(true, frames.Pong, "unasked")
				for _, m := range want {
					op := map[string]frames.Opcode{"text": frames.Text, "binary": frames.Binary}[m.opcode]
					if m.payload == "not compressed" {
						c.Write(masked(true, op, m.payload))
					} else {
						c.Write(squeezed(op, out.Compress([]byte(m.payload)), m.parts, ping, pong))
					}
					message, pongs := hear(t, c, &in)
					if message != m.payload || strings.Join(pongs, "") != strings.Repeat("still there", m.parts-1) {
						t.Errorf("got %.60q and the pongs %q, expected %.60q in %d parts", message, pongs, m.payload, m.parts)
					}
				}
				if answer, err := c.Bye(frames.NormalClosure, "bye"); err != nil || string(answer) != "\x03\xe8bye" {
					t.Fatalf("close: %q (%v)", answer, err)
				}
				server := g.serverSide(t, target)
				finished(t, server)
				same(t, "to the client", server.Sent(), c.Received())
				sameFrames(t, framesOf(t, c.Sent()), framesOf(t, server.Received()))

				l := g.log.of(t, c.LocalAddr())
				compareMessages(t, l.messages("to-server"), want)
				compareMessages(t, l.messages("to-client"), want)
				for _, r := range l.all(audit.WSMessage) {
					if r.Compressed == (r.Dir == "to-server" && r.SHA256 == digest("not compressed")) {
						t.Errorf("compressed: %s", r)
					}
				}
				l.ended(t, audit.StateInspected)
			})
		}
	}
}

// sameFrames compares frames to the bit of their headers; a control frame may
// have overtaken the fragments that it was sent between.
func sameFrames(t *testing.T, sent, received []frame) {
	t.Helper()
	bytesOf := func(list []frame, control bool) []byte {
		var b []byte
		for _, f := range list {
			if f.Opcode.IsControl() == control {
				b = frames.AppendFrame(b, f.Header, f.payload)
			}
		}
		return b
	}
	same(t, "data frames", bytesOf(sent, false), bytesOf(received, false))
	same(t, "control frames", bytesOf(sent, true), bytesOf(received, true))
}
