package frames

import "encoding/binary"

// A decoder reads the DEFLATE blocks of one message (RFC 1951, Section 3.2.3).
// It takes input in pieces that are cut anywhere: a step that has not all of
// its bits changes nothing, and since what is left of the piece is then in the
// bit buffer, it is tried again with the next one. No step needs more than 48
// bits, and the buffer takes 56.
//
// Output goes to one slice, so that a match is a copy within it. What came
// before the message is in the window.
type decoder struct {
	// Input. The bits above the n valid ones are zero or those that follow.
	src  []byte
	pos  int
	bits uint64
	n    uint

	// Output is out[:o], and dropped bytes that are gone from before it.
	f       *Inflater
	out     []byte // f.out
	o       int
	dropped int64
	seen    int // out[:seen] was shown to look, or is of no interest
	limit   int64
	window  *window // of f

	state     state
	final     bool   // BFINAL of the block
	fault     string // what is wrong with the input
	left      int    // of a stored block, in bytes
	lengths   codeLengths
	lit, dist *huffman
	own       struct{ lit, dist huffman } // of a dynamic block
}

// A state says what comes next.
type state uint8

const (
	atHeader  state = iota
	inStored        // the bytes of a stored block
	inPrecode       // lengths of the code for code lengths
	inLengths       // code lengths
	inSymbols       // literals and matches
)

const (
	maxWindow = 1 << maxWindowBits
	maxMatch  = 258
	matchRoom = maxMatch + 8 // a match is copied in words
	slideRoom = 4 * maxWindow
)

func newDecoder() any {
	d := new(decoder)
	d.own.lit.entries = make([]uint32, litEntries)
	d.own.dist.entries = make([]uint32, distEntries)
	d.lengths.code.entries = make([]uint32, 1<<preBits)
	return d
}

func (d *decoder) start(f *Inflater) {
	d.bits, d.n = 0, 0
	d.f, d.out, d.o, d.dropped, d.seen = f, f.out.b[:cap(f.out.b)], 0, 0, 0
	d.limit, d.window = f.caps.max, &f.window
	d.state, d.final, d.fault = atHeader, false, ""
}

// stop lets go of all that belongs to others.
func (d *decoder) stop() {
	d.src, d.f, d.out, d.window = nil, nil, nil, nil
}

// end decodes the end of the message.
func (d *decoder) end() {
	d.feed(inflateTail)
	// A receiver that does not look whether a message ends between two blocks
	// takes the beginning of the next one for the rest of this one, and sees
	// what nobody else does. That goes also for a payload with its tail still
	// on, and for one that ends with a block that has BFINAL set but without
	// the octet behind it (RFC 7692, Section 7.2.3.4: "This octet is
	// necessary").
	if d.fault == "" && (d.state != atHeader || d.n != 0) {
		d.fault = "ends within a block"
	}
}

// outcome is what has become of the message so far.
func (d *decoder) outcome() error {
	switch {
	case d.tooLarge() && (d.fault == "" || !d.f.takeover):
		return ErrTooLarge
	case d.fault != "":
		return &ProtocolError{
			Code:    InvalidPayload,
			Section: "RFC 7692, Section 7.2.2",
			Reason:  "compressed message " + d.fault,
		}
	}
	return nil
}

// feed decodes as much as it can of one more piece of the payload.
func (d *decoder) feed(src []byte) {
	d.src, d.pos = src, 0
	for more := d.fault == ""; more; {
		switch d.state {
		case atHeader:
			more = d.header()
		case inStored:
			more = d.stored()
		case inPrecode:
			more = d.precode()
		case inLengths:
			more = d.codeLengths()
		case inSymbols:
			more = d.symbols()
		}
	}
}

// The steps report whether to go on. If not, either the input is used up, or
// there is a fault, or no more output is wanted.

func (d *decoder) fail(fault string) bool {
	d.fault = fault
	return false
}

// header reads the header of a block, and for a stored block its length.
func (d *decoder) header() bool {
	d.fill()
	if d.n < 3 {
		return false
	}
	switch d.bits >> 1 & 3 {
	case 0:
		// "Any bits of input up to the next byte boundary are ignored."
		pad := 3 + (d.n-3)&7
		if d.n < pad+32 {
			return false
		}
		length := uint32(d.bits >> pad)
		if length&0xffff != ^length>>16 {
			return d.fail("has a stored block with a wrong length")
		}
		d.final = d.bits&1 != 0
		d.drop(pad + 32)
		d.left = int(length & 0xffff)
		d.state = inStored
	case 1:
		d.final = d.bits&1 != 0
		d.drop(3)
		d.lit, d.dist = &fixed.lit, &fixed.dist
		d.state = inSymbols
	case 2:
		if d.n < 3+14 {
			return false
		}
		d.final = d.bits&1 != 0
		d.lengths.start(d.bits >> 3)
		d.drop(3 + 14)
		d.state = inPrecode
	case 3: // "reserved (error)"
		return d.fail("has a block of reserved type")
	}
	return true
}

