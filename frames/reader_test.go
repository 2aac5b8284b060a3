package frames

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// An outcome is what a Reader made of a stream, in copies.
type outcome struct {
	messages []Message
	err      *ProtocolError
	rest     int // bytes that were not consumed
}

// read feeds stream to r, as many further bytes at a time as step says, and
// checks what must hold for every call.
func read(t testing.TB, r *Reader, stream []byte, step func() int) outcome {
	t.Helper()
	var o outcome
	for start, end := 0, 0; end < len(stream); {
		end = min(end+step(), len(stream))
		for {
			b := stream[start:end:end]
			m, n, err := r.Next(b)
			if n < 0 || n > len(b) {
				t.Fatalf("consumed %d of %d bytes", n, len(b))
			}
			if err != nil {
				if !errors.As(err, &o.err) {
					t.Fatalf("error %T is not a *ProtocolError", err)
				}
				large := o.err.Code == MessageTooBig
				if n != 0 && !large || !reflect.DeepEqual(m, Message{}) {
					t.Fatalf("error %v with n = %d, message %+v", err, n, m)
				}
				if _, _, again := r.Next(nil); again != err && !(large && again == nil) {
					t.Fatalf("after %v came %v", err, again)
				}
				o.rest = len(stream) - start
				return o
			}
			if n == 0 {
				if m.Wire != nil {
					t.Fatalf("message %+v out of nothing", m)
				}
				if r.Need() <= len(b) {
					t.Fatalf("needs %d bytes, has %d", r.Need(), len(b))
				}
				break
			}
			start += n
			if m.Opcode == Continuation {
				if !reflect.DeepEqual(m, Message{}) || !r.Pending() {
					t.Fatalf("fragment gave %+v, pending %v", m, r.Pending())
				}
				continue
			}
			m.Data = append([]byte{}, m.Data...)
			m.Wire = append([]byte{}, m.Wire...)
			o.messages = append(o.messages, m)
		}
		o.rest = end - start
	}
	return o
}

// atOnce is a step for the whole stream in one piece.
func atOnce() int { return math.MaxInt32 }

// one is a step of a single byte.
func one() int { return 1 }

// frame returns one frame of direction dir, masked if it has to be.
func frame(dir Direction, op Opcode, fin bool, payload string) []byte {
	h := Header{Fin: fin, Opcode: op, Masked: dir == ToServer}
	if h.Masked {
		h.Mask = [4]byte{0xa1, 0x07, 0xfe, 0x5c}
	}
	return AppendFrame(nil, h, []byte(payload))
}

func TestReaderOutcomes(t *testing.T) {
	for _, dir := range []Direction{ToServer, ToClient} {
		t.Run(dir.String(), func(t *testing.T) {
			first := frame(dir, Text, false, "grün")
			ping := frame(dir, Ping, true, "are you there")
			last := frame(dir, Continuation, true, "e Wiese")
			r := NewReader(dir, 1024)

			if m, n, err := r.Next(first); m.Opcode != Continuation || n != len(first) || err != nil || !r.Pending() {
				t.Fatalf("first fragment: %+v, %d, %v, pending %v", m, n, err, r.Pending())
			}
			// The ping overtakes the fragment, and is b itself.
			m, n, err := r.Next(ping)
			if m.Opcode != Ping || string(m.Data) != "are you there" || m.Frames != 1 || n != len(ping) || err != nil {
				t.Fatalf("ping: %+v, %d, %v", m, n, err)
			}
			if &m.Wire[0] != &ping[0] || len(m.Wire) != len(ping) || cap(m.Wire) != len(ping) {
				t.Error("Wire of a single frame is not b[:n]")
			}
			if aliases := &m.Data[0] == &ping[len(ping)-len(m.Data)]; aliases != (dir == ToClient) {
				t.Errorf("Data aliases b: %v", aliases)
			}
			r.Release()
			if !r.Pending() {
				t.Fatal("Release lost the fragments")
			}
			m, n, err = r.Next(last)
			if m.Opcode != Text || string(m.Data) != "grüne Wiese" || m.Frames != 2 || n != len(last) || err != nil || r.Pending() {
				t.Fatalf("last fragment: %+v, %d, %v, pending %v", m, n, err, r.Pending())
			}
			if want := append(bytes.Clone(first), last...); !bytes.Equal(m.Wire, want) {
				t.Errorf("Wire = % x, want % x", m.Wire, want)
			}
			r.Release()
			if r.scratch != nil || r.data != nil || r.wire != nil {
				t.Error("Release left a buffer")
			}
		})
	}
}

