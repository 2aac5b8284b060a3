package frames

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// maxFragments bounds the frames of one message. An empty fragment adds
// nothing to the size that hold bounds, but its header is held: 65536 of them
// are at most 896 KiB. A peer that sends a 64 MiB message in 1 KiB frames
// stays within it; those seen in real traffic have a few fragments.
const maxFragments = 1 << 16

// maxHold keeps every sum of lengths within an int, headers, fragments and the
// rounding up of buffers included.
const maxHold = math.MaxInt / 4

// A Reader cuts the bytes of one direction into messages. Its methods are for
// one goroutine at a time.
//
// A Reader needs no closing. One that is dropped inside a fragmented message
// leaves its buffers to the garbage collector.
type Reader struct {
	seq  sequence
	hold int64
	need int   // of Need
	err  error // of every further Next

	scratch *buffer // unmasked payload of a message that is one frame

	inflater *Inflater // nil unless permessage-deflate was agreed on

	// The fragmented message that is being received. Once it is complete it
	// stays for the caller to look at until the next call, which frees it.
	opcode   Opcode
	deflated bool
	frames   int
	data     *buffer
	wire     *buffer
	complete bool
}

// NewReader returns a Reader for the frames that go in direction dir.
//
// hold is the size of the largest data message that is let pass, in bytes of
// payload and inclusive. There is no value for "no limit": with zero or less,
// only empty messages pass. Control frames have their own limit of 125 bytes.
func NewReader(dir Direction, hold int64) *Reader {
	return &Reader{
		seq:  sequence{dir: dir},
		hold: min(max(hold, 0), maxHold),
		need: minHeader,
	}
}

// UseDeflate makes the Reader inflate compressed messages, as c was agreed for
// its direction ([Agree]). hold then bounds the inflated size of a compressed
// message; its payload may be longer by a quarter, as that of data which does
// not compress is. It is called before the first Next.
func (r *Reader) UseDeflate(c Context) {
	r.seq.deflate = true
	r.inflater = NewInflater(c)
}

// Next parses the frame at the start of b. It has one of these outcomes.
//
//   - n == 0, err == nil: b holds no whole frame. Call again with the same
//     bytes and more; [Reader.Need] tells how many it takes.
//   - n > 0, m.Opcode == [Continuation]: b[:n] was a fragment, which the Reader
//     now holds. m is the zero Message.
//   - n > 0, any other opcode: m is a control frame, which may have overtaken
//     held fragments, or a data message that is complete with b[:n]. If the
//     message is a single frame then m.Wire is b[:n] itself, and m.Data is a
//     part of it unless the frame is masked.
//   - err != nil: a [*ProtocolError]. Nothing is consumed, the held fragments
//     are gone, and every further call returns the same error.
//
// A header that is wrong, or that makes the message too big, is refused before
// its payload has arrived. The cost of a call that finds no whole frame does
// not depend on the length of b.
//
// Any frame after a Close frame is an error. Strictly, a peer that has sent
// Close still has to answer a Ping until it receives one (Section 5.5.2); a
// caller to whom this matters stops calling Next after Close and discards what
// follows, as Section 1.4 describes.
func (r *Reader) Next(b []byte) (m Message, n int, err error) {
	if r.err != nil {
		return Message{}, 0, r.err
	}
	if r.complete {
		r.forget()
	}

	h, n, err := ConsumeHeader(b)
	if err != nil {
		return Message{}, 0, r.fail(err)
	}
	if n == 0 {
		r.need = headerLength(b)
		return Message{}, 0, nil
	}
	if e := r.check(h); e != nil {
		e.Header = bytes.Clone(b[:n])
		return Message{}, 0, r.fail(e)
	}
	end := n + int(h.Length) // check has bounded it
	if len(b) < end {
		r.need = end
		return Message{}, 0, nil
	}

	r.need = minHeader
	wire, payload := b[:end:end], b[n:end:end]
	if h.Opcode.IsControl() || (h.Fin && !r.seq.inside) {
		m = Message{Opcode: h.Opcode, Data: r.unmask(h, payload), Wire: wire, Frames: 1, Compressed: h.RSV == rsv1}
	} else {
		r.take(h, wire, payload)
		if h.Fin {
			r.complete = true
			m = Message{Opcode: r.opcode, Data: r.data.b, Wire: r.wire.b, Frames: r.frames, Compressed: r.deflated}
		}
	}
	r.seq.advance(h)
	if e := r.inflate(&m); e != nil {
		e.Header = bytes.Clone(b[:n])
		return Message{}, 0, r.fail(e)
	}
	if e := m.check(); e != nil {
		e.Header = bytes.Clone(b[:n])
		return Message{}, 0, r.fail(e)
	}
	return m, end, nil
}

