package frames

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
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

// Taken in parts, a message is what it is when it is held, and what is refused
// when held is refused in parts.
func FuzzStream(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte, toClient, takeover bool, bits uint8, hold uint16, cuts uint64) {
		dir := ToServer
		if toClient {
			dir = ToClient
		}
		c := Context{Takeover: takeover, Bits: minWindowBits + int(bits%8)}
		want, err := arrive(t, deflateReader(dir, 1<<16, c), &looked{}, stream, atOnce)

		rnd := rand.New(rand.NewPCG(cuts, 0))
		r, l := longReader(dir, int64(hold%300), 1<<16, 0, &c)
		got, inParts := arrive(t, r, l, stream, func() int {
			if rnd.IntN(8) == 0 {
				r.Release()
			}
			return 1 + rnd.IntN(1<<rnd.IntN(8))
		})
		if err != nil && inParts == nil {
			t.Fatalf("in parts nothing was refused that is %v", err)
		}
		data := func(list []Message) (data []string) {
			for _, m := range list {
				if !m.Opcode.IsControl() {
					data = append(data, fmt.Sprintf("%v %v %d %x %x", m.Opcode, m.Compressed, m.Frames, m.Data, m.Wire))
				}
			}
			return data
		}
		whole, parts := data(want.messages), data(got.messages)
		if len(parts) > len(whole) || inParts == nil && len(parts) < len(whole) || !slices.Equal(whole[:len(parts)], parts) {
			t.Fatalf("whole %q, %v\nin parts %q, %v", whole, err, parts, inParts)
		}
	})
}

// lawful is what RFC 6455, Section 5.4, allows: T a message of one frame, t the
// first of several, k and K those that continue and end it, c a control frame, X
// a close frame.
var lawful = regexp.MustCompile(`^(?:[cT]|t[ck]*K)*(?:t[ck]*)?X?$`)

func FuzzSequence(f *testing.F) {
	f.Fuzz(func(t *testing.T, headers []byte, toClient, deflate bool) {
		s := sequence{deflate: deflate}
		if toClient {
			s.dir = ToClient
		}
		var so strings.Builder
		for len(headers) >= 2 {
			h := Header{Fin: headers[0]&0x80 != 0, RSV: headers[0] >> 4 & 7, Opcode: Opcode(headers[0] & 15), Masked: headers[1]&0x80 != 0, Length: int64(headers[1] & 0x7f)}
			headers = headers[2:]
			bad := h.Masked == toClient || h.RSV&3 != 0 || h.RSV == 4 && (!deflate || h.Opcode != Text && h.Opcode != Binary)
			kind := "?"
			switch {
			case h.Opcode == Close:
				kind = "X"
				bad = bad || !h.Fin || h.Length > 125
			case h.Opcode == Ping || h.Opcode == Pong:
				kind = "c"
				bad = bad || !h.Fin || h.Length > 125
			case h.Opcode == Continuation && h.Fin:
				kind = "K"
			case h.Opcode == Continuation:
				kind = "k"
			case h.Opcode <= Binary && h.Fin:
				kind = "T"
			case h.Opcode <= Binary:
				kind = "t"
			}
			e := s.check(h)
			if ok := !bad && lawful.MatchString(so.String()+kind); ok != (e == nil) {
				t.Fatalf("after %q, %+v: %v", so.String(), h, e)
			}
			if e != nil {
				if e.Code != ProtocolErrorCode || e.Section == "" || e.Reason == "" {
					t.Fatalf("%+v", e)
				}
				return
			}
			s.advance(h)
			so.WriteString(kind)
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
	for _, target := range []string{"FuzzHeader", "FuzzReader", "FuzzDeflateReader", "FuzzStream", "FuzzSequence", "FuzzClose"} {
		if seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", target)); err != nil || len(seeds) < 5 {
			t.Errorf("%s has %d seeds: %v", target, len(seeds), err)
		}
	}
}
