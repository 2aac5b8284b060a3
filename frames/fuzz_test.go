package frames

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// Seeds are in testdata/fuzz, one file each, and run with every go test.

func FuzzHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ConsumeHeader(b)
		switch {
		case err != nil:
			var e *ProtocolError
			if n != 0 || h != (Header{}) || !errors.As(err, &e) || !bytes.HasPrefix(b, e.Header) || len(e.Header) != headerLength(b) {
				t.Fatalf("% x: %+v, %d, %+v", b, h, n, err)
			}
		case n == 0:
			if h != (Header{}) || len(b) >= headerLength(b) || len(b) >= maxHeader {
				t.Fatalf("% x: not enough for %+v", b, h)
			}
		default:
			if got := h.Append(nil); !bytes.Equal(got, b[:n]) {
				t.Fatalf("% x became % x", b[:n], got)
			}
			for i := range n {
				if _, m, err := ConsumeHeader(b[:i]); m != 0 || err != nil {
					t.Fatalf("% x: %d, %v", b[:i], m, err)
				}
			}
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte, toClient bool, hold uint16, cuts uint64) {
		dir := ToServer
		if toClient {
			dir = ToClient
		}
		whole := read(t, NewReader(dir, int64(hold)), stream, atOnce)

		// Cut anywhere it is the same.
		rnd := rand.New(rand.NewPCG(cuts, 0))
		r := NewReader(dir, int64(hold))
		cut := read(t, r, stream, func() int {
			if rnd.IntN(8) == 0 {
				r.Release()
			}
			return 1 + rnd.IntN(1<<rnd.IntN(8))
		})
		if !reflect.DeepEqual(whole, cut) {
			t.Fatalf("at once %+v\nin pieces %+v", whole, cut)
		}

		wire := 0
		for _, m := range whole.messages {
			wire += len(m.Wire)
			if !m.Opcode.IsControl() && len(m.Data) > int(hold) {
				t.Fatalf("%d bytes of data, hold is %d", len(m.Data), hold)
			}
			// Wire is that message, and no other.
			again := read(t, NewReader(dir, int64(hold)), m.Wire, atOnce)
			if again.err != nil || again.rest != 0 || !reflect.DeepEqual(again.messages, []Message{m}) {
				t.Fatalf("% x is %+v, was %+v", m.Wire, again, m)
			}
		}
		if wire+whole.rest > len(stream) {
			t.Fatalf("%d bytes in messages and %d left of %d", wire, whole.rest, len(stream))
		}
	})
}

func FuzzDeflateReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte, toClient, takeover bool, bits uint8, hold uint16, cuts uint64) {
		dir := ToServer
		if toClient {
			dir = ToClient
		}
		reader := func() *Reader {
			return deflateReader(dir, int64(hold), Context{Takeover: takeover, Bits: minWindowBits + int(bits%8)})
		}
		whole := read(t, reader(), stream, atOnce)

		// Cut anywhere it is the same.
		rnd := rand.New(rand.NewPCG(cuts, 0))
		r := reader()
		cut := read(t, r, stream, func() int {
			if rnd.IntN(8) == 0 {
				r.Release()
			}
			return 1 + rnd.IntN(1<<rnd.IntN(8))
		})
		if !reflect.DeepEqual(whole, cut) {
			t.Fatalf("at once %+v\nin pieces %+v", whole, cut)
		}

		var wire []byte
		for _, m := range whole.messages {
			wire = append(wire, m.Wire...)
			if !m.Opcode.IsControl() && len(m.Data) > int(hold) {
				t.Fatalf("%d bytes of data, hold is %d", len(m.Data), hold)
			}
			if m.Compressed != (m.Wire[0]&(rsv1<<4) != 0) {
				t.Fatalf("% x: compressed %v", m.Wire, m.Compressed)
			}
		}
		if len(wire)+whole.rest > len(stream) {
			t.Fatalf("%d bytes in messages and %d left of %d", len(wire), whole.rest, len(stream))
		}
		// What is forwarded is read by the receiver as it was read here.
		again := read(t, reader(), wire, atOnce)
		if again.err != nil || again.rest != 0 || !reflect.DeepEqual(again.messages, whole.messages) {
			t.Fatalf("% x is %+v, was %+v", wire, again, whole.messages)
		}
		// The extension changes nothing where no message makes use of it.
		if plain := read(t, NewReader(dir, int64(hold)), stream, atOnce); plain.err == nil && !reflect.DeepEqual(plain, whole) {
			t.Fatalf("%+v, without permessage-deflate %+v", whole, plain)
		}
	})
}

func FuzzClose(f *testing.F) {
	f.Fuzz(func(t *testing.T, payload []byte, code uint16) {
		if c, reason, err := ParseClose(payload); err == nil && len(payload) <= maxControl {
			if got := AppendClose(nil, c, reason); !bytes.Equal(got, payload) {
				t.Fatalf("% x became % x", payload, got)
			}
		}
		// Whatever is asked for, what comes out may be sent.
		p := AppendClose(nil, Code(code), string(payload))
		c, _, err := ParseClose(p)
		if len(p) > maxControl || err != nil || Code(code).Valid() != (c == Code(code)) && code != uint16(NoStatus) {
			t.Fatalf("%d %q gave % x: %d, %v", code, payload, p, c, err)
		}
	})
}

// A fuzz target without seeds would test next to nothing, and not say so.
func TestFuzzSeeds(t *testing.T) {
	for _, target := range []string{"FuzzHeader", "FuzzReader", "FuzzDeflateReader", "FuzzClose"} {
		if seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", target)); err != nil || len(seeds) < 5 {
			t.Errorf("%s has %d seeds: %v", target, len(seeds), err)
		}
	}
}
