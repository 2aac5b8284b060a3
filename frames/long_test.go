package frames

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// longReader returns a Reader that streams, and what its look has seen last.
func longReader(dir Direction, hold, most, ratio int64, c *Context) (*Reader, *looked) {
	r, l := NewReader(dir, hold), new(looked)
	if c != nil {
		r.UseDeflate(*c)
	}
	r.Stream(most, ratio, func(m Message) { l.op, l.compressed, l.data = m.Opcode, m.Compressed, append(l.data, m.Data...) })
	return r, l
}

type looked struct {
	op         Opcode
	compressed bool
	data       []byte
}

// An arrival is what a peer behind the Reader gets: messages put together again.
// A refused one has its code.
type arrival struct {
	messages []Message
	refused  []Code
	wire     []byte // all that may be forwarded, in order
	parts    int
}

// arrive feeds stream to r and goes on after messages that are too big.
func arrive(t testing.TB, r *Reader, l *looked, stream []byte, step func() int) (a arrival, err error) {
	t.Helper()
	var m Message
	for start, end := 0, 0; end < len(stream); {
		end = min(end+step(), len(stream))
		for start <= end {
			p, n, err := r.Next(stream[start:end:end])
			start += n
			if err != nil {
				if err.(*ProtocolError).Code != MessageTooBig {
					return a, err
				}
				a.refused = append(a.refused, MessageTooBig)
				m, l.data = Message{}, nil
				continue
			}
			a.wire = append(a.wire, p.Wire...)
			if n == 0 {
				break
			}
			switch {
			case p.Opcode == Continuation:
			case p.Part == Whole:
				p.Data, p.Wire = bytes.Clone(p.Data), bytes.Clone(p.Wire)
				a.messages = append(a.messages, p)
			default:
				a.parts++
				if len(l.data) > 0 && (l.op != p.Opcode || l.compressed != p.Compressed) {
					t.Fatalf("a part of a %v message was shown as %v, compressed %v", p.Opcode, l.op, l.compressed)
				}
				m = Message{p.Opcode, nil, append(m.Wire, p.Wire...), p.Frames, p.Compressed, Whole}
				if p.Part == LastPart {
					m.Data = l.data
					a.messages = append(a.messages, m)
					m, l.data = Message{}, nil
				}
			}
			if start == end && n > 0 {
				break
			}
		}
	}
	return a, nil
}

// What comes in parts is what comes whole, whatever hold is and wherever the
// stream is cut.
func TestStreamIsWhole(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 7692))
	any := func() int { return 1 + rnd.IntN(700) }
	check := func(name string, dir Direction, stream []byte, c *Context) {
		whole := NewReader(dir, 1<<30)
		if c != nil {
			whole.UseDeflate(*c)
		}
		want, err := arrive(t, whole, &looked{}, stream, atOnce)
		if err != nil {
			t.Fatal(err)
		}
		for _, hold := range []int64{0, 1, 124, 700, 1 << 16} {
			for i, step := range []func() int{atOnce, any, one} {
				r, l := longReader(dir, hold, 1<<30, 0, c)
				got, err := arrive(t, r, l, stream, step)
				if err != nil || len(got.refused) > 0 || len(got.wire) != len(stream) {
					t.Fatalf("%s, hold %d, step %d: %v, %d bytes of %d", name, hold, i, err, len(got.wire), len(stream))
				}
				if hold == 0 && got.parts == 0 {
					t.Fatalf("%s, hold %d: no message came in parts", name, hold)
				}
				if len(got.messages) != len(want.messages) {
					t.Fatalf("%s, hold %d, step %d: %d messages, want %d", name, hold, i, len(got.messages), len(want.messages))
				}
				// A control frame overtakes what is held, which is less with a
				// smaller hold, so the order may differ by that.
				data := func(list []Message) (data, control []Message) {
					for _, m := range list {
						m.Data = append([]byte{}, m.Data...)
						if m.Opcode.IsControl() {
							control = append(control, m)
						} else {
							data = append(data, m)
						}
					}
					return
				}
				gotData, gotControl := data(got.messages)
				wantData, wantControl := data(want.messages)
				for k := range wantData {
					if !reflect.DeepEqual(gotData[k], wantData[k]) {
						t.Fatalf("%s, hold %d, step %d, message %d: got %.200v, want %.200v", name, hold, i, k, gotData[k], wantData[k])
					}
				}
				if !reflect.DeepEqual(gotControl, wantControl) {
					t.Fatalf("%s, hold %d, step %d: control frames differ", name, hold, i)
				}
			}
		}
	}
	for _, dir := range []Direction{ToServer, ToClient} {
		stream, _ := generate(rnd, dir, 30, []int{0, 1, 124, 125, 126, 127, 699, 700, 701, 3000})
		check("generated", dir, stream, nil)
		contexts, messages := zlibDirections(t)
		for name, c := range contexts {
			stream, _ := framed(dir, messages[name])
			check(name, dir, stream, &c)
		}
	}
}

