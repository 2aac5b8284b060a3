package frames

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestMask(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 3))
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	src := make([]byte, 1030)
	for i := range src {
		src[i] = byte(rnd.Uint32())
	}
	for length := 0; length < 140; length++ {
		for pos := range 9 {
			for offset := range 4 { // alignment
				in := src[offset : offset+length]
				want := make([]byte, length)
				for i := range want {
					want[i] = in[i] ^ key[(pos+i)%4]
				}
				out := bytes.Repeat([]byte{0xee}, length+1)
				Mask(out, in, key, pos)
				if !bytes.Equal(out[:length], want) || out[length] != 0xee {
					t.Fatalf("length %d, pos %d, offset %d: % x, want % x", length, pos, offset, out, want)
				}
				same := bytes.Clone(in)
				Mask(same, same, key, pos)
				if !bytes.Equal(same, want) {
					t.Fatalf("in place, length %d, pos %d: % x, want % x", length, pos, same, want)
				}
			}
		}
	}
	// In pieces as in one.
	whole := make([]byte, len(src))
	Mask(whole, src, key, 0)
	pieces := make([]byte, len(src))
	for at := 0; at < len(src); {
		n := min(rnd.IntN(70), len(src)-at)
		Mask(pieces[at:], src[at:at+n], key, at)
		at += n
	}
	if !bytes.Equal(pieces, whole) {
		t.Error("in pieces it is different")
	}
}
