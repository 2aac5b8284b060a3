package frames

import "math/bits"

// A huffman is a Huffman code as a table to look up the next bits in (RFC
// 1951, Section 3.2.2). An entry says all about its symbol, in 32 bits:
//
//	16 to 31  the literal, the least length or distance, or where a subtable is
//	12 to 15  what it is, one of the kinds below; none: a length or distance
//	8 to 11   bits of the code
//	0 to 7    bits of the code and the extra bits behind it
//
// Codes longer than the table has bits share an entry that leads to a
// subtable. In it, bits 0 to 7 are the bits to look up there.
type huffman struct {
	bits    uint
	entries []uint32
}

const (
	isLiteral  = 1 << 15
	isEnd      = 1 << 14
	isSubtable = 1 << 13
	isInvalid  = 1 << 12
	isSpecial  = isEnd | isSubtable | isInvalid
)

// The bits of the first table, and the entries that it and its subtables may
// need for as many symbols and codes of 15 bits, as computed by enough.c of
// zlib.
const (
	maxCode     = 15
	preBits     = 7 // no code is longer
	litBits     = 9
	litEntries  = 852 // enough 286 9 15
	distBits    = 8
	distEntries = 402 // enough 32 8 15
)

// The entries of all symbols, without the bits of their codes.
var litSymbols, distSymbols, preSymbols = symbols()

func symbols() (lit [288]uint32, dist [32]uint32, pre [19]uint32) {
	for i := range pre {
		pre[i] = uint32(i) << 16
	}
	// "Literal/length values 286-287 will never actually occur in the
	// compressed data, but participate in the code construction", and so do
	// distance codes 30 and 31.
	for i := range lit {
		lit[i] = isInvalid
	}
	for i := range dist {
		dist[i] = isInvalid
	}
	for i := range 256 {
		lit[i] = uint32(i)<<16 | isLiteral
	}
	lit[256] = isEnd
	// Section 3.2.5: lengths come in groups of 4 codes with as many extra
	// bits, distances in groups of 2. The first group but one is like the
	// first; and the last length, 258, has a code to itself.
	for i, base := 0, uint32(3); i < 28; i++ {
		extra := uint32(max(i/4-1, 0))
		lit[257+i] = base<<16 | extra
		base += 1 << extra
	}
	lit[285] = maxMatch << 16
	for i, base := 0, uint32(1); i < 30; i++ {
		extra := uint32(max(i/2-1, 0))
		dist[i] = base<<16 | extra
		base += 1 << extra
	}
	return lit, dist, pre
}

// fixed are the codes of Section 3.2.6.
var fixed = func() (f struct{ lit, dist huffman }) {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	f.lit.entries = make([]uint32, 1<<9)
	f.lit.build(9, lengths[:], litSymbols[:])
	for i := range 32 {
		lengths[i] = 5
	}
	f.dist.entries = make([]uint32, 1<<5)
	f.dist.build(5, lengths[:32], distSymbols[:])
	return f
}()

// build makes h the code whose lengths are given: those of the symbols in
// their order, zero for one that does not occur. It reports false if there is
// no such code, or one that leaves bits without a meaning; of these, zlib and
// Go accept one symbol of one bit or none at all.
func (h *huffman) build(maxBits uint, lengths []uint8, symbols []uint32) bool {
	var count, offset [maxCode + 2]uint16
	for _, n := range lengths {
		count[n]++
	}
	longest := uint(maxCode)
	for longest > 0 && count[longest] == 0 {
		longest--
	}
	free := 1 // codes of the length that no shorter one is a prefix of
	for n := uint(1); n <= longest; n++ {
		free = free<<1 - int(count[n])
		if free < 0 {
			return false
		}
		offset[n+1] = offset[n] + count[n]
	}
	if free > 0 && longest > 1 {
		return false
	}

	// The symbols in the order of their codes.
	var sorted [288]uint16
	for symbol, n := range lengths {
		if n != 0 {
			sorted[offset[n]] = uint16(symbol)
			offset[n]++
		}
	}

	h.bits = min(longest, maxBits)
	if free > 0 { // no symbol, or one whose code is 0
		h.bits = 1
		h.entries[0] = isInvalid | 1<<8 | 1
		h.entries[1] = isInvalid | 1<<8 | 1
		if longest == 1 {
			h.entries[0] = symbols[sorted[0]] + (1<<8 | 1)
		}
		return true
	}

	// Codes come with their most significant bit first, so that the low bits
	// that the table is indexed by are the first of the code: code is one with
	// its bits in reverse. The table for codes of n bits is made of two times
	// that for n-1 bits.
	code, used := uint(0), 0
	filled := 1 // entries
	for n := uint(1); n <= h.bits; n++ {
		copy(h.entries[filled:2*filled], h.entries[:filled])
		filled *= 2
		for range count[n] {
			h.entries[code] = symbols[sorted[used]] + uint32(n<<8|n)
			used++
			code = nextCode(code, n)
		}
	}

	// Longer ones: a subtable for each run of codes that begin alike.
	prefix, sub, subBits := ^uint(0), 0, uint(0)
	for n := h.bits + 1; n <= longest; n++ {
		for left := int(count[n]); left > 0; left-- {
			if p := code & (1<<h.bits - 1); p != prefix {
				// It has to hold all codes up to the length at which no code
				// with this prefix is left.
				prefix, sub, subBits = p, filled, n-h.bits
				for room := 1<<subBits - left; room > 0 && h.bits+subBits < longest; {
					subBits++
					room = room<<1 - int(count[h.bits+subBits])
				}
				filled += 1 << subBits
				h.entries[p] = uint32(sub)<<16 | isSubtable | uint32(subBits)
			}
			entry := symbols[sorted[used]] + uint32(n<<8|n)
			for i := code >> h.bits; i < 1<<subBits; i += 1 << (n - h.bits) {
				h.entries[sub+int(i)] = entry
			}
			used++
			code = nextCode(code, n)
		}
	}
	return true
}

// nextCode adds one to a code of n bits, which are in reverse.
func nextCode(code, n uint) uint {
	// The carry clears the ones at the top and sets the zero below them.
	zeros := code ^ (1<<n - 1)
	if zeros == 0 {
		return 0
	}
	top := uint(1) << (bits.Len(zeros) - 1)
	return code&(top-1) | top
}