// The limit passes, one more is 1009, in one frame and in many, and what comes
// after it is read.
func TestStreamMax(t *testing.T) {
	const hold, most = 1000, 5000
	for _, over := range []int{0, 1, 20_000} {
		word, zeros, again := bomb(t, most+over)
		plain := strings.Repeat("x", most+over)
		for name, wire := range map[string][]byte{
			"one frame": frame(ToServer, Binary, true, plain),
			"fragments": slices.Concat(frame(ToServer, Binary, false, plain[:600]), frame(ToServer, Continuation, false, plain[600:most]),
				frame(ToServer, Ping, true, "p"), frame(ToServer, Continuation, true, plain[most:])),
			"compressed": compressed(ToServer, Binary, true, string(zeros)),
			"compressed fragments": slices.Concat(compressed(ToServer, Binary, false, string(zeros[:3])),
				frame(ToServer, Ping, true, "p"), frame(ToServer, Continuation, true, string(zeros[3:]))),
			"compressed, but longer": slices.Concat(compressed(ToServer, Binary, false, stored([]byte(plain), 100)[:1100]),
				frame(ToServer, Continuation, true, stored([]byte(plain), 100)[1100:])),
		} {
			for _, takeover := range []bool{true, false} {
				c := Context{Takeover: takeover, Bits: maxWindowBits}
				rest := string(again)
				if !takeover || !strings.HasPrefix(name, "compressed") {
					rest = string(word)
				}
				stream := slices.Concat(compressed(ToServer, Text, true, string(word)), wire, compressed(ToServer, Binary, true, rest), frame(ToServer, Text, true, "end"))
				for i, step := range []func() int{atOnce, one} {
					r, l := longReader(ToServer, hold, most, 0, &c)
					got, err := arrive(t, r, l, stream, step)
					if err != nil || (len(got.refused) > 0) != (over > 0) {
						t.Fatalf("%s, over %d, takeover %v, step %d: %v %v", name, over, takeover, i, err, got.refused)
					}
					if last := got.messages[len(got.messages)-1]; string(last.Data) != "end" {
						t.Errorf("%s, over %d, takeover %v, step %d: then came %q", name, over, takeover, i, last.Data)
					}
					if next := got.messages[len(got.messages)-2]; !bytes.HasSuffix(next.Data, []byte("detonation")) && name != "compressed, but longer" {
						t.Errorf("%s, over %d, takeover %v, step %d: then came %.40q", name, over, takeover, i, next.Data)
					}
				}
			}
		}
	}
}

