package frames

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// compressed returns the first or only frame of a compressed message.
func compressed(dir Direction, op Opcode, fin bool, payload string) []byte {
	b := frame(dir, op, fin, payload)
	b[0] |= rsv1 << 4
	return b
}

// deflateReader returns a Reader after UseDeflate.
func deflateReader(dir Direction, hold int64, c Context) *Reader {
	r := NewReader(dir, hold)
	r.UseDeflate(c)
	return r
}

var fullContext = Context{Takeover: true, Bits: maxWindowBits}

const (
	hello   = "\xf2\x48\xcd\xc9\xc9\x07\x00" // Section 7.2.3.1 of RFC 7692
	again   = "\xf2\x00\x11\x00\x00"         // and 7.2.3.2: what hello said
	nothing = "\x00"                         // and 7.2.3.6
)

// framed puts the messages of a direction into frames of every kind, with
// messages that are not compressed in between. Data of a message that is
// compressed is left out of what is returned: only its digest is known.
func framed(dir Direction, messages []deflated) (stream []byte, want []Message) {
	add := func(parts ...[]byte) (wire []byte) {
		wire = slices.Concat(parts...)
		stream = append(stream, wire...)
		return wire
	}
	ping := Message{Opcode: Ping, Data: []byte("in between"), Frames: 1}
	ping.Wire = frame(dir, Ping, true, "in between")
	for i, m := range messages {
		p := string(m.Payload)
		got := Message{Opcode: Binary, Frames: 1, Compressed: true}
		switch i % 4 {
		case 0:
			got.Wire = add(compressed(dir, Binary, true, p))
		case 1: // two fragments, and a ping that overtakes the first
			first, last := compressed(dir, Binary, false, p[:len(p)/2]), frame(dir, Continuation, true, p[len(p)/2:])
			add(first, ping.Wire, last)
			want = append(want, ping)
			got.Frames, got.Wire = 2, slices.Concat(first, last)
		case 2: // empty fragments around all of it
			got.Frames = 3
			got.Wire = add(compressed(dir, Binary, false, ""), frame(dir, Continuation, false, p), frame(dir, Continuation, true, ""))
		case 3:
			plain := Message{Opcode: Text, Data: []byte("as it is"), Wire: add(frame(dir, Text, true, "as it is")), Frames: 1}
			want = append(want, plain)
			got.Wire = add(compressed(dir, Binary, true, p))
		}
		want = append(want, got)
	}
	return stream, want
}

// What zlib made of whole directions, in frames of every kind, wherever the
// stream is cut into reads.
func TestReaderDeflate(t *testing.T) {
	contexts, messages := zlibDirections(t)
	for name, context := range contexts {
		for _, dir := range []Direction{ToServer, ToClient} {
			stream, want := framed(dir, messages[name])
			whole := read(t, deflateReader(dir, 1<<20, context), stream, atOnce)
			if whole.err != nil || whole.rest != 0 || len(whole.messages) != len(want) {
				t.Fatalf("%s, %v: %d messages of %d, %d bytes left, %v", name, dir, len(whole.messages), len(want), whole.rest, whole.err)
			}
			next := 0
			for i, m := range whole.messages {
				if m.Compressed {
					messages[name][next].check(t, name, next, m.Data, nil)
					next++
					m.Data = nil
				}
				if !reflect.DeepEqual(m, want[i]) {
					t.Fatalf("%s, %v: message %d is %+v, want %+v", name, dir, i, m, want[i])
				}
			}
			if next != len(messages[name]) {
				t.Errorf("%s, %v: %d compressed messages of %d", name, dir, next, len(messages[name]))
			}

			r := deflateReader(dir, 1<<20, context)
			calls := 0
			released := func() int {
				if calls++; calls%3 == 0 {
					r.Release()
				}
				return 1
			}
			if o := read(t, r, stream, released); !reflect.DeepEqual(o, whole) {
				t.Errorf("%s, %v, byte by byte: %d messages, %v", name, dir, len(o.messages), o.err)
			}
		}
	}
}

