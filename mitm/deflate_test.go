package mitm

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
)

// A deflater compresses the messages of one direction (RFC 7692, Section 7.2.1).
type deflater struct {
	t        *testing.T
	takeover bool
	out      bytes.Buffer
	w        *flate.Writer
}

func newDeflater(t *testing.T, takeover bool) *deflater {
	d := &deflater{t: t, takeover: takeover}
	d.w, _ = flate.NewWriter(&d.out, flate.BestCompression)
	return d
}

func (d *deflater) compress(text string) string {
	d.out.Reset()
	if !d.takeover {
		d.w.Reset(&d.out)
	}
	if _, err := d.w.Write([]byte(text)); err != nil {
		d.t.Fatal(err)
	}
	d.w.Flush()
	return strings.TrimSuffix(d.out.String(), "\x00\x00\xff\xff")
}

// compressed is a frame with RSV1.
func compressed(dir frames.Direction, fin bool, op frames.Opcode, payload string) string {
	h := frames.Header{Fin: fin, RSV: 4, Opcode: op, Masked: dir == frames.ToServer}
	if h.Masked {
		rand.Read(h.Mask[:])
	}
	return string(frames.AppendFrame(nil, h, []byte(payload)))
}

// openDeflate opens a WebSocket on which permessage-deflate was agreed on.
func openDeflate(t *testing.T, scheme, parameters string, adjust ...func(*Proxy)) *socket {
	t.Helper()
	answer := with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate"+parameters)
	return newHubWith(t, scheme, answer, rules, adjust...).open()
}

// parameters agrees on context takeover for both directions, or on none.
func parameters(takeover bool) string {
	if takeover {
		return ""
	}
	return "; server_no_context_takeover; client_no_context_takeover"
}

const long = `{"type":"ticker","sequence":%,"product":"BTC-USD","price":"6000.01","side":"buy"}`

func message(i int) string { return strings.ReplaceAll(long, "%", strings.Repeat("7", i%5+1)) }

// Compressed messages pass as they came, whatever their fragments, and are
// judged and recorded by what they say.
func TestDeflateIdentity(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for _, takeover := range []bool{true, false} {
			s := openDeflate(t, scheme, parameters(takeover))
			for dir := range frames.Direction(2) {
				from, to := s.sides(dir)
				d := newDeflater(t, takeover)
				var sent []string
				for i := range 40 {
					text := message(i)
					c := d.compress(text)
					switch i % 4 {
					case 0, 1:
						sent = append(sent, compressed(dir, true, frames.Text, c))
					case 2: // fragmented
						sent = append(sent, compressed(dir, false, frames.Text, c[:1])+
							from.part(frames.Continuation, "")+from.frame(frames.Continuation, c[1:]))
					case 3: // and one in between that is not compressed
						sent = append(sent, compressed(dir, true, frames.Binary, c)+from.frame(frames.Text, text))
					}
				}
				for _, m := range sent {
					from.send(m)
				}
				to.expect(strings.Join(sent, ""))
			}
			s.finish()
			var toServer []audit.Event
			for _, e := range s.ledger.of(audit.WSMessage) {
				if e.Msg.Dir == "to-server" {
					toServer = append(toServer, e)
				}
			}
			if len(toServer) != 50 {
				t.Fatalf("%d messages recorded, sent 50", len(toServer))
			}
			for i := range 3 {
				text := message(i)
				if m := toServer[i].Msg; !m.Compressed || m.Size != int64(len(text)) || m.SHA256 != sha256.Sum256([]byte(text)) {
					t.Errorf("message %d: recorded %+v", i, m)
				}
			}
			if m := toServer[4].Msg; m.Compressed {
				t.Errorf("a message that was not compressed: recorded %+v", m)
			}
		}
	})
}