func TestReaderNeed(t *testing.T) {
	r := NewReader(ToServer, 1<<20)
	if r.Need() != 2 {
		t.Errorf("new Reader needs %d", r.Need())
	}
	b := AppendFrame(nil, Header{Fin: true, Opcode: Binary, Masked: true}, make([]byte, 300))
	for _, c := range []struct{ have, need int }{{0, 2}, {1, 2}, {2, 8}, {7, 8}, {8, 308}, {307, 308}} {
		if _, n, err := r.Next(b[:c.have]); n != 0 || err != nil || r.Need() != c.need {
			t.Errorf("with %d bytes: n = %d, %v, needs %d, want %d", c.have, n, err, r.Need(), c.need)
		}
	}
	if _, n, err := r.Next(b); n != 308 || err != nil {
		t.Errorf("with all: n = %d, %v", n, err)
	}
}

func TestReaderHold(t *testing.T) {
	const hold = 1000
	tests := []struct {
		name  string
		sizes []int // of the fragments
		ok    bool
	}{
		{"one frame, at the limit", []int{hold}, true},
		{"one frame, over it", []int{hold + 1}, false},
		{"fragments, at the limit", []int{400, 0, 600, 0}, true},
		{"fragments, over it", []int{400, 601}, false},
		{"last fragment over it", []int{hold, 0, 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stream []byte
			for i, size := range tt.sizes {
				op := Continuation
				if i == 0 {
					op = Binary
				}
				stream = append(stream, frame(ToServer, op, i == len(tt.sizes)-1, strings.Repeat("x", size))...)
			}
			o := read(t, NewReader(ToServer, hold), stream, atOnce)
			if tt.ok {
				if o.err != nil || len(o.messages) != 1 || !bytes.Equal(o.messages[0].Wire, stream) {
					t.Errorf("got %v", o.err)
				}
				return
			}
			if o.err == nil || o.err.Code != MessageTooBig || len(o.messages) != 0 {
				t.Errorf("got %v, want 1009", o.err)
			}
		})
	}
}

// The header alone decides, and nothing is allocated for what it claims.
func TestReaderHoldEarly(t *testing.T) {
	huge := Header{Fin: true, Opcode: Binary, Length: math.MaxInt64}.Append(nil)
	r := NewReader(ToClient, math.MaxInt64)
	if o := read(t, r, huge, one); o.err == nil || o.err.Code != MessageTooBig || !bytes.Equal(o.err.Header, huge) {
		t.Errorf("got %v", o.err)
	}

	// A sum that would overflow.
	stream := frame(ToClient, Binary, false, "x")
	rest := Header{Fin: true, Opcode: Continuation, Length: math.MaxInt64}.Append(nil)
	r = NewReader(ToClient, math.MaxInt64)
	if o := read(t, r, append(stream, rest...), one); o.err == nil || o.err.Code != MessageTooBig || !bytes.Equal(o.err.Header, rest) {
		t.Errorf("got %v", o.err)
	}
	if r.data != nil || r.wire != nil {
		t.Error("a failed Reader holds fragments")
	}

	for _, hold := range []int64{0, -1, math.MinInt64} {
		stream := append(frame(ToClient, Text, true, ""), frame(ToClient, Ping, true, "p")...)
		stream = append(stream, frame(ToClient, Text, true, "x")...)
		o := read(t, NewReader(ToClient, hold), stream, atOnce)
		if len(o.messages) != 2 || o.err == nil || o.err.Code != MessageTooBig {
			t.Errorf("hold %d: %d messages, %v", hold, len(o.messages), o.err)
		}
	}
}

