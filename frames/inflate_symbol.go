package frames

import "encoding/binary"

// codeLengths are the lengths of the codes of a dynamic block, while they are
// read (RFC 1951, Section 3.2.7).
type codeLengths struct {
	pre       int // lengths of the code for code lengths that are sent
	lit, dist int // lengths of the other codes that are sent
	have      int // lengths read so far
	ofCode    [19]uint8
	code      huffman
	lengths   [286 + 30]uint8
}

// preOrder is the order in which the code lengths for the code length alphabet
// are sent.
var preOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// start takes the 14 bits of HLIT, HDIST and HCLEN.
func (c *codeLengths) start(b uint64) {
	c.lit = 257 + int(b&31)
	c.dist = 1 + int(b>>5&31)
	c.pre = 4 + int(b>>10&15)
	c.have = 0
	c.ofCode = [19]uint8{}
}

func (d *decoder) precode() bool {
	c := &d.lengths
	// There are no more symbols than that.
	if c.lit > 286 || c.dist > 30 {
		return d.fail("has a block with too many codes")
	}
	for c.have < c.pre {
		d.fill()
		if d.n < 3 {
			return false
		}
		c.ofCode[preOrder[c.have]] = uint8(d.bits & 7)
		d.drop(3)
		c.have++
	}
	if !c.code.build(preBits, c.ofCode[:], preSymbols[:]) {
		return d.fail("has a block with an impossible code")
	}
	c.have = 0
	d.state = inLengths
	return true
}

func (d *decoder) codeLengths() bool {
	c := &d.lengths
	all := c.lengths[:c.lit+c.dist]
	for c.have < len(all) {
		d.fill()
		e := c.code.entries[d.bits&(1<<c.code.bits-1)]
		n := uint(e & 63)
		if n > d.n {
			return false
		}
		if e&isInvalid != 0 {
			return d.fail("has a code that means nothing")
		}
		if e>>16 < 16 {
			all[c.have] = uint8(e >> 16)
			c.have++
			d.drop(n)
			continue
		}
		var length uint8
		var extra, repeat uint
		switch e >> 16 {
		case 16: // "Copy the previous code length 3 - 6 times."
			if c.have == 0 {
				return d.fail("has a block that repeats a length before the first")
			}
			length, extra, repeat = all[c.have-1], 2, 3
		case 17: // "Repeat a code length of 0 for 3 - 10 times."
			extra, repeat = 3, 3
		case 18: // "Repeat a code length of 0 for 11 - 138 times"
			extra, repeat = 7, 11
		}
		if n+extra > d.n {
			return false
		}
		repeat += uint(d.bits>>n) & (1<<extra - 1)
		d.drop(n + extra)
		if int(repeat) > len(all)-c.have {
			return d.fail("has a block with too many lengths")
		}
		for ; repeat > 0; repeat-- {
			all[c.have] = length
			c.have++
		}
	}
	if !d.own.lit.build(litBits, all[:c.lit], litSymbols[:]) || !d.own.dist.build(distBits, all[c.lit:], distSymbols[:]) {
		return d.fail("has a block with an impossible code")
	}
	d.lit, d.dist = &d.own.lit, &d.own.dist
	d.state = inSymbols
	return true
}

// symbols decodes literals and matches up to the end of the block.
func (d *decoder) symbols() bool {
	// All of it in locals, which are written back at the end.
	src, pos, bits, n := d.src, d.pos, d.bits, d.n
	out, o := d.out, d.o
	lit, dist := d.lit.entries, d.dist.entries
	litBits, distBits := d.lit.bits, d.dist.bits
	litMask, distMask := uint64(1)<<litBits-1, uint64(1)<<distBits-1
	more := false

loop:
	for {
		if o > len(out)-matchRoom {
			d.o = o
			if !d.room() {
				break
			}
			out, o = d.out, d.o
		}
		if n < 48 { // the longest code of a length, its extra bits, and of a distance
			if len(src)-pos >= 8 { // as in fill
				bits |= binary.LittleEndian.Uint64(src[pos:]) << (n & 63)
				pos += int(63-n) >> 3
				n |= 56
			} else {
				for n < 56 && pos < len(src) {
					bits |= uint64(src[pos]) << (n & 63)
					pos++
					n += 8
				}
			}
		}

		e := lit[bits&litMask]
		if e&isSubtable != 0 {
			e = lit[uint64(e>>16)+bits>>(litBits&63)&(1<<(e&15)-1)]
		}
		used := uint(e & 63)
		if e&isLiteral != 0 {
			if used > n {
				break
			}
			out[o] = byte(e >> 16)
			o++
			bits >>= used & 63
			n -= used
			continue
		}
		if e&isSpecial != 0 {
			switch {
			case used > n:
			case e&isInvalid != 0:
				d.fault = "has a code that means nothing"
			default:
				bits >>= used & 63
				n -= used
				more = true
			}
			break loop
		}
		length := int(e>>16) + int(bits&(1<<used-1)>>(e>>8&15))

		rest := bits >> (used & 63)
		e = dist[rest&distMask]
		if e&isSubtable != 0 {
			e = dist[uint64(e>>16)+rest>>(distBits&63)&(1<<(e&15)-1)]
		}
		usedHere := uint(e & 63)
		used += usedHere
		if used > n {
			break
		}
		if e&isInvalid != 0 {
			d.fault = "has a code that means nothing"
			break
		}
		distance := int(e>>16) + int(rest&(1<<usedHere-1)>>(e>>8&15))
		bits = rest >> (usedHere & 63)
		n -= used

		from := o - distance
		end := o + length
		if from < 0 {
			if -from > d.window.len() {
				d.fault = "refers to what was never sent"
				break
			}
			o += d.window.copy(out[o:end], -from)
			from = 0
		}
		switch {
		case o-from >= 8:
			// Up to 7 bytes too many, which are overwritten by what comes next.
			for ; o < end; o, from = o+8, from+8 {
				binary.LittleEndian.PutUint64(out[o:], binary.LittleEndian.Uint64(out[from:]))
			}
		default:
			for o < end {
				o += copy(out[o:end], out[from:o])
			}
		}
		o = end
	}
	d.pos, d.bits, d.n, d.o = pos, bits, n, o
	return more && d.endBlock()
}
