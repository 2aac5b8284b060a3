package frames

import (
	"encoding/binary"
	"math/bits"
)

// Mask XORs src with the masking key and puts the result into dst, which must
// be at least as long. dst may equal src, but must not overlap it otherwise.
// pos is the offset of src in its payload: "j = i MOD 4" (RFC 6455, Section
// 5.3). Masking and unmasking are the same operation.
func Mask(dst, src []byte, key [4]byte, pos int) {
	// Little-endian, so that the octet which comes first is the lowest one.
	k := uint64(bits.RotateLeft32(binary.LittleEndian.Uint32(key[:]), -8*(pos&3)))
	k |= k << 32

	dst = dst[:len(src)]
	// Conversions to array pointers need one bounds check for 32 bytes. All of
	// a step is read before any of it is written, for dst and src may be one.
	for len(src) >= 32 {
		s, d := (*[32]byte)(src), (*[32]byte)(dst)
		s0 := binary.LittleEndian.Uint64(s[0:8])
		s1 := binary.LittleEndian.Uint64(s[8:16])
		s2 := binary.LittleEndian.Uint64(s[16:24])
		s3 := binary.LittleEndian.Uint64(s[24:32])
		binary.LittleEndian.PutUint64(d[0:8], s0^k)
		binary.LittleEndian.PutUint64(d[8:16], s1^k)
		binary.LittleEndian.PutUint64(d[16:24], s2^k)
		binary.LittleEndian.PutUint64(d[24:32], s3^k)
		src, dst = src[32:], dst[32:]
	}
	for len(src) >= 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^k)
		src, dst = src[8:], dst[8:]
	}
	for i := range src {
		dst[i] = src[i] ^ byte(k)
		k >>= 8
	}
}