// The same without Stream: hold passes, one more is 1009, and the next is read.
func TestHoldThenNext(t *testing.T) {
	word, zeros, again := bomb(t, 5001)
	for _, takeover := range []bool{true, false} {
		rest := string(again)
		if !takeover {
			rest = string(word)
		}
		for cut := range len(zeros) + 1 {
			stream := slices.Concat(compressed(ToClient, Text, true, string(word)),
				compressed(ToClient, Binary, false, string(zeros[:cut])), frame(ToClient, Continuation, true, string(zeros[cut:])),
				frame(ToClient, Binary, false, strings.Repeat("x", 20)), frame(ToClient, Continuation, true, strings.Repeat("x", 5000)),
				compressed(ToClient, Binary, true, rest), frame(ToClient, Close, true, ""))
			r := deflateReader(ToClient, 5000, Context{Takeover: takeover, Bits: maxWindowBits})
			got, err := arrive(t, r, &looked{}, stream, one)
			if err != nil || len(got.refused) != 2 || len(got.messages) != 3 || got.messages[2].Opcode != Close ||
				!bytes.HasSuffix(got.messages[1].Data, []byte("detonation")) {
				t.Fatalf("takeover %v, cut at %d: %v, refused %v, %d messages", takeover, cut, err, got.refused, len(got.messages))
			}
		}
	}
}

func TestStreamRatio(t *testing.T) {
	const size = 3 << 20
	_, zeros, again := bomb(t, size)
	for _, ratio := range []int64{0, 1032, 100} {
		for i, step := range []func() int{atOnce, func() int { return 100 }} {
			r, l := longReader(ToServer, 1000, 1<<30, ratio, &fullContext)
			got, err := arrive(t, r, l, append(compressed(ToServer, Binary, true, string(zeros)), compressed(ToServer, Binary, true, string(again))...), step)
			if err != nil || !bytes.HasSuffix(got.messages[len(got.messages)-1].Data, []byte("detonation")) {
				t.Errorf("ratio %d, step %d: %v", ratio, i, err)
			}
			if (len(got.refused) > 0) != (ratio == 100) {
				t.Errorf("ratio %d, step %d: refused %v", ratio, i, got.refused)
			}
		}
	}
}

// A message takes the same memory whatever its length, and while it pauses none
// but for the state of the inflater.
func TestStreamMemory(t *testing.T) {
	const size = 8 << 20
	_, zeros, _ := bomb(t, size)
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = byte(i * i >> 7)
	}
	for name, wire := range map[string][]byte{
		"plain":    frame(ToServer, Binary, true, string(noise)),
		"bomb":     compressed(ToServer, Binary, true, string(zeros)),
		"stored":   compressed(ToServer, Binary, true, stored(noise, 1<<16-1)),
		"fragment": frame(ToServer, Binary, false, string(noise)),
	} {
		r := NewReader(ToServer, 1<<20)
		r.UseDeflate(fullContext)
		seen := 0
		r.Stream(1<<40, 0, func(m Message) { seen += len(m.Data) })
		for start, end := 0, 0; end < len(wire); {
			end = min(end+4000, len(wire))
			_, n, err := r.Next(wire[start:end])
			if err != nil {
				t.Fatal(err)
			}
			start += n
			r.Release()
			if r.scratch != nil || r.data != nil || r.wire != nil {
				t.Fatalf("%s: holds buffers while it waits", name)
			}
			if out := r.inflater.out; out != nil && cap(out.b) > 2<<20 {
				t.Fatalf("%s: %d bytes for what was inflated", name, cap(out.b))
			}
		}
		if seen != size {
			t.Errorf("%s: %d bytes of %d were shown", name, seen, size)
		}
	}
}

