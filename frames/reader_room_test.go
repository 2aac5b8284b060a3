package frames

import (
	"bytes"
	"compress/flate"
	"strings"
	"testing"
)

// deflater returns a function that compresses messages as a sender does.
func deflater(takeover bool) func(text string) string {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.BestSpeed)
	return func(text string) string {
		out.Reset()
		if !takeover {
			w.Reset(&out)
		}
		w.Write([]byte(text))
		w.Flush()
		return strings.TrimSuffix(out.String(), string(inflateTail))
	}
}

// What the Reader says of a message that it does not have the whole of.
func TestReaderMost(t *testing.T) {
	const hold = 1 << 20
	wide := int64(deflateBound(hold))
	for _, tt := range []struct {
		name string
		in   []byte
		need int
		held int
		most int64
	}{
		{"a frame", AppendFrame(nil, Header{Fin: true, Opcode: Text}, make([]byte, 100_000)), 100_010, 0, 200_000},
		{"compressed", AppendFrame(nil, Header{Fin: true, RSV: 4, Opcode: Text}, make([]byte, 100_000)), 100_010, 0, 200_000 + hold},
		{"the first of several", AppendFrame(nil, Header{Opcode: Text}, make([]byte, 100_000)), 100_010, 0, 2 * hold},
		{"compressed, the first of several", AppendFrame(nil, Header{RSV: 4, Opcode: Text}, make([]byte, 100_000)), 100_010, 0, 2*wide + hold},
	} {
		r := NewReader(ToClient, hold)
		r.UseDeflate(Context{Bits: 15, Takeover: true})
		if _, n, err := r.Next(tt.in[:50]); n != 0 || err != nil || r.Need() != tt.need || r.Held() != tt.held || r.Most() != tt.most {
			t.Errorf("%s: %d %v, need %d, held %d, most %d", tt.name, n, err, r.Need(), r.Held(), r.Most())
		}
		if tt.in[0]&0x80 != 0 {
			continue
		}
		if _, n, err := r.Next(tt.in); n != len(tt.in) || err != nil || r.Held() != len(tt.in) || r.Most() != tt.most {
			t.Errorf("%s, held: %d %v, held %d, most %d", tt.name, n, err, r.Held(), r.Most())
		}
		last := AppendFrame(nil, Header{Fin: true, Opcode: Continuation}, make([]byte, 100_000))
		if _, n, err := r.Next(last[:50]); n != 0 || err != nil || r.Most() != tt.most {
			t.Errorf("%s, the last: %d %v, most %d", tt.name, n, err, r.Most())
		}
	}
}

// The Reader asks before a message inflates to much, once for each, and one that
// must not is lost while those that follow are not.
func TestReaderLimitInflation(t *testing.T) {
	small, large := strings.Repeat("a", 60<<10), strings.Repeat("b", 500<<10)
	for _, takeover := range []bool{false, true} {
		for _, allow := range []bool{false, true} {
			z := deflater(takeover)
			r := NewReader(ToClient, 1<<20)
			r.UseDeflate(Context{Bits: 15, Takeover: takeover})
			asked := 0
			r.LimitInflation(func() bool { asked++; return allow })
			for i, text := range []string{small, large, small + "c", large + "d"} {
				b := AppendFrame(nil, Header{Fin: true, RSV: 4, Opcode: Text}, []byte(z(text)))
				m, n, err := r.Next(b)
				if !allow && len(text) >= len(large) {
					var e *ProtocolError
					if e, _ = err.(*ProtocolError); e == nil || e.Code != MessageTooBig || n != len(b) {
						t.Fatalf("message %d: %d %v", i, n, err)
					}
				} else if err != nil || n != len(b) || string(m.Data) != text {
					t.Fatalf("message %d: %d %v", i, n, err)
				}
				r.Release()
			}
			if asked != 2 {
				t.Errorf("asked %d times for 2 messages", asked)
			}
		}
	}
}

// After Refuse nothing is held, whatever was under way, and control frames are read.
func TestReaderRefuse(t *testing.T) {
	z := deflater(true)
	long := strings.Repeat("x", 300_000)
	frame := func(fin bool, rsv byte, op Opcode, payload string) []byte {
		return AppendFrame(nil, Header{Fin: fin, RSV: rsv, Opcode: op}, []byte(payload))
	}
	behind := bytes.Join([][]byte{
		frame(true, 4, Text, z(long)), frame(true, 4, Binary, "no DEFLATE at all"), frame(true, 0, Text, "\xff"),
		frame(false, 0, Text, long), frame(true, 0, Ping, "p"), frame(true, 0, Continuation, ""), frame(true, 0, Text, ""),
		frame(true, 0, Close, "\x03\xe8"),
	}, nil)
	for _, tt := range []struct {
		name   string
		before []byte // of which the last byte comes after Refuse
	}{
		{"within a frame", frame(true, 0, Text, long)},
		{"within a compressed one", frame(true, 4, Text, long)},
		{"between fragments", append(frame(false, 0, Text, long), frame(true, 0, Continuation, "")...)},
		{"between compressed ones", append(frame(false, 4, Text, "\x00"), frame(true, 0, Continuation, "")...)},
		{"within a long one", frame(true, 0, Text, strings.Repeat("y", 3<<20))},
		{"within a long compressed one", frame(true, 4, Text, strings.Repeat("\x00\x05\x00\xfa\xffhello", 1<<18))},
	} {
		for _, stream := range []bool{false, true} {
			if !stream && strings.Contains(tt.name, "long") {
				continue
			}
			r := NewReader(ToClient, 1<<20)
			r.UseDeflate(Context{Bits: 15, Takeover: true})
			if stream {
				r.Stream(64<<20, 0, func(Message) {})
			}
			in := append(bytes.Clone(tt.before), behind...)
			at := 0
			next := func(end int) Message {
				m, n, err := r.Next(in[at:end])
				if at += n; err != nil {
					t.Fatalf("%s: %v", tt.name, err)
				}
				return m
			}
			for was := -1; was < at; {
				was = at
				next(len(tt.before) - 1)
			}
			r.Release()
			r.Refuse()
			r.Refuse()
			if r.Held() != 0 {
				t.Errorf("%s: %d bytes are held", tt.name, r.Held())
			}
			var got []Opcode
			for at < len(in) {
				was := at
				if m := next(min(len(in), at+1000)); m.Opcode != Continuation {
					got = append(got, m.Opcode)
				}
				if at == was {
					t.Fatalf("%s: %d bytes are not passed over", tt.name, r.Need())
				}
			}
			if len(got) != 2 || got[0] != Ping || got[1] != Close {
				t.Errorf("%s: %v", tt.name, got)
			}
		}
	}
}
