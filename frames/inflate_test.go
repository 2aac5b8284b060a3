package frames

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInflateExamples(t *testing.T) {
	for name, c := range map[string]struct {
		payloads []string
		want     string
	}{
		"7.2.3.1 fixed":                 {[]string{"\xf2\x48\xcd\xc9\xc9\x07\x00"}, "Hello"},
		"7.2.3.1 in two frames":         {[]string{"\xf2\x48\xcd", "\xc9\xc9\x07\x00"}, "Hello"},
		"7.2.3.3 stored":                {[]string{"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"}, "Hello"},
		"7.2.3.4 final":                 {[]string{"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"}, "Hello"},
		"7.2.3.4 final, and more":       {[]string{"\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00"}, "HelloHello"},
		"7.2.3.5 two blocks":            {[]string{"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"}, "Hello"},
		"7.2.3.6 empty":                 {[]string{"\x00"}, ""},
		"empty frames before and after": {[]string{"", "\x00", ""}, ""},
	} {
		var payload [][]byte
		for _, p := range c.payloads {
			payload = append(payload, []byte(p))
		}
		got, err := NewInflater(Context{}).Inflate(10, payload...)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// Section 7.2.3.2: the second is a reference to the first.
	for _, takeover := range []bool{true, false} {
		f := NewInflater(Context{Takeover: takeover, Bits: 8})
		for i, payload := range []string{"\xf2\x48\xcd\xc9\xc9\x07\x00", "\xf2\x00\x11\x00\x00"} {
			got, err := f.Inflate(5, []byte(payload))
			if i == 1 && !takeover {
				if err == nil || !strings.Contains(err.Error(), "refers to what was never sent") {
					t.Errorf("without takeover: %q, %v", got, err)
				}
			} else if err != nil || string(got) != "Hello" {
				t.Errorf("takeover %v: %q, %v", takeover, got, err)
			}
		}
	}
}

// A deflated is a line of a file under testdata/zlib.
type deflated struct {
	Size    int    `json:"size"`
	SHA256  string `json:"sha256"`
	Payload []byte `json:"payload"`
}

// zlibDirections returns what zlib made of whole directions. See make.py there.
func zlibDirections(t testing.TB) (contexts map[string]Context, messages map[string][]deflated) {
	files, err := filepath.Glob(filepath.Join("testdata", "zlib", "*.jsonl"))
	if err != nil || len(files) < 15 {
		t.Fatalf("%d directions, %v", len(files), err)
	}
	contexts, messages = make(map[string]Context), make(map[string][]deflated)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bufio.NewReader(f))
		var c Context
		if err := dec.Decode(&c); err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		for contexts[name] = c; dec.More(); {
			var m deflated
			if err := dec.Decode(&m); err != nil {
				t.Fatal(err)
			}
			messages[name] = append(messages[name], m)
		}
		f.Close()
	}
	return contexts, messages
}

func (m deflated) check(t testing.TB, name string, i int, got []byte, err error) {
	t.Helper()
	if sum := sha256.Sum256(got); err != nil || len(got) != m.Size || hex.EncodeToString(sum[:]) != m.SHA256 {
		t.Fatalf("%s, message %d: %d bytes of %d, %v", name, i, len(got), m.Size, err)
	}
}

func TestInflateZlib(t *testing.T) {
	contexts, messages := zlibDirections(t)
	for name, context := range contexts {
		whole, pieces := NewInflater(context), NewInflater(context)
		for i, m := range messages[name] {
			got, err := whole.Inflate(int64(m.Size), m.Payload)
			m.check(t, name, i, got, err)

			var bytewise [][]byte
			for j := range m.Payload {
				bytewise = append(bytewise, m.Payload[j:j+1])
			}
			got, err = pieces.Inflate(int64(m.Size), bytewise...)
			m.check(t, name+" in pieces", i, got, err)
			if pieces.Release(); pieces.out != nil || pieces.window.len() > 1<<context.Bits || !context.Takeover && pieces.window.ring != nil {
				t.Fatalf("%s: a window of %d bytes while idle", name, pieces.window.len())
			}
		}
	}
}