func TestReaderDeflateCutAnywhere(t *testing.T) {
	contexts, messages := zlibDirections(t)
	for _, name := range []string{"default.jsonl", "final.jsonl", "no-takeover.jsonl"} {
		for _, dir := range []Direction{ToServer, ToClient} {
			stream, _ := framed(dir, messages[name][:6])
			whole := read(t, deflateReader(dir, 1<<20, contexts[name]), stream, atOnce)
			for cut := range stream {
				next := cut
				o := read(t, deflateReader(dir, 1<<20, contexts[name]), stream, func() int {
					n := next
					next = len(stream)
					return n
				})
				if o.err != nil || !reflect.DeepEqual(o, whole) {
					t.Fatalf("%s, %v, cut at %d: %d messages, %v", name, dir, cut, len(o.messages), o.err)
				}
			}
		}
	}
}

// A compressed message in any three fragments, with control frames between
// them, is the one that it is in a single frame.
func TestReaderDeflateFragments(t *testing.T) {
	_, messages := zlibDirections(t)
	for _, m := range []deflated{
		messages["default.jsonl"][0],
		{Size: 5, SHA256: digest("Hello"), Payload: []byte(hello)},
		{Size: 0, SHA256: digest(""), Payload: []byte(nothing)},
	} {
		p := string(m.Payload)
		for _, dir := range []Direction{ToServer, ToClient} {
			pong := frame(dir, Pong, true, "\xff")
			r := deflateReader(dir, 1<<16, Context{})
			for i := range len(p) + 1 {
				for j := i; j <= len(p); j++ {
					a, b, c := compressed(dir, Text, false, p[:i]), frame(dir, Continuation, false, p[i:j]), frame(dir, Continuation, true, p[j:])
					o := read(t, r, slices.Concat(a, pong, b, pong, c), atOnce)
					if o.err != nil || len(o.messages) != 3 {
						t.Fatalf("cut at %d and %d: %d messages, %v", i, j, len(o.messages), o.err)
					}
					got := o.messages[2]
					m.check(t, "fragments", i, got.Data, nil)
					if got.Opcode != Text || got.Frames != 3 || !got.Compressed || !bytes.Equal(got.Wire, slices.Concat(a, b, c)) {
						t.Fatalf("cut at %d and %d: %+v", i, j, got)
					}
					if pong := o.messages[0]; pong.Opcode != Pong || pong.Compressed || string(pong.Data) != "\xff" {
						t.Fatalf("cut at %d and %d: %+v", i, j, pong)
					}
				}
			}
		}
	}
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// Every MUST of RFC 7692 that a receiver of frames can see, and of RFC 6455
// on what is inside, with the stream that breaks it and its lawful neighbour.
func TestDeflateMusts(t *testing.T) {
	join := func(frames ...[]byte) []byte { return slices.Concat(frames...) }
	bits := func(b []byte, rsv byte) []byte {
		b[0] = b[0]&0x8f | rsv<<4
		return b
	}
	const notUTF8 = "\xf2\xfa\xff\x0f\x00" // a text of one byte, 0xff
	for _, dir := range []Direction{ToServer, ToClient} {
		for _, tt := range []struct {
			must      string
			good, bad []byte // without an error, and with one in the last frame
			code      Code
			section   string
			reason    string
		}{{
			must: "no compressed ping",
			good: frame(dir, Ping, true, ""), bad: bits(frame(dir, Ping, true, ""), 4),
			code: 1002, section: "RFC 7692, Section 6.1", reason: "ping frame marked as compressed",
		}, {
			must: "no compressed pong, also inside a message",
			good: join(compressed(dir, Text, false, hello), frame(dir, Pong, true, "x"), frame(dir, Continuation, true, "")),
			bad:  join(compressed(dir, Text, false, hello), bits(frame(dir, Pong, true, "x"), 4)),
			code: 1002, section: "RFC 7692, Section 6.1", reason: "pong frame marked as compressed",
		}, {
			must: "no compressed close",
			good: frame(dir, Close, true, "\x03\xe8"), bad: bits(frame(dir, Close, true, "\x03\xe8"), 4),
			code: 1002, section: "RFC 7692, Section 6.1", reason: "close frame marked as compressed",
		}, {
			must: "no bit on a later fragment of a compressed message",
			good: join(compressed(dir, Text, false, hello[:3]), frame(dir, Continuation, true, hello[3:])),
			bad:  join(compressed(dir, Text, false, hello[:3]), bits(frame(dir, Continuation, true, hello[3:]), 4)),
			code: 1002, section: "RFC 7692, Section 6.1", reason: "continuation frame marked as compressed",
		}, {
			must: "no bit on a later fragment of any message",
			good: join(frame(dir, Text, false, "a"), frame(dir, Continuation, true, "b")),
			bad:  join(frame(dir, Text, false, "a"), bits(frame(dir, Continuation, true, "b"), 4)),
			code: 1002, section: "RFC 7692, Section 6.1", reason: "continuation frame marked as compressed",
		}, {
			must: "RSV2 is 0",
			good: compressed(dir, Text, true, hello), bad: bits(frame(dir, Text, true, hello), 4|2),
			code: 1002, section: "RFC 6455, Section 5.2", reason: "reserved bits 010 without an extension",
		}, {
			must: "RSV3 is 0",
			good: compressed(dir, Text, true, hello), bad: bits(frame(dir, Text, true, "x"), 1),
			code: 1002, section: "RFC 6455, Section 5.2", reason: "reserved bits 001 without an extension",
		}, {
			must: "reserved opcodes stay reserved",
			good: compressed(dir, Binary, true, hello), bad: compressed(dir, 3, true, hello),
			code: 1002, section: "RFC 6455, Section 5.2", reason: "reserved opcode 0x3",
		}, {
			must: "messages do not interleave",
			good: join(compressed(dir, Binary, true, hello), compressed(dir, Binary, true, hello)),
			bad:  join(compressed(dir, Binary, false, hello[:2]), compressed(dir, Binary, true, hello)),
			code: 1002, section: "RFC 6455, Section 5.4", reason: "binary frame inside a fragmented message",
		}, {
			must: "the payload is DEFLATE",
			good: join(compressed(dir, Text, true, hello)), bad: compressed(dir, Text, true, "Hello"),
			code: 1007, section: "RFC 7692, Section 7.2.2", reason: "compressed message has a stored block with a wrong length",
		}, {
			must: "it is so in fragments",
			good: join(compressed(dir, Text, false, hello[:1]), frame(dir, Continuation, true, hello[1:])),
			bad:  join(compressed(dir, Text, false, "\x06"), frame(dir, Continuation, true, "")),
			code: 1007, section: "RFC 7692, Section 7.2.2", reason: "compressed message has a block of reserved type",
		}, {
			must: "an empty message has a block, too",
			good: compressed(dir, Text, true, nothing), bad: compressed(dir, Text, true, ""),
			code: 1007, section: "RFC 7692, Section 7.2.2", reason: "compressed message ends within a block",
		}, {
			must: "the tail is cut off",
			good: compressed(dir, Text, true, hello), bad: compressed(dir, Text, true, hello+"\x00\x00\xff\xff"),
			code: 1007, section: "RFC 7692, Section 7.2.2", reason: "compressed message ends within a block",
		}, {
			must: "references stay within what was sent compressed",
			good: join(compressed(dir, Text, true, hello), frame(dir, Text, true, "other"), compressed(dir, Text, true, again)),
			bad:  join(frame(dir, Text, true, "Hello"), compressed(dir, Text, true, again)),
			code: 1007, section: "RFC 7692, Section 7.2.2", reason: "compressed message refers to what was never sent",
		}, {
			must: "text is UTF-8 once it is inflated",
			good: compressed(dir, Binary, true, notUTF8), bad: compressed(dir, Text, true, notUTF8),
			code: 1007, section: "RFC 6455, Section 5.6", reason: "text message is not UTF-8",
		}} {
			for name, step := range map[string]func() int{"at once": atOnce, "byte by byte": one} {
				if o := read(t, deflateReader(dir, 1000, fullContext), tt.good, step); o.err != nil || o.rest != 0 || len(o.messages) == 0 {
					t.Errorf("%s, %v, %s, good: %d messages, %v", tt.must, dir, name, len(o.messages), o.err)
				}
				o := read(t, deflateReader(dir, 1000, fullContext), tt.bad, step)
				if o.err == nil {
					t.Errorf("%s, %v, %s, bad: no error", tt.must, dir, name)
					continue
				}
				if o.err.Code != tt.code || o.err.Section != tt.section || o.err.Reason != tt.reason {
					t.Errorf("%s, %v, %s, bad: got %d, %q, %q", tt.must, dir, name, o.err.Code, o.err.Section, o.err.Reason)
				}
				if last := tt.bad[len(tt.bad)-o.rest:]; !bytes.Equal(o.err.Header, last[:headerLength(last)]) {
					t.Errorf("%s, %v, %s, bad: evidence % x of % x", tt.must, dir, name, o.err.Header, last)
				}
			}
		}

		// Without the extension RSV1 means nothing.
		if o := read(t, NewReader(dir, 1000), compressed(dir, Text, true, hello), one); o.err == nil || o.err.Section != "RFC 6455, Section 5.2" {
			t.Errorf("%v, RSV1 that was not agreed on: %v", dir, o.err)
		}
	}
}

// Without context takeover no message is a reference to another one.
func TestReaderDeflateNoTakeover(t *testing.T) {
	stream := slices.Concat(compressed(ToClient, Text, true, hello), compressed(ToClient, Text, true, hello), compressed(ToClient, Text, true, again))
	o := read(t, deflateReader(ToClient, 1000, Context{Bits: 15}), stream, atOnce)
	if len(o.messages) != 2 || o.err == nil || o.err.Reason != "compressed message refers to what was never sent" {
		t.Errorf("%d messages, %v", len(o.messages), o.err)
	}
}

// What a message refers to in those before it lies within the window that was
// agreed on.
func TestReaderDeflateWindow(t *testing.T) {
	first := compressed(ToClient, Binary, true, stored(bytes.Repeat([]byte("0123456789"), 30), 1000))
	w := new(bitString)
	w.put("010" + "0000001" + "10000") // a match of 3 bytes, at a distance from 257 on
	w.number(300-257, 7)
	w.put("0000000" + "000")
	stream := append(first, compressed(ToClient, Binary, true, string(w.b))...)
	for _, bits := range []int{8, 9, 15} {
		o := read(t, deflateReader(ToClient, 1000, Context{Takeover: true, Bits: bits}), stream, atOnce)
		if bits == 8 {
			if len(o.messages) != 1 || o.err == nil || o.err.Reason != "compressed message refers to what was never sent" {
				t.Errorf("%d bits: %d messages, %v", bits, len(o.messages), o.err)
			}
		} else if o.err != nil || len(o.messages) != 2 || string(o.messages[1].Data) != "012" {
			t.Errorf("%d bits: %d messages, %v", bits, len(o.messages), o.err)
		}
	}
}

// The constraint of text is on what is inflated only.
func TestReaderDeflateText(t *testing.T) {
	if utf8.ValidString(hello) {
		t.Fatal("compressed bytes that are UTF-8 prove nothing")
	}
	_, messages := zlibDirections(t)
	r := deflateReader(ToServer, 1<<16, fullContext)
	for i, m := range messages["fastest.jsonl"] {
		half := len(m.Payload) / 2
		first, last := compressed(ToServer, Text, false, string(m.Payload[:half])), frame(ToServer, Continuation, true, string(m.Payload[half:]))
		o := read(t, r, append(first, last...), one)
		if o.err != nil || len(o.messages) != 1 {
			t.Fatalf("message %d: %v", i, o.err)
		}
		m.check(t, "fastest", i, o.messages[0].Data, nil)
	}
}

// hold passes, hold+1 does not, and what came before it has come.
func TestReaderDeflateHold(t *testing.T) {
	contexts, messages := zlibDirections(t)
	for _, name := range slices.Sorted(maps.Keys(contexts)) {
		list := messages[name]
		largest := slices.MaxFunc(list, func(a, b deflated) int { return a.Size - b.Size }).Size
		index := slices.IndexFunc(list, func(m deflated) bool { return m.Size == largest })
		var stream []byte
		for _, m := range list {
			stream = append(stream, compressed(ToServer, Binary, true, string(m.Payload))...)
		}
		o := read(t, deflateReader(ToServer, int64(largest), contexts[name]), stream, atOnce)
		if o.err != nil || len(o.messages) != len(list) {
			t.Errorf("%s, at the limit: %d messages of %d, %v", name, len(o.messages), len(list), o.err)
		}
		r := deflateReader(ToServer, int64(largest)-1, contexts[name])
		o = read(t, r, stream, atOnce)
		if o.err == nil || o.err.Code != MessageTooBig || o.err.Section != "RFC 6455, Section 10.4" || len(o.messages) != index {
			t.Errorf("%s, over it: %d messages of %d, %v", name, len(o.messages), index, o.err)
			continue
		}
		if last := stream[len(stream)-o.rest:]; !bytes.Equal(o.err.Header, last[:headerLength(last)]) {
			t.Errorf("%s, over it: evidence % x", name, o.err.Header)
		}
		if r.Release(); r.scratch != nil || r.inflater.out != nil || r.inflater.decoder != nil {
			t.Errorf("%s: a Reader holds buffers for what it refused", name)
		}
	}

	// Zero lets empty messages pass, also if they are compressed.
	o := read(t, deflateReader(ToServer, 0, fullContext), append(compressed(ToServer, Text, true, nothing), compressed(ToServer, Text, true, hello)...), one)
	if len(o.messages) != 1 || o.err == nil || o.err.Code != MessageTooBig {
		t.Errorf("hold 0: %d messages, %v", len(o.messages), o.err)
	}
}

// What does not compress is longer than it says, and passes all the same.
func TestReaderDeflateIncompressible(t *testing.T) {
	for _, hold := range []int{1, 100, 1000, 70_000} {
		data := make([]byte, hold)
		for i := range data {
			data[i] = 0xff // nine bits in the fixed code
		}
		w := new(bitString)
		w.put("010")
		for range data {
			w.put("111111111")
		}
		w.put("0000000" + "000") // its end, and the header of a stored block
		for _, m := range []string{string(w.b), stored(data, 100), stored(data, 1<<16-1)} {
			stream := compressed(ToServer, Binary, true, m)
			stream = append(stream, compressed(ToServer, Binary, false, m[:1])...)
			stream = append(stream, frame(ToServer, Continuation, true, m[1:])...)
			o := read(t, deflateReader(ToServer, int64(hold), fullContext), stream, atOnce)
			if o.err != nil || len(o.messages) != 2 || !bytes.Equal(o.messages[0].Data, data) || !bytes.Equal(o.messages[1].Data, data) {
				t.Errorf("%d bytes in %d: %d messages, %v", hold, len(m), len(o.messages), o.err)
			}
			if o := read(t, deflateReader(ToServer, int64(hold)-1, fullContext), stream, atOnce); o.err == nil || o.err.Code != MessageTooBig {
				t.Errorf("%d bytes in %d, one too many: %v", hold, len(m), o.err)
			}
		}
	}
}

// stored returns data in stored blocks of up to size bytes.
func stored(data []byte, size int) string {
	var b strings.Builder
	for block := range slices.Chunk(data, size) {
		n := len(block)
		b.Write([]byte{0, byte(n), byte(n >> 8), byte(^n), byte(^n >> 8)})
		b.Write(block)
	}
	return b.String() + nothing
}

// The compressed size is bounded, too: with blocks that are empty, a message of
// nothing may be of any length. The header of a frame is enough to refuse it.
func TestReaderDeflateHoldCompressed(t *testing.T) {
	const hold = 1002 // for which the bound is such a message: 263 blocks, and the header of one
	most := int(deflateBound(hold))
	payload := strings.Repeat("\x00\x00\x00\xff\xff", most/5) + nothing
	if len(payload) != most {
		t.Fatalf("a payload of %d bytes, the bound is %d", len(payload), most)
	}
	for _, fragmented := range []bool{false, true} {
		first, last := []byte(nil), compressed(ToServer, Binary, true, payload)
		more := Header{Fin: true, RSV: rsv1, Opcode: Binary, Masked: true, Length: int64(most + 1)}
		if fragmented {
			first, last = compressed(ToServer, Binary, false, payload[:hold]), frame(ToServer, Continuation, true, payload[hold:])
			more.RSV, more.Opcode, more.Length = 0, Continuation, int64(most+1-hold)
		}
		if o := read(t, deflateReader(ToServer, hold, fullContext), slices.Concat(first, last), atOnce); o.err != nil || len(o.messages) != 1 || len(o.messages[0].Data) != 0 {
			t.Errorf("fragmented %v, at the limit: %v", fragmented, o.err)
		}
		if o := read(t, deflateReader(ToServer, hold, fullContext), more.Append(first), atOnce); o.err == nil || o.err.Code != MessageTooBig || !bytes.Equal(o.err.Header, more.Append(nil)) {
			t.Errorf("fragmented %v, over it: %v", fragmented, o.err)
		}
	}

	// For a message that is not compressed the limit is hold, also after one that is.
	stream := slices.Concat(
		compressed(ToServer, Binary, false, hello), frame(ToServer, Continuation, true, ""),
		frame(ToServer, Binary, false, payload[:hold]), frame(ToServer, Continuation, true, "x"))
	if o := read(t, deflateReader(ToServer, hold, fullContext), stream, atOnce); o.err == nil || o.err.Code != MessageTooBig || len(o.messages) != 1 {
		t.Errorf("not compressed: %d messages, %v", len(o.messages), o.err)
	}
}

func TestReaderDeflateBomb(t *testing.T) {
	const size = 4 << 20
	word, zeros, again := bomb(t, size)
	stream := slices.Concat(
		compressed(ToClient, Text, true, string(word)), compressed(ToClient, Text, true, string(zeros)), compressed(ToClient, Text, true, string(again)))
	for _, takeover := range []bool{true, false} {
		for _, hold := range []int64{10, int64(len(zeros)), 100_000, size - 1} {
			r := deflateReader(ToClient, hold, Context{Takeover: takeover, Bits: 15})
			o := read(t, r, stream, atOnce)
			if o.err == nil || o.err.Code != MessageTooBig || len(o.messages) != 1 || r.inflater.out != nil && !r.long.on {
				t.Errorf("takeover %v, hold %d: %d messages, %v", takeover, hold, len(o.messages), o.err)
			}
		}
	}
	if o := read(t, deflateReader(ToClient, size, fullContext), stream, atOnce); o.err != nil || len(o.messages) != 3 || len(o.messages[1].Data) != size {
		t.Errorf("hold %d: %d messages, %v", size, len(o.messages), o.err)
	}
}

// Release gives back what is not needed while idle. The window is.
func TestReaderDeflateRelease(t *testing.T) {
	for _, dir := range []Direction{ToServer, ToClient} {
		r := deflateReader(dir, 1000, fullContext)
		first, last := compressed(dir, Text, false, again[:2]), frame(dir, Continuation, true, again[2:])
		for i, b := range [][]byte{compressed(dir, Text, true, hello), compressed(dir, Text, true, again), first, last} {
			m, n, err := r.Next(b)
			if n != len(b) || err != nil || i != 2 && string(m.Data) != "Hello" {
				t.Fatalf("%v, frame %d: %q, %d, %v", dir, i, m.Data, n, err)
			}
			r.Release()
			if r.scratch != nil || r.inflater.out != nil || r.Pending() != (i == 2) || r.inflater.window.len() == 0 {
				t.Errorf("%v, frame %d: pending %v, a window of %d bytes", dir, i, r.Pending(), r.inflater.window.len())
			}
		}
		if r.data != nil || r.wire != nil {
			t.Errorf("%v: Release left a buffer", dir)
		}
	}
}
