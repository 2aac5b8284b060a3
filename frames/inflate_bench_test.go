package frames_test

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	kflate "github.com/klauspost/compress/flate"

	"framegate/examples/traffic"
	"framegate/frames"
)

// corpus returns n bytes of real text messages, one after the other, and from
// the start again if there are fewer.
func corpus(tb testing.TB, n int) []byte {
	var text []byte
	for _, set := range []string{"feed-coinbase", "cdp-events", "slack-socket-mode", "firebase-hn"} {
		messages, err := traffic.Load(set)
		if err != nil {
			tb.Fatal(err)
		}
		for _, m := range messages {
			if m.Opcode == frames.Text {
				text = append(text, m.Payload...)
			}
		}
	}
	return bytes.Repeat(text, n/len(text)+1)[:n]
}

// deflate cuts data into messages of a size and compresses them as RFC 7692,
// Section 7.2.1, has it.
func deflate(tb testing.TB, data []byte, size int, takeover bool) (payloads [][]byte) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	if err != nil {
		tb.Fatal(err)
	}
	for ; len(data) >= size; data = data[size:] {
		b.Reset()
		if !takeover {
			w.Reset(&b)
		}
		w.Write(data[:size])
		w.Flush()
		payloads = append(payloads, bytes.Clone(bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})))
	}
	return payloads
}

// zlibDefault returns what zlib made of real messages, of all sizes up to 2000 bytes.
func zlibDefault(tb testing.TB) (payloads [][]byte, sizes []int) {
	f, err := os.Open("testdata/zlib/default.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	for dec := json.NewDecoder(f); dec.More(); {
		var m struct {
			Size    int
			Payload []byte
		}
		if err := dec.Decode(&m); err != nil {
			tb.Fatal(err)
		}
		if m.Payload != nil { // not the head
			payloads, sizes = append(payloads, m.Payload), append(sizes, m.Size)
		}
	}
	return payloads, sizes
}

// One iteration is one message. compress/flate and klauspost/compress/flate
// are used as a gateway would have to, with an inflater of a pool that gets the
// last 32 KiB of the direction as a dictionary.
func BenchmarkInflate(b *testing.B) {
	for _, takeover := range []bool{true, false} {
		for _, size := range []int{64, 128, 1 << 10, 16 << 10, 1 << 20} {
			payloads := deflate(b, corpus(b, max(128<<10, 2*size)), size, takeover)
			b.Run(fmt.Sprintf("takeover=%v/%d", takeover, size), func(b *testing.B) {
				engines(b, takeover, payloads, slices.Repeat([]int{size}, len(payloads)))
			})
		}
	}
	b.Run("zlib", func(b *testing.B) {
		payloads, sizes := zlibDefault(b)
		engines(b, true, payloads, sizes)
	})
}

func engines(b *testing.B, takeover bool, payloads [][]byte, sizes []int) {
	largest := slices.Max(sizes)
	b.Run("frames", func(b *testing.B) {
		f := frames.NewInflater(frames.Context{Takeover: takeover, Bits: 15})
		cycle(b, payloads, sizes, f.Close, func(p []byte) ([]byte, error) { return f.Inflate(int64(largest), p) })
	})
	for _, other := range []struct {
		name string
		r    io.ReadCloser
	}{{"std", flate.NewReader(nil)}, {"klauspost", kflate.NewReader(nil)}} {
		b.Run(other.name, func(b *testing.B) {
			f := dictInflater{r: other.r, takeover: takeover, out: make([]byte, largest+1)}
			cycle(b, payloads, sizes, func() { f.dict = f.dict[:0] }, f.inflate)
		})
	}
}

// cycle inflates payloads in turn. reset precedes the first of them.
func cycle(b *testing.B, payloads [][]byte, sizes []int, reset func(), inflate func([]byte) ([]byte, error)) {
	total := 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i == len(payloads) {
			i = 0
		}
		if i == 0 {
			reset()
		}
		if data, err := inflate(payloads[i]); len(data) != sizes[i] || err != nil {
			b.Fatal(len(data), err)
		}
		total += sizes[i]
	}
	b.SetBytes(int64(total / b.N))
}

// A dictInflater is an io.Reader that inflates and the dictionary for its next
// message.
type dictInflater struct {
	r        io.ReadCloser
	src      twoReader
	takeover bool
	dict     []byte
	out      []byte
}

func (f *dictInflater) inflate(payload []byte) ([]byte, error) {
	f.src = twoReader{payload, "\x00\x00\xff\xff\x01\x00\x00\xff\xff"}
	if err := f.r.(flate.Resetter).Reset(&f.src, f.dict); err != nil {
		return nil, err
	}
	n := 0
	for n < len(f.out) {
		m, err := f.r.Read(f.out[n:])
		n += m
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if f.takeover {
		const window = 32 << 10
		if n >= window {
			f.dict = append(f.dict[:0], f.out[n-window:n]...)
		} else {
			if over := len(f.dict) + n - window; over > 0 {
				f.dict = f.dict[:copy(f.dict, f.dict[over:])]
			}
			f.dict = append(f.dict, f.out[:n]...)
		}
	}
	return f.out[:n], nil
}

// A twoReader reads a payload and then a tail, without a copy.
type twoReader struct {
	payload []byte
	tail    string
}

func (r *twoReader) Read(p []byte) (n int, err error) {
	if len(r.payload) > 0 {
		n = copy(p, r.payload)
		r.payload = r.payload[n:]
		return n, nil
	}
	if r.tail == "" {
		return 0, io.EOF
	}
	n = copy(p, r.tail)
	r.tail = r.tail[n:]
	return n, nil
}

func (r *twoReader) ReadByte() (c byte, err error) {
	if len(r.payload) > 0 {
		c, r.payload = r.payload[0], r.payload[1:]
		return c, nil
	}
	if r.tail == "" {
		return 0, io.EOF
	}
	c, r.tail = r.tail[0], r.tail[1:]
	return c, nil
}