// After a message over the limit the next one is read, if need be by
// references into the one that was lost.
func TestInflateLimit(t *testing.T) {
	contexts, messages := zlibDirections(t)
	for name, context := range contexts {
		for every := 1; every <= 3; every++ {
			f := NewInflater(context)
			for i, m := range messages[name] {
				if i%every == 0 && m.Size > 0 {
					if got, err := f.Inflate(int64(m.Size)-1, m.Payload); err != ErrTooLarge || got != nil || f.out != nil {
						t.Fatalf("%s, message %d: %d bytes with a limit of %d: %v", name, i, len(got), m.Size-1, err)
					}
					continue
				}
				got, err := f.Inflate(int64(m.Size), m.Payload)
				m.check(t, name, i, got, err)
			}
		}
	}
}

// bomb returns a payload for n zeros, and one for the word that comes before
// them, once more.
func bomb(t testing.TB, n int) (word, zeros, again []byte) {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	var payloads [3][]byte
	for i, data := range [][]byte{[]byte("detonation"), make([]byte, n), append(make([]byte, 300), "detonation"...)} {
		b.Reset()
		w.Write(data)
		w.Flush()
		payloads[i] = bytes.Clone(bytes.TrimSuffix(b.Bytes(), inflateTail))
	}
	return payloads[0], payloads[1], payloads[2]
}

