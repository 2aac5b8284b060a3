package mitm

import (
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"framegate/frames"
)

// choices lead a generator: a seeded source, or the input of a fuzz target.
type choices interface{ IntN(n int) int }

// A generator makes a lawful stream of one direction.
type generator struct {
	choices
	dir      frames.Direction
	deflater *deflater // nil: permessage-deflate was not agreed on
	stream   []sent
	data     []string // the data messages, as the application sees them
}

// Lengths on either side of where the encoding of a length changes.
var (
	shortLengths = []int{0, 1, 2, 124, 125, 126, 127, 1000}
	longLengths  = []int{65534, 65535, 65536, 65537}
)

// length returns one of them, rarely a long one.
func (g *generator) length() int {
	if g.IntN(8) == 7 {
		return longLengths[g.IntN(len(longLengths))]
	}
	return shortLengths[g.IntN(len(shortLengths))]
}

// next adds a data message or a control frame.
func (g *generator) next() {
	if g.IntN(4) == 3 {
		g.control()
		return
	}
	n := g.length()
	op, data := frames.Text, g.text(n)
	if g.IntN(2) == 1 {
		op, data = frames.Binary, g.noise(n)
	}
	g.message(op, data, g.deflater != nil && g.IntN(2) == 1, g.IntN(5))
}

// message adds a data message, with so many fragments before the last one, and
// control frames after some of them.
func (g *generator) message(op frames.Opcode, data string, compress bool, fragments int) {
	h, payload := frames.Header{Opcode: op}, data
	if compress {
		h.RSV, payload = 4, g.compress(data)
	}
	for range fragments {
		n := 0
		switch g.IntN(3) {
		case 1:
			n = g.IntN(len(payload) + 1)
		case 2:
			n = min(len(payload), g.length())
		}
		g.frame(h, payload[:n])
		h, payload = frames.Header{Opcode: frames.Continuation}, payload[n:]
		for g.IntN(3) == 2 {
			g.control()
		}
	}
	h.Fin = true
	g.frame(h, payload)
	g.data = append(g.data, data)
}

// control adds a Ping or a Pong.
func (g *generator) control() {
	h := frames.Header{Fin: true, Opcode: frames.Ping + frames.Opcode(g.IntN(2))}
	g.frame(h, g.noise([]int{0, 1, 124, 125}[g.IntN(4)]))
}

// end adds a frame by which the end of the stream is known: all that should not
// have arrived did so before it, unless it is in front of the next stream.
func (g *generator) end() { g.frame(frames.Header{Fin: true, Opcode: frames.Ping}, "end") }

func (g *generator) frame(h frames.Header, payload string) {
	if h.Masked = g.dir == frames.ToServer; h.Masked {
		for i := range h.Mask {
			h.Mask[i] = byte(g.IntN(256))
		}
	}
	g.stream = append(g.stream, sent{h.Opcode, h.Fin, frames.AppendFrame(nil, h, []byte(payload))})
}

// compress makes data a compressed payload, of one block or several, at times
// with a last one that says so (RFC 7692, Sections 7.2.1 and 7.2.3.4).
func (g *generator) compress(data string) string {
	d := g.deflater
	switch g.IntN(4) {
	case 2:
		n := g.IntN(len(data) + 1)
		return d.compress(data[:n]) + "\x00\x00\xff\xff" + d.compress(data[n:])
	case 3:
		d.out.Reset()
		d.w.Reset(&d.out)
		io.WriteString(d.w, data)
		d.w.Close()
		b := d.out.String() + "\x00"
		d.w.Reset(&d.out)
		return b
	}
	return d.compress(data)
}

// Text with characters of every length, and what does not compress.
var (
	prose = strings.Repeat("aé€🙂", 7000)
	noise = func() string {
		b := make([]byte, len(prose))
		rand.NewChaCha8([32]byte{}).Read(b)
		return string(b)
	}()
)

// text returns n bytes of UTF-8.
func (g *generator) text(n int) string {
	start := []int{0, 1, 3, 6}[g.IntN(4)] // the characters of prose
	end := start + n
	for !utf8.RuneStart(prose[end]) {
		end--
	}
	end = max(start, end)
	return prose[start:end] + strings.Repeat("z", n-(end-start))
}

// noise returns n bytes of anything.
func (g *generator) noise(n int) string {
	start := g.IntN(256)
	return noise[start : start+n]
}

// wire returns the stream as it is sent.
func (g *generator) wire() (b []byte) {
	for _, f := range g.stream {
		b = append(b, f.wire...)
	}
	return b
}

// pieces cuts the stream where c says, in at most n+1 pieces, mostly inside
// headers or near.
func (g *generator) pieces(c choices, n int) (list [][]byte) {
	whole := g.wire()
	var starts, cuts []int
	at := 0
	for _, f := range g.stream {
		starts, at = append(starts, at), at+len(f.wire)
	}
	for range min(n, len(starts)) {
		cut := starts[c.IntN(len(starts))] + c.IntN(16)
		if c.IntN(4) == 3 {
			cut = c.IntN(len(whole))
		}
		cuts = append(cuts, min(cut, len(whole)))
	}
	slices.Sort(cuts)
	from := 0
	for _, to := range append(cuts, len(whole)) {
		if to > from {
			list = append(list, whole[from:to])
		}
		from = to
	}
	return list
}