// endBlock is the end of a block.
func (d *decoder) endBlock() bool {
	// RFC 7692, Section 7.2.1: "When any DEFLATE block with the "BFINAL" bit
	// set to 1 doesn't end at a byte boundary, an endpoint MUST add minimal
	// padding bits of 0 to make it end at a byte boundary. The next DEFLATE
	// block follows the padded data if any."
	if d.final {
		d.drop(d.n & 7)
	}
	d.state = atHeader
	return true
}

func (d *decoder) stored() bool {
	for d.left > 0 {
		if d.o > len(d.out)-matchRoom && !d.room() {
			return false
		}
		// The header ended at a byte boundary.
		if d.n > 0 {
			d.out[d.o] = byte(d.bits)
			d.drop(8)
			d.o++
			d.left--
			continue
		}
		d.bits = 0
		n := copy(d.out[d.o:], d.src[d.pos:min(d.pos+d.left, len(d.src))])
		if n == 0 {
			return false
		}
		d.pos += n
		d.o += n
		d.left -= n
	}
	return d.endBlock()
}

// fill takes bits until there are 56 at least, or no more.
func (d *decoder) fill() {
	if len(d.src)-d.pos >= 8 {
		// A few of the bits that this puts above the new n stay there, and
		// are put there again.
		d.bits |= binary.LittleEndian.Uint64(d.src[d.pos:]) << (d.n & 63)
		d.pos += int(63-d.n) >> 3
		d.n |= 56
		return
	}
	for d.n < 56 && d.pos < len(d.src) {
		d.bits |= uint64(d.src[d.pos]) << (d.n & 63)
		d.pos++
		d.n += 8
	}
}

func (d *decoder) drop(n uint) {
	d.bits >>= n & 63
	d.n -= n
}

// tooLarge reports whether there is more output than is allowed.
func (d *decoder) tooLarge() bool { return d.size() > d.limit }

// size is how much was decoded so far.
func (d *decoder) size() int64 { return d.dropped + int64(d.o) }

// room makes room for one more match. It reports false if nobody wants more.
func (d *decoder) room() bool {
	large := d.tooLarge()
	if !large && 2*len(d.out) > slideRoom && d.keeps() && !d.f.allowed() {
		d.f.caps, d.limit = caps{}, 0
		large = true
	}
	if large && !d.f.takeover {
		return false
	}
	if d.o > maxWindow && (large || !d.keeps()) {
		if !large {
			d.f.caps.look(d.out[d.seen:d.o])
		}
		d.slide()
		return true
	}
	d.grow(2 * len(d.out))
	return true
}

// keeps reports whether the output is kept as it grows.
func (d *decoder) keeps() bool {
	return d.o <= maxWindow || d.f.caps.look == nil || d.size() <= d.f.caps.hold
}

// slide drops all output but the window. From now on that is done often, in a
// small buffer.
func (d *decoder) slide() {
	d.dropped += int64(d.o - maxWindow)
	last := d.out[d.o-maxWindow : d.o]
	if len(d.out) == slideRoom {
		d.o = copy(d.out, last)
	} else {
		b := newBuffer(slideRoom)
		d.o = copy(b.b[:cap(b.b)], last)
		d.f.out.free()
		d.f.out, d.out = b, b.b[:cap(b.b)]
	}
	d.seen = d.o
}

// pause drops all output but the window, if look has seen it, and room that is
// not needed.
func (d *decoder) pause() {
	if d.seen < d.o || len(d.out) <= maxWindow {
		return
	}
	keep := min(d.o, maxWindow)
	last := d.out[d.o-keep : d.o]
	b := newBuffer(keep + matchRoom)
	d.dropped += int64(d.o - keep)
	d.o = copy(b.b[:cap(b.b)], last)
	d.seen = d.o
	d.f.out.free()
	d.f.out, d.out = b, b.b[:cap(b.b)]
}

func (d *decoder) grow(n int) {
	d.f.out.b = d.out[:d.o]
	d.f.out.extend(n - d.o)
	d.out = d.f.out.b[:cap(d.f.out.b)]
}
