//go:build !race

// Under the race detector sync.Pool drops some of what it is given, on purpose.

package frames

import (
	"strings"
	"testing"
)

func TestNoAllocations(t *testing.T) {
	kilobyte := strings.Repeat("0123456789abcdef", 64)
	streams := map[string]func(Direction) []byte{
		"small text":  func(d Direction) []byte { return frame(d, Text, true, kilobyte[:64]) },
		"1 KiB text":  func(d Direction) []byte { return frame(d, Text, true, kilobyte) },
		"64 KiB":      func(d Direction) []byte { return frame(d, Binary, true, strings.Repeat(kilobyte, 64)) },
		"control":     func(d Direction) []byte { return frame(d, Ping, true, "ping") },
		"fragmented":  func(d Direction) []byte { return fragmented(d, kilobyte) },
		"many pieces": func(d Direction) []byte { return fragmented(d, strings.Split(strings.Repeat(kilobyte, 8), "c")...) },
	}
	for name, stream := range streams {
		for _, dir := range []Direction{ToServer, ToClient} {
			for _, idle := range []bool{false, true} {
				b, r := stream(dir), NewReader(dir, 1<<20)
				allocs := testing.AllocsPerRun(200, func() {
					for rest := b; len(rest) > 0; {
						_, n, err := r.Next(rest[:len(rest)/2])
						if n == 0 && err == nil {
							_, n, err = r.Next(rest)
						}
						if n == 0 || err != nil {
							t.Fatalf("%d, %v", n, err)
						}
						rest = rest[n:]
					}
					if idle {
						r.Release()
					}
				})
				if allocs != 0 {
					t.Errorf("%s, %v, released %v: %v allocations", name, dir, idle, allocs)
				}
			}
		}
	}
}

func TestDeflateNoAllocations(t *testing.T) {
	contexts, messages := zlibDirections(t)
	for name, context := range contexts {
		for _, dir := range []Direction{ToServer, ToClient} {
			for _, idle := range []bool{false, true} {
				stream, _ := framed(dir, messages[name])
				r := deflateReader(dir, 1<<20, context)
				run := func() {
					for rest := stream; len(rest) > 0; {
						_, n, err := r.Next(rest)
						if n == 0 || err != nil {
							t.Fatalf("%s: %d, %v", name, n, err)
						}
						rest = rest[n:]
						if idle {
							r.Release()
						}
					}
				}
				// The steady state is that of a window which is full.
				for run(); context.Takeover && r.inflater.window.len() < 1<<context.Bits; {
					run()
				}
				if allocs := testing.AllocsPerRun(20, run); allocs != 0 {
					t.Errorf("%s, %v, released %v: %v allocations", name, dir, idle, allocs)
				}
			}
		}
	}
}

// fragmented returns a message in as many frames as there are parts, with an
// empty one at its end and a ping before it.
func fragmented(dir Direction, parts ...string) (b []byte) {
	op := Text
	for _, part := range parts {
		b = append(b, frame(dir, op, false, part)...)
		op = Continuation
	}
	b = append(b, frame(dir, Ping, true, "ping")...)
	return append(b, frame(dir, op, true, "")...)
}
