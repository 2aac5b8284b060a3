package frames

import (
	"bytes"
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
	need int    // of Need
	next Header // that Need is about, if it is the rest of a frame
	err  error  // of every further Next

	refuse bool // of Refuse

	scratch *buffer // unmasked payload of a message that is one frame

	inflater *Inflater // nil unless permessage-deflate was agreed on

	// Messages over hold are taken in parts if there is a look; otherwise they
	// are refused.
	parts caps
	look  func(Message)
	long  long // the message over hold that is being received

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
//     now holds, or something to be passed over after an error. m is the zero
//     Message.
//   - n > 0, any other opcode: m is a control frame, which may have overtaken
//     held fragments, or a data message that is complete with b[:n], or with
//     [Reader.Stream] a part of one. If the message is a single frame then
//     m.Wire is b[:n] itself, and m.Data is a part of it unless the frame is
//     masked.
//   - err != nil: a [*ProtocolError]; the held fragments are gone. If its code
//     is [MessageTooBig], then the Reader is still in step: called with b[n:],
//     it passes over the rest of that message and reads those that follow. Any
//     other error is that of every further call.
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
	if r.long.left > 0 {
		return r.part(b, 0)
	}

	h, n, err := ConsumeHeader(b)
	if err != nil {
		return Message{}, 0, r.fail(err)
	}
	if n == 0 {
		r.need = headerLength(b)
		return Message{}, 0, nil
	}
	if e := r.seq.check(h); e != nil {
		e.Header = bytes.Clone(b[:n])
		return Message{}, 0, r.fail(e)
	}
	if !h.Opcode.IsControl() {
		if e := r.check(h); e != nil {
			e.Header = bytes.Clone(b[:n])
			return Message{}, 0, e
		}
		if r.long.on {
			r.long.start(h)
			r.seq.advance(h)
			return r.part(b, n)
		}
	}
	end := n + int(h.Length) // check has bounded it
	if len(b) < end {
		r.need, r.next = end, h
		return Message{}, 0, nil
	}

	r.need = minHeader
	wire, payload := b[:end:end], b[n:end:end]
	if h.Opcode.IsControl() || (h.Fin && !r.seq.inside) {
		m = Message{Opcode: h.Opcode, Data: r.unmask(h, payload, 0), Wire: wire, Frames: 1, Compressed: h.RSV == rsv1}
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
		if e.Code == MessageTooBig { // all of it is here, and inflated
			r.forget()
			return Message{}, end, e
		}
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

// Held returns how many bytes of fragments the Reader holds, as they were
// received. As many are held of them unmasked, but for the headers.
func (r *Reader) Held() int {
	if r.wire == nil {
		return 0
	}
	return len(r.wire.b)
}

// Most returns how many bytes the message may come to at most that Held or Need
// speak of: as received, unmasked, and if it is compressed also inflated. Of
// fragments nobody knows before the last how many there will be, so that they
// count as one that is as long as hold allows.
func (r *Reader) Most() int64 {
	h, limit := r.next, r.hold
	if r.seq.inside {
		h.Fin, h.RSV = false, 0
		if r.deflated {
			h.RSV = rsv1
		}
	}
	if h.RSV == rsv1 {
		limit = deflateBound(limit)
	}
	n := 2 * limit
	if h.Fin {
		n = 2 * h.Length
	}
	if h.RSV == rsv1 {
		n += r.hold
	}
	return n
}

// LimitInflation makes the Reader call allow before the data of a message is
// inflated beyond 128 KiB, and only then. If allow reports false, the message is
// too big.
func (r *Reader) LimitInflation(allow func() bool) {
	if r.inflater != nil {
		r.inflater.ask = allow
	}
}

// Refuse makes the Reader pass over all data messages from here on, also over
// the rest of one that has begun, without holding or inflating any of it. Next
// returns them as [Continuation]. Control frames are read as ever.
func (r *Reader) Refuse() {
	if r.refuse {
		return
	}
	r.refuse = true
	r.need = minHeader
	if r.inflater != nil {
		r.inflater.takeover = false // nobody will build on what is not inflated
	}
	switch l := &r.long; {
	case l.on:
		l.skip = true
	case r.seq.inside:
		*l = long{on: true, skip: true, opcode: r.opcode}
		r.deflated = false
		r.forget()
	}
}

// Pending reports whether a message has begun that is not complete.
func (r *Reader) Pending() bool { return r.seq.inside || r.long.on }

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

// check returns the violation that h would be by the size of its message, or
// nil. It makes a message that gets over hold a long one.
func (r *Reader) check(h Header) *ProtocolError {
	// Section 10.4: "Implementations that have implementation- and/or
	// platform-specific limitations regarding the frame size or total message
	// size after reassembly from multiple frames MUST protect themselves
	// against exceeding those limits."
	l := &r.long
	if l.skip {
		return nil
	}
	if r.refuse {
		r.begin(h, true)
		return nil
	}
	size, count, limit := int64(0), 0, r.hold
	switch {
	case l.on:
		size, count, limit = l.size, l.frames, r.parts.max
	case r.seq.inside:
		size, count = int64(len(r.data.b)), r.frames
	}
	if h.RSV == rsv1 || r.seq.inside && r.deflated {
		limit = deflateBound(limit)
	}
	var e *ProtocolError
	switch {
	case count == maxFragments:
		e = violation(MessageTooBig, "10.4", fmt.Sprintf("message over %d frames", maxFragments))
	case h.Length <= limit-size: // and not a sum, which could overflow
		return nil
	case r.look != nil && !l.on:
		r.begin(h, false)
		return r.check(h) // by the other limit
	default:
		e = r.tooBig("")
	}
	if l.on {
		l.skip = true
	} else {
		r.begin(h, true)
	}
	return e
}

// tooBig is the violation of a message over the last limit.
func (r *Reader) tooBig(when string) *ProtocolError {
	limit := r.hold
	if r.look != nil {
		limit = r.parts.max
	}
	return violation(MessageTooBig, "10.4", fmt.Sprintf("message over %d bytes%s", limit, when))
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
	c := caps{hold: r.hold, max: r.hold}
	if r.look != nil {
		c = r.parts
	}
	l := &r.long
	l.opcode, l.deflated = m.Opcode, true
	r.inflater.begin(c, len(m.Data))
	r.note(r.inflater.write(m.Data))
	data, looked, err := r.inflater.end()
	r.note(err)
	r.ended()
	if m.Data = data; looked {
		m.Part = LastPart
	}
	e := l.problem
	*l = long{}
	return e
}

// unmask returns payload, which begins at pos of that of a frame, as the
// application sees it.
func (r *Reader) unmask(h Header, payload []byte, pos int) []byte {
	if !h.Masked || len(payload) == 0 {
		return payload
	}
	if r.scratch == nil || cap(r.scratch.b) < len(payload) {
		r.scratch.free()
		r.scratch = newBuffer(len(payload))
	}
	data := r.scratch.b[:len(payload):len(payload)]
	Mask(data, payload, h.Mask, pos)
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
	r.long = long{}
	r.Release()
	if r.inflater != nil {
		r.inflater.Close()
	}
	return err
}