// After a drop, the receiver's window lacks what later messages build on: with
// context takeover they leave inflated, without it as they came.
func TestDeflateDrop(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		for _, takeover := range []bool{true, false} {
			s := openDeflate(t, scheme, parameters(takeover))
			for dir := range frames.Direction(2) {
				from, to := s.sides(dir)
				d := newDeflater(t, takeover)
				first := compressed(dir, true, frames.Text, d.compress(message(1)))
				dropped := compressed(dir, true, frames.Text, d.compress("a secret of "+message(2)))
				c := d.compress("a part of " + message(3))
				third := compressed(dir, false, frames.Text, c[:3]) + from.frame(frames.Continuation, c[3:])
				plain := from.frame(frames.Binary, "never compressed")
				fourth := compressed(dir, true, frames.Text, d.compress(message(4)))
				from.send(first + dropped + third + plain + fourth)

				to.expect(first)
				if !takeover {
					to.expect(third + plain + fourth)
					continue
				}
				for i, want := range []string{"a part of " + message(3), "never compressed", message(4)} {
					h, payload, raw := to.read()
					if h.RSV != 0 || !h.Fin || payload != want || (h.Opcode == frames.Binary) != (i == 1) || h.Masked != (dir == frames.ToServer) {
						t.Errorf("%v: message %d after the drop: %+v %q, expected %q uncompressed", dir, i, h, payload, want)
					}
					if i == 1 && raw != plain {
						t.Errorf("%v: a message that was not compressed was changed", dir)
					}
				}
			}
			s.finish()
			drops := slices.DeleteFunc(s.ledger.of(audit.WSMessage), func(e audit.Event) bool { return e.Action != "drop" })
			if len(drops) != 2 || !slices.Equal(drops[0].Rules, []string{"no-secret"}) {
				t.Errorf("recorded %d drops: %+v", len(drops), drops)
			}
		}
	})
}

// What cannot be inflated, or inflates to too much, or is marked where it must
// not be, ends the WebSocket with the code that the RFCs name.
func TestDeflateViolations(t *testing.T) {
	for _, v := range []struct {
		name  string
		code  frames.Code
		frame func(dir frames.Direction) string
	}{
		{"corrupt", 1007, func(dir frames.Direction) string { return compressed(dir, true, frames.Text, "\xff\xff\xff") }},
		{"bomb", 1009, func(dir frames.Direction) string {
			return compressed(dir, true, frames.Text, newDeflater(t, true).compress(strings.Repeat("a", 1001)))
		}},
		{"not UTF-8 inside", 1007, func(dir frames.Direction) string {
			return compressed(dir, true, frames.Text, newDeflater(t, true).compress("\xff\xfe"))
		}},
		{"compressed ping", 1002, func(dir frames.Direction) string { return compressed(dir, true, frames.Ping, "") }},
		{"compressed continuation", 1002, func(dir frames.Direction) string {
			return compressed(dir, false, frames.Text, "") + compressed(dir, true, frames.Continuation, "")
		}},
	} {
		for dir := range frames.Direction(2) {
			t.Run(v.name+" "+dir.String(), func(t *testing.T) {
				t.Parallel()
				s := openDeflate(t, "ws", "", func(p *Proxy) { p.Settings().Hold = 1000 })
				from, to := s.sides(dir)
				good := compressed(dir, true, frames.Text, newDeflater(t, true).compress(strings.Repeat("a", 1000)))
				from.send(good)
				to.expect(good)
				from.send(v.frame(dir))
				to.expectClose(frames.GoingAway, "")
				h, payload, _ := from.read()
				if code, _, err := frames.ParseClose([]byte(payload)); h.Opcode != frames.Close || code != v.code || err != nil {
					t.Errorf("the offender got %+v, code %d (%v), expected %d", h, code, err, v.code)
				}
				from.send(from.closing(v.code, ""))
				to.send(to.closing(frames.GoingAway, ""))
				from.Close()
				to.Close()
				s.ended(1)
				if e := s.only(audit.WSViolation); e.Code != int(v.code) || len(e.Evidence) == 0 {
					t.Errorf("recorded %+v", e)
				}
			})
		}
	}
}

// With PassUnknownExtensions, a WebSocket whose frames may mean anything is
// passed through and booked as opaque.
func TestUnknownExtension(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		answer := with(upgradeAnswer, "+Sec-WebSocket-Extensions: x-odd")
		s := newHubWith(t, scheme, answer, rules, func(p *Proxy) { p.Settings().PassUnknownExtensions = true }).open()
		for dir := range frames.Direction(2) {
			from, to := s.sides(dir)
			odd := strings.Repeat("\xff no frame, and a secret ", 10000)
			go from.send(odd)
			to.expect(odd)
		}
		s.client.closeWrite()
		s.server.expectEnd()
		s.server.send("still open")
		s.client.expect("still open")
		s.server.closeWrite()
		s.client.expectEnd()
		if e := s.ended(1); e.State != audit.StateOpaque || e.Totals.ToServer.Bytes != 250000 || e.Totals.ToClient.Bytes != 250010 {
			t.Errorf("ended as %+v, %+v", e, e.Totals)
		}
		if e := s.only(audit.ConnBypass); !strings.Contains(e.Reason, "x-odd") || e.Path == "" {
			t.Errorf("recorded %+v", e)
		}
	})
}
