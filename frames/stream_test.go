package frames

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"
)

// generate returns a lawful stream, and the messages that it was made of in
// the order in which they end. It knows the wire format only through
// AppendFrame, and the messages by construction.
func generate(rnd *rand.Rand, dir Direction, messages int, sizes []int) (stream []byte, want []Message) {
	add := func(op Opcode, fin bool, payload []byte) []byte {
		h := Header{Fin: fin, Opcode: op, Masked: dir == ToServer}
		for i := range h.Mask {
			if h.Masked {
				h.Mask[i] = byte(rnd.Uint32())
			}
		}
		start := len(stream)
		stream = AppendFrame(stream, h, payload)
		return bytes.Clone(stream[start:])
	}
	control := func() {
		op, payload := Ping+Opcode(rnd.IntN(2)), text(rnd, rnd.IntN(maxControl+1))
		want = append(want, Message{Opcode: op, Data: payload, Wire: add(op, true, payload), Frames: 1})
	}
	for range messages {
		if rnd.IntN(4) == 0 {
			control()
		}
		size := sizes[rnd.IntN(len(sizes))]
		m := Message{Opcode: Text, Data: text(rnd, size), Wire: []byte{}}
		if rnd.IntN(2) == 0 {
			m.Opcode = Binary
			for i := range m.Data {
				m.Data[i] = byte(rnd.Uint32())
			}
		}
		op, rest := m.Opcode, m.Data
		for fragments := 1 + rnd.IntN(4); fragments > 0; fragments-- {
			n := len(rest)
			if fragments > 1 {
				n = rnd.IntN(n + 1) // also none, also within a character
			}
			m.Wire = append(m.Wire, add(op, fragments == 1, rest[:n])...)
			m.Frames++
			op, rest = Continuation, rest[n:]
			if fragments > 1 && rnd.IntN(3) == 0 {
				control()
			}
		}
		want = append(want, m)
	}
	payload := AppendClose([]byte{}, GoingAway, "that was all")
	want = append(want, Message{Opcode: Close, Data: payload, Wire: add(Close, true, payload), Frames: 1})
	return stream, want
}

// text returns size bytes of UTF-8 with characters of one to four bytes.
func text(rnd *rand.Rand, size int) []byte {
	b := make([]byte, 0, size)
	for len(b) < size {
		c := []string{"a", "é", "€", "🙂"}[rnd.IntN(4)]
		if len(b)+len(c) > size {
			c = "z"
		}
		b = append(b, c...)
	}
	return b
}

func TestGeneratedStreams(t *testing.T) {
	sizes := []int{0, 1, 2, 7, 31, 32, 33, 124, 125, 126, 127, 128, 300, 1000, 65534, 65535, 65536, 70000}
	for seed := range uint64(40) {
		for _, dir := range []Direction{ToServer, ToClient} {
			rnd := rand.New(rand.NewPCG(seed, 64))
			stream, want := generate(rnd, dir, 20, sizes)
			r := NewReader(dir, 70000)
			o := read(t, r, stream, func() int {
				if rnd.IntN(5) == 0 {
					r.Release() // between calls, also inside a message
				}
				return 1 + rnd.IntN(1<<rnd.IntN(18))
			})
			if o.err != nil || o.rest != 0 || !reflect.DeepEqual(o.messages, want) {
				t.Fatalf("seed %d, %v: %d messages of %d, %d bytes left, %v", seed, dir, len(o.messages), len(want), o.rest, o.err)
			}
		}
	}
}

// Where a stream is cut into reads makes no difference.
func TestCutAnywhere(t *testing.T) {
	for seed := range uint64(4) {
		for _, dir := range []Direction{ToServer, ToClient} {
			stream, want := generate(rand.New(rand.NewPCG(seed, 7)), dir, 12, []int{0, 1, 5, 40, 125, 126, 200})
			if o := read(t, NewReader(dir, 200), stream, one); o.err != nil || !reflect.DeepEqual(o.messages, want) {
				t.Fatalf("seed %d, %v, byte by byte: %v", seed, dir, o.err)
			}
			for cut := range stream {
				first := true
				o := read(t, NewReader(dir, 200), stream, func() int {
					if first {
						first = false
						return cut
					}
					return len(stream)
				})
				if o.err != nil || o.rest != 0 || !reflect.DeepEqual(o.messages, want) {
					t.Fatalf("seed %d, %v, cut at %d: %v", seed, dir, cut, o.err)
				}
			}
		}
	}
}

// What goes in comes out: with no control frame inside a message, the Wire of
// all messages is the stream.
func TestWireIsStream(t *testing.T) {
	for _, dir := range []Direction{ToServer, ToClient} {
		var stream []byte
		for _, f := range []struct {
			op      Opcode
			fin     bool
			payload string
		}{
			{Ping, true, "1"}, {Text, false, "2"}, {Continuation, false, ""}, {Continuation, true, "4"},
			{Binary, true, "5"}, {Pong, true, "6"}, {Binary, false, ""}, {Continuation, true, ""}, {Close, true, ""},
		} {
			stream = append(stream, frame(dir, f.op, f.fin, f.payload)...)
		}
		var wire []byte
		o := read(t, NewReader(dir, 100), stream, one)
		for _, m := range o.messages {
			wire = append(wire, m.Wire...)
		}
		if o.err != nil || len(o.messages) != 6 || !bytes.Equal(wire, stream) {
			t.Errorf("%v: % x became % x, %v", dir, stream, wire, o.err)
		}
	}
}