func TestInflateBomb(t *testing.T) {
	const size = 4 << 20
	word, zeros, again := bomb(t, size)
	f := NewInflater(Context{Takeover: true, Bits: maxWindowBits})
	for _, limit := range []int64{0, 1, 1000, maxWindow, 100_000, size - 1} {
		if _, err := f.Inflate(10, word); err != nil {
			t.Fatal(err)
		}
		f.begin(caps{hold: limit, max: limit}, len(zeros))
		d := f.decoder
		if err := f.write(zeros); err != ErrTooLarge || d.size() != size {
			t.Fatalf("limit %d: %d bytes, %v", limit, d.size(), err)
		}
		if most := 2 * max(int(limit)+matchRoom, slideRoom); cap(d.out) > most {
			t.Errorf("limit %d: a buffer of %d bytes", limit, cap(d.out))
		}
		if _, _, err := f.end(); err != ErrTooLarge {
			t.Errorf("limit %d: %v", limit, err)
		}
		if _, err := f.Inflate(limit, zeros); err != ErrTooLarge {
			t.Errorf("limit %d: %v", limit, err)
		}
		if got, err := f.Inflate(1000, again); err != nil || !bytes.Equal(got, append(make([]byte, 300), "detonation"...)) {
			t.Errorf("limit %d: then %q, %v", limit, got, err)
		}
	}
	if got, err := f.Inflate(size, zeros); err != nil || len(got) != size {
		t.Errorf("without a limit: %d bytes, %v", len(got), err)
	}

	// Without takeover nobody needs to know how it ends.
	f = NewInflater(Context{})
	stored := append([]byte("\x00\xff\xff\x00\x00"), make([]byte, 1<<15)...)
	for _, payload := range [][]byte{zeros[:len(zeros)/2], stored} {
		if _, err := f.Inflate(1000, payload); err != ErrTooLarge {
			t.Error(err)
		}
	}
	if got, err := f.Inflate(1000, word); err != nil || string(got) != "detonation" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestInflateRatio(t *testing.T) {
	for _, c := range []struct {
		size  int
		ratio int64
		want  error
	}{
		{ratioFloor, 1, nil},
		{ratioFloor + 1, 1, ErrTooLarge},
		{8 << 20, 500, ErrTooLarge},
		{8 << 20, 1032, nil},
		{8 << 20, 0, nil},
	} {
		word, zeros, again := bomb(t, c.size)
		for pieces := 1; pieces <= 2; pieces++ {
			f := NewInflater(Context{Takeover: true, Bits: maxWindowBits})
			f.Inflate(10, word)
			looked := 0
			f.begin(caps{hold: 10, max: 1 << 40, ratio: c.ratio, look: func(b []byte) { looked += len(b) }}, 0)
			var err error
			for _, p := range [][]byte{zeros[:len(zeros)/2*(pieces-1)], zeros[len(zeros)/2*(pieces-1):]} {
				if e := f.write(p); err == nil {
					err = e
				}
			}
			f.end()
			if err != c.want {
				t.Errorf("%d bytes in %d, ratio %d: %v", c.size, len(zeros), c.ratio, err)
			}
			if err == nil && looked != c.size {
				t.Errorf("%d bytes, looked at %d", c.size, looked)
			}
			if got, err := f.Inflate(1000, again); err != nil || !bytes.Equal(got, append(make([]byte, 300), "detonation"...)) {
				t.Errorf("then %q, %v", got, err)
			}
		}
	}
}

func TestInflateCorrupt(t *testing.T) {
	for payload, want := range map[string]string{
		"":                             "ends within a block",
		"\xf3\x48\xcd\xc9\xc9\x07\x00": "ends within a block", // final, without the octet
		"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff": "ends within a block", // with the tail
		"\xf2\x48\xcd\xc9":             "ends within a block",
		"\x00\x55\x00\xaa\xff\x48\x65": "ends within a block",
		"\x06":                         "has a block of reserved type",
		"\x00\x05\x00\xfb\xff\x48":     "has a stored block with a wrong length",
		"\xf2\x00\x11\x00\x00":         "refers to what was never sent",
		"\x1b\x03":                     "has a code that means nothing",   // fixed, symbol 286
		"\x03\x1f":                     "refers to what was never sent",   // fixed, distance code 30
		"\xfc\x00\x00":                 "has a block with too many codes", // HLIT 31
	} {
		f := NewInflater(Context{Takeover: true, Bits: maxWindowBits})
		_, err := f.Inflate(1000, []byte(payload))
		var e *ProtocolError
		if !errors.As(err, &e) || e.Code != InvalidPayload || e.Reason != "compressed message "+want {
			t.Errorf("% x: %v, want %s", payload, err, want)
			continue
		}
		if got, again := f.Inflate(1000, []byte("\x00")); got != nil || again != err || f.out != nil || f.window.ring != nil {
			t.Errorf("% x: then %q, %v", payload, got, again)
		}
	}
}

// A bitString is a DEFLATE stream in the making.
type bitString struct {
	b []byte
	n int // bits
}

// put appends the bits of s, of which each is a "0" or a "1".
func (w *bitString) put(s string) {
	for _, c := range s {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(c-'0') << (w.n % 8)
		w.n++
	}
}

// number appends n bits of v, the lowest first.
func (w *bitString) number(v, n int) {
	for i := range n {
		w.put(string('0' + rune(v>>i&1)))
	}
}

// Codes as no compressor makes them. compress/flate has to say the same.
func TestInflateCodes(t *testing.T) {
	// head starts a dynamic block with 257+lit and 1+dist codes, and for the
	// code lengths a code of these lengths.
	head := func(lit, dist int, pre map[uint8]int) *bitString {
		w := new(bitString)
		w.put("001") // no BFINAL, BTYPE 10 with its low bit first
		w.number(lit, 5)
		w.number(dist, 5)
		w.number(15, 4)
		for _, symbol := range preOrder {
			w.number(pre[symbol], 3)
		}
		return w
	}
	// codes goes on to the lengths of codes, with a code of 4 bits for each of
	// the lengths 0 to 15.
	codes := func(lit map[int]int, dist ...int) *bitString {
		flat := make(map[uint8]int)
		for i := range uint8(16) {
			flat[i] = 4
		}
		w := head(29, len(dist)-1, flat)
		length := func(n int) {
			for i := 3; i >= 0; i-- {
				w.number(n>>i, 1)
			}
		}
		for i := range 286 {
			length(lit[i])
		}
		for _, n := range dist {
			length(n)
		}
		return w
	}
	const nothing, impossible, cut = "has a code that means nothing", "has a block with an impossible code", "ends within a block"
	aba := map[int]int{'A': 1, 256: 2, 257: 2} // codes 0, 10 and 11
	for name, c := range map[string]struct {
		w     *bitString
		bits  string
		want  string
		fault string
	}{
		"one distance":            {codes(aba, 1), "0" + "110" + "10", "AAAA", ""},
		"not that distance":       {codes(aba, 1), "0" + "111" + "10", "", nothing},
		"no distance":             {codes(aba, 0), "00" + "10", "AA", ""},
		"no distance, but used":   {codes(aba, 0), "0" + "110" + "10", "", nothing},
		"two distances":           {codes(aba, 1, 1), "00" + "111" + "10", "AAAAA", ""},
		"only the end":            {codes(map[int]int{256: 1}, 0), "0", "", ""},
		"not even the end":        {codes(map[int]int{256: 1}, 0), "1", "", nothing},
		"no end":                  {codes(map[int]int{'A': 1, 'B': 1}, 0), "0101", "", cut},
		"no codes":                {codes(nil, 0), "0", "", nothing},
		"incomplete":              {codes(map[int]int{'A': 2, 256: 2}, 1), "0", "", impossible},
		"one symbol of two bits":  {codes(aba, 2), "0" + "10", "", impossible},
		"too many symbols":        {codes(map[int]int{'A': 1, 'B': 1, 256: 1}, 1), "0", "", impossible},
		"too many distances":      {codes(aba, 1, 1, 1), "0", "", impossible},
		"long codes":              {codes(map[int]int{'A': 1, 'B': 2, 'C': 3, 'D': 4, 'E': 5, 'F': 6, 'G': 7, 'H': 8, 'I': 9, 'J': 10, 'K': 11, 'L': 12, 'M': 13, 'N': 14, 'O': 15, 256: 15}, 0), "0" + "1110" + "111111111111110" + "11111111110" + "111111111111111", "ADOK", ""},
		"HLIT":                    {head(30, 0, nil), "", "", "has a block with too many codes"},
		"HDIST":                   {head(0, 30, nil), "", "", "has a block with too many codes"},
		"no lengths":              {head(0, 0, nil), "0", "", nothing},
		"too many lengths":        {head(0, 0, map[uint8]int{0: 1, 1: 1, 2: 1}), "0", "", impossible},
		"repeat before the first": {head(0, 0, map[uint8]int{0: 1, 16: 1}), "1" + "00", "", "has a block that repeats a length before the first"},
		"repeat past the last":    {head(0, 0, map[uint8]int{0: 1, 18: 1}), "1" + "1111111" + "1" + "1111111", "", "has a block with too many lengths"},
	} {
		c.w.put(c.bits)
		if c.fault == "" {
			c.w.put("000") // the header of a stored block, for the tail
		}
		payload := c.w.b
		got, err := NewInflater(Context{}).Inflate(1000, payload)
		var e *ProtocolError
		if c.fault == "" && err != nil || c.fault != "" && (!errors.As(err, &e) || e.Reason != "compressed message "+c.fault) || string(got) != c.want {
			t.Errorf("%s: %q, %v, want %q, %s", name, got, err, c.want, c.fault)
		}
		if want, ok := oracle(nil, payload); ok != (err == nil) || ok && !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v, compress/flate: %q, %v", name, got, err, want, ok)
		}
	}
}