// A text is UTF-8 wherever it is cut, and what is not is refused before the part
// that has it has left.
func TestStreamText(t *testing.T) {
	const good = "aé€😀"
	for cut := range len(good) + 1 {
		stream := slices.Concat(frame(ToServer, Text, false, good[:cut]), frame(ToServer, Continuation, true, good[cut:]))
		r, l := longReader(ToServer, 0, 100, 0, nil)
		if got, err := arrive(t, r, l, stream, one); err != nil || string(got.messages[0].Data) != good {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	for _, bad := range []string{"\xff", "é\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xc0\x80", "\xed\xa0\x80", "a\x80", "\xe2\x82a", "\xf4\x90\x80\x80"} {
		for _, c := range []*Context{nil, &fullContext} {
			text, frameOf := bad, frame
			if c != nil {
				text, frameOf = stored([]byte(bad), 100), compressed
			}
			for cut := range len(text) + 1 {
				stream := slices.Concat(frameOf(ToServer, Text, false, text[:cut]), frame(ToServer, Continuation, true, text[cut:]))
				for _, step := range []func() int{atOnce, one} {
					r, l := longReader(ToServer, 0, 100, 0, c)
					got, err := arrive(t, r, l, stream, step)
					e, ok := err.(*ProtocolError)
					if !ok || e.Code != InvalidPayload || e.Section != "RFC 6455, Section 5.6" || len(e.Header) == 0 || len(got.wire) >= len(stream) || len(got.messages) > 0 {
						t.Errorf("%q cut at %d: %v, %d bytes of %d", bad, cut, err, len(got.wire), len(stream))
					}
				}
			}
		}
	}
}

// A fault is found when it arrives, not at the end.
func TestStreamFault(t *testing.T) {
	good := stored(bytes.Repeat([]byte("x"), 2000), 500)
	bad := good[:1010] + "\x06" + good[1011:]
	r, l := longReader(ToServer, 100, 1<<20, 0, &fullContext)
	got, err := arrive(t, r, l, compressed(ToServer, Text, true, bad), one)
	if e, ok := err.(*ProtocolError); !ok || e.Code != InvalidPayload || len(got.wire) > 1010+8 || len(l.data) != 1000 {
		t.Errorf("%v after %d bytes, %d shown", err, len(got.wire), len(l.data))
	}
	if _, _, again := r.Next([]byte("x")); again != err {
		t.Errorf("then %v", again)
	}
	if r.inflater.decoder != nil || r.inflater.out != nil {
		t.Error("a failed Reader holds a decoder")
	}
}

func TestStreamFragments(t *testing.T) {
	b := frame(ToServer, Binary, false, "xx")
	for range maxFragments {
		b = append(b, frame(ToServer, Continuation, false, "")...)
	}
	b = append(b, frame(ToServer, Continuation, true, "")...)
	b = append(b, frame(ToServer, Text, true, "z")...)
	for _, hold := range []int64{1, 10} {
		r, l := longReader(ToServer, hold, 100, 0, nil)
		got, err := arrive(t, r, l, b, atOnce)
		if err != nil || len(got.refused) != 1 || len(got.messages) != 1 || string(got.messages[0].Data) != "z" {
			t.Errorf("hold %d: %v, refused %v, %d messages", hold, err, got.refused, len(got.messages))
		}
	}
}

// A limit below hold does not undo it.
func TestStreamLow(t *testing.T) {
	r, l := longReader(ToServer, 10, 5, 0, nil)
	got, err := arrive(t, r, l, append(frame(ToServer, Binary, true, "0123456789"), frame(ToServer, Binary, true, "0123456789a")...), atOnce)
	if err != nil || len(got.refused) != 1 || len(got.messages) != 1 {
		t.Errorf("%v, refused %v, %d messages", err, got.refused, len(got.messages))
	}
}

func TestMidframe(t *testing.T) {
	r, _ := longReader(ToServer, 0, 100, 0, nil)
	first, last := frame(ToServer, Binary, false, "abc"), frame(ToServer, Continuation, true, "de")
	stream := append(first, last...)
	var got []string
	for start, end := 0, 0; end < len(stream); {
		end++
		m, n, err := r.Next(stream[start:end])
		if err != nil {
			t.Fatal(err)
		}
		if start += n; n > 0 {
			got = append(got, fmt.Sprintf("%d %d %t %t", n, m.Part, r.Midframe(), r.Pending()))
		}
	}
	want := []string{"6 1 true true", "1 1 true true", "1 1 true true", "1 1 false true", "6 1 true true", "1 1 true true", "1 2 false false"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
