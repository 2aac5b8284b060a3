package frames

import (
	"bytes"
	"fmt"
	"testing"
)

func BenchmarkConsumeHeader(b *testing.B) {
	for _, length := range []int64{64, 1 << 10, 1 << 20} {
		wire := Header{Fin: true, Opcode: Text, Masked: true, Mask: [4]byte{1, 2, 3, 4}, Length: length}.Append(nil)
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			for b.Loop() {
				if _, n, err := ConsumeHeader(wire); n == 0 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkMask(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 64 << 10, 1 << 20} {
		src, dst, key := make([]byte, size), make([]byte, size), [4]byte{1, 2, 3, 4}
		b.Run(fmt.Sprint("words/", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				Mask(dst, src, key, 0)
			}
		})
		// What Section 5.3 says, literally, to compare with.
		b.Run(fmt.Sprint("bytes/", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				for i, c := range src {
					dst[i] = c ^ key[i%4]
				}
			}
		})
	}
}

// The messages lie in one buffer, as after one read from a busy connection.
// One iteration is one message.
func BenchmarkReader(b *testing.B) {
	for _, size := range []int{64, 1 << 10} {
		for _, dir := range []Direction{ToServer, ToClient} {
			name := fmt.Sprint(size, map[Direction]string{ToServer: "/masked", ToClient: "/unmasked"}[dir])
			b.Run(name, func(b *testing.B) {
				var queue []byte
				message := frame(dir, Text, true, string(bytes.Repeat([]byte{'x'}, size)))
				for len(queue)+len(message) <= 64<<10 {
					queue = append(queue, message...)
				}
				r := NewReader(dir, 1<<20)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				rest := queue
				for b.Loop() {
					if len(rest) == 0 {
						r.Release()
						rest = queue
					}
					_, n, err := r.Next(rest)
					if n == 0 || err != nil {
						b.Fatal(n, err)
					}
					rest = rest[n:]
				}
			})
		}
	}
}