// What compress/flate makes, of all levels and any sizes, over more than a
// window.
func TestInflateGenerated(t *testing.T) {
	for seed := range uint64(24) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, int(seed%12)-2)
		if err != nil {
			t.Fatal(err)
		}
		f := NewInflater(Context{Takeover: true, Bits: maxWindowBits})
		words := make([][]byte, 200)
		for i := range words {
			words[i] = text(rnd, 1+rnd.IntN(20))
		}
		for total := 0; total < 200_000; {
			var data []byte
			for size := rnd.IntN(1 << rnd.IntN(17)); len(data) < size; {
				switch rnd.IntN(20) {
				case 0:
					data = append(data, byte(rnd.Uint32()))
				case 1:
					data = append(data, bytes.Repeat([]byte{'x'}, rnd.IntN(1000))...)
				default:
					data = append(data, words[rnd.IntN(len(words))]...)
				}
			}
			total += len(data) + 1
			b.Reset()
			w.Write(data)
			w.Flush()
			payload := bytes.TrimSuffix(b.Bytes(), inflateTail)
			if rnd.IntN(4) == 0 {
				f.Release()
			}
			limit := len(data) // just enough, or one too few, or anything
			switch rnd.IntN(8) {
			case 0:
				limit--
			case 1:
				limit = rnd.IntN(len(data) + 1)
			}
			got, err := f.Inflate(int64(limit), split(rnd, payload)...)
			if limit < len(data) && limit >= 0 {
				if err != ErrTooLarge {
					t.Fatalf("seed %d: %d bytes with a limit of %d: %v", seed, len(data), limit, err)
				}
			} else if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("seed %d: %d bytes of %d, %v", seed, len(got), len(data), err)
			}
		}
	}
}