func TestReaderFragmentLimit(t *testing.T) {
	flood := func(fragments int) []byte {
		b := frame(ToServer, Text, false, "")
		for range fragments - 2 {
			b = append(b, frame(ToServer, Continuation, false, "")...)
		}
		return append(b, frame(ToServer, Continuation, true, "")...)
	}
	// Twice, since the count is for one message.
	stream := flood(maxFragments)
	o := read(t, NewReader(ToServer, 0), append(stream, stream...), atOnce)
	if o.err != nil || len(o.messages) != 2 || o.messages[1].Frames != maxFragments {
		t.Fatalf("at the limit: %d messages, %v", len(o.messages), o.err)
	}
	o = read(t, NewReader(ToServer, 0), flood(maxFragments+1), atOnce)
	if o.err == nil || o.err.Code != MessageTooBig || len(o.messages) != 0 {
		t.Fatalf("over the limit: %d messages, %v", len(o.messages), o.err)
	}
}

// Control frames inside a message cost nothing that grows with what is held.
func TestReaderPingFlood(t *testing.T) {
	half := strings.Repeat("0123456789abcdef", 1<<15)
	r := NewReader(ToServer, 1<<20)
	if _, _, err := r.Next(frame(ToServer, Binary, false, half)); err != nil {
		t.Fatal(err)
	}
	data, wire := &r.data.b[0], &r.wire.b[0]
	ping := frame(ToServer, Ping, true, "ping")
	for range 500_000 {
		if m, n, err := r.Next(ping); m.Opcode != Ping || n != len(ping) || err != nil {
			t.Fatalf("%+v, %d, %v", m, n, err)
		}
	}
	if &r.data.b[0] != data || &r.wire.b[0] != wire || cap(r.scratch.b) != 1<<minClass {
		t.Error("pings moved the held fragments")
	}
	m, _, err := r.Next(frame(ToServer, Continuation, true, half))
	if err != nil || string(m.Data) != half+half {
		t.Errorf("the message came out wrong: %v", err)
	}
}

// A frame that arrives byte by byte is looked at once.
func TestReaderSlowFrame(t *testing.T) {
	b := frame(ToServer, Binary, true, strings.Repeat("0123456789abcdef", 1<<16))
	r := NewReader(ToServer, 1<<20)
	for i := range b {
		if _, n, err := r.Next(b[:i]); n != 0 || err != nil {
			t.Fatalf("at %d: %d, %v", i, n, err)
		}
	}
	if r.scratch != nil {
		t.Error("a buffer was taken for an incomplete frame")
	}
	if m, n, err := r.Next(b); n != len(b) || err != nil || !strings.HasPrefix(string(m.Data), "0123") {
		t.Errorf("%d, %v", n, err)
	}
}

// Buffers are powers of two: a message may just fill one, or just not.
func TestReaderBufferEdges(t *testing.T) {
	r := NewReader(ToServer, 1<<20)
	for class := minClass; class < 18; class++ {
		for _, size := range []int{1<<class - 1, 1 << class, 1<<class + 1} {
			text := strings.Repeat("x", size)
			stream := frame(ToServer, Text, true, text)
			stream = append(stream, frame(ToServer, Text, false, text[:size/3])...)
			stream = append(stream, frame(ToServer, Continuation, false, text[size/3:size-1])...)
			stream = append(stream, frame(ToServer, Continuation, true, text[size-1:])...)
			o := read(t, r, stream, atOnce)
			if o.err != nil || len(o.messages) != 2 || string(o.messages[0].Data) != text || string(o.messages[1].Data) != text {
				t.Fatalf("size %d: %d messages, %v", size, len(o.messages), o.err)
			}
		}
	}
}

// Two Readers that share the pool do not share bytes.
func TestReadersApart(t *testing.T) {
	a, b := NewReader(ToServer, 1<<16), NewReader(ToServer, 1<<16)
	for i := range 50 {
		size := 1 + i*977%40000
		texts := [2]string{strings.Repeat("a", size), strings.Repeat("b", size)}
		var got [2]Message
		for j, r := range []*Reader{a, b} {
			if i%3 == 0 {
				r.Release()
			}
			r.Next(frame(ToServer, Text, false, texts[j][:size/2]))
			m, _, err := r.Next(frame(ToServer, Continuation, true, texts[j][size/2:]))
			if err != nil {
				t.Fatal(err)
			}
			got[j] = m
		}
		if string(got[0].Data) != texts[0] || string(got[1].Data) != texts[1] {
			t.Fatalf("size %d: messages mixed up", size)
		}
	}
}