// Need returns, after Next returned n == 0 and no error, the least total
// length of b with which Next can go on: the rest of a header, or all of a
// frame whose header is known.
func (r *Reader) Need() int { return r.need }

// Pending reports whether a part of a fragmented message is being held.
func (r *Reader) Pending() bool { return r.seq.inside }

// Release ends the life of the last Message and gives what the Reader does not
// need while it is idle back to the pool. Fragments of a message that is still
// incomplete are kept.
func (r *Reader) Release() {
	r.scratch.free()
	r.scratch = nil
	if r.inflater != nil {
		r.inflater.Release()
	}
	if r.complete {
		r.forget()
	}
}

// check returns the violation that h would be as the next header, by the order
// of frames or by size, or nil.
func (r *Reader) check(h Header) *ProtocolError {
	if e := r.seq.check(h); e != nil || h.Opcode.IsControl() {
		return e
	}
	// Section 10.4: "Implementations that have implementation- and/or
	// platform-specific limitations regarding the frame size or total message
	// size after reassembly from multiple frames MUST protect themselves
	// against exceeding those limits."
	held := int64(0)
	if r.seq.inside {
		held = int64(len(r.data.b))
	}
	limit := r.hold
	if h.RSV == rsv1 || r.seq.inside && r.deflated {
		limit = deflateBound(limit)
	}
	if h.Length > limit-held { // and not a sum, which could overflow
		return violation(MessageTooBig, "10.4", fmt.Sprintf("message over %d bytes", r.hold))
	}
	if r.seq.inside && r.frames == maxFragments {
		return violation(MessageTooBig, "10.4", fmt.Sprintf("message over %d frames", maxFragments))
	}
	return nil
}

// deflateBound is how long a compressed message may be for one of n bytes: what
// does not compress gets longer, by the ninth bit of the fixed code and by the
// headers of blocks. The bound of zlib's deflateBound is a little over an
// eighth; a quarter leaves room for senders that flush often.
func deflateBound(n int64) int64 { return n + n/4 + 64 }

// inflate makes the data of a compressed message what the application sees.
func (r *Reader) inflate(m *Message) *ProtocolError {
	if !m.Compressed {
		return nil
	}
	data, err := r.inflater.Inflate(r.hold, m.Data)
	if err == nil {
		m.Data = data
		return nil
	}
	var e *ProtocolError // on the heap, so not before there is an error
	if errors.As(err, &e) {
		c := *e
		return &c
	}
	return violation(MessageTooBig, "10.4", fmt.Sprintf("message over %d bytes when inflated", r.hold))
}

// unmask returns the payload of a frame as the application sees it.
func (r *Reader) unmask(h Header, payload []byte) []byte {
	if !h.Masked || len(payload) == 0 {
		return payload
	}
	if r.scratch == nil || cap(r.scratch.b) < len(payload) {
		r.scratch.free()
		r.scratch = newBuffer(len(payload))
	}
	data := r.scratch.b[:len(payload):len(payload)]
	Mask(data, payload, h.Mask, 0)
	return data
}

// take adds one frame to the fragmented message.
func (r *Reader) take(h Header, wire, payload []byte) {
	if !r.seq.inside {
		r.opcode, r.deflated = h.Opcode, h.RSV == rsv1
		r.data, r.wire = newBuffer(len(payload)), newBuffer(len(wire))
	}
	r.frames++
	copy(r.wire.extend(len(wire)), wire)
	data := r.data.extend(len(payload))
	if h.Masked {
		Mask(data, payload, h.Mask, 0)
	} else {
		copy(data, payload)
	}
}

// forget frees the fragmented message.
func (r *Reader) forget() {
	r.data.free()
	r.wire.free()
	r.data, r.wire = nil, nil
	r.frames, r.complete = 0, false
}

// fail makes err the answer to every further call, and returns it.
func (r *Reader) fail(err error) error {
	r.err = err
	r.forget()
	r.Release()
	if r.inflater != nil {
		r.inflater.Close()
	}
	return err
}