func TestWindow(t *testing.T) {
	for _, size := range []int{256, 512, 2048} {
		rnd := rand.New(rand.NewPCG(uint64(size), 0))
		w, model := window{size: size}, []byte{}
		for range 3000 {
			b := make([]byte, rnd.IntN(1<<rnd.IntN(13)))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			w.append(b)
			model = append(model, b...)
			model = model[max(len(model)-size, 0):]
			if w.len() != len(model) || w.ring != nil && cap(w.ring.b) > max(2*len(model), 1<<minClass) {
				t.Fatalf("size %d: %d bytes of %d", size, w.len(), len(model))
			}
			if len(model) == 0 {
				continue
			}
			back := 1 + rnd.IntN(len(model))
			dst := make([]byte, rnd.IntN(size))
			want := model[len(model)-back:]
			if n := w.copy(dst, back); !bytes.Equal(dst[:n], want[:min(len(want), len(dst))]) {
				t.Fatalf("size %d: wrong bytes %d from the end", size, back)
			}
		}
	}
}

// What a capture has of permessage-deflate with windows of 12 bits. The same
// was captured without it.
func TestInflateCaptured(t *testing.T) {
	for _, suffix := range []string{"c2s", "s2c"} {
		stream, err := os.ReadFile(filepath.Join("testdata", "zeek", "websocket_compressed."+suffix))
		if err != nil {
			t.Fatal(err)
		}
		f := NewInflater(Context{Takeover: true, Bits: 12})
		compressed := 0
		for _, want := range loadRecorded(t, "websocket_baseline", suffix) {
			h, n, err := ConsumeHeader(stream)
			if n == 0 || err != nil {
				t.Fatal(n, err)
			}
			data := make([]byte, h.Length)
			Mask(data, stream[n:n+len(data)], h.Mask, 0)
			stream = stream[n+len(data):]
			if h.RSV == 4 {
				compressed++
				if data, err = f.Inflate(1<<20, data); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(data, want.Data) {
				t.Errorf("%s: %q, want %q", suffix, data, want.Data)
			}
		}
		if compressed == 0 || len(stream) != 0 {
			t.Errorf("%s: %d compressed messages, %d bytes left", suffix, compressed, len(stream))
		}
	}
}
