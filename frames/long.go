package frames

import "errors"

// Stream makes the Reader take messages over hold in parts, so that it needs
// the same memory for any of them. It is called before the first Next.
//
// look is called, from within [Reader.Next], with the data of such a message,
// piece by piece, and before Next returns the part that a piece came with. The
// Message it gets has Opcode, Compressed and Data. It must not keep data. A text
// is UTF-8 so far, but for a character that may be incomplete at the end of the
// piece.
//
// A message over max bytes is too big, and so is one over 1 MiB that inflates
// to more than ratio times its payload. Zero is for any ratio; the format
// itself has no more than 1032. A max below hold counts as hold.
func (r *Reader) Stream(max, ratio int64, look func(Message)) {
	if max < r.hold {
		max = r.hold
	}
	r.look = look
	r.parts = caps{hold: r.hold, max: min(max, maxHold), ratio: ratio, look: r.show}
}

// Midframe reports whether what Next has returned so far ends within a frame, so
// that no other frame can follow.
func (r *Reader) Midframe() bool { return r.long.left > 0 }

// A long is a message over hold, of which every part goes as it comes.
type long struct {
	on     bool
	skip   bool // it was refused, and is passed over
	opcode Opcode
	// deflated tells that the message is compressed.
	deflated bool
	frames   int   // begun
	size     int64 // payload of these
	h        Header
	pos      int // in the payload of h
	left     int64
	text     utf8Pieces
	problem  *ProtocolError // to be reported
}

// begin makes the message that h belongs to a long one.
func (r *Reader) begin(h Header, skip bool) {
	if !r.seq.inside {
		r.opcode, r.deflated = h.Opcode, h.RSV == rsv1
	}
	r.long = long{on: true, skip: skip, opcode: r.opcode, deflated: r.deflated}
	if r.deflated {
		c := caps{}
		if !skip {
			c = r.parts
			c.hold = 0 // look sees all of it
		}
		r.inflater.begin(c, 0)
	}
	if r.seq.inside {
		r.long.frames, r.long.size = r.frames, int64(len(r.data.b))
		r.feed(r.data.b)
		r.data.free()
		r.data = nil
	}
	if skip {
		r.forget()
	}
}

// start takes the header of the next frame.
func (l *long) start(h Header) {
	l.h, l.pos, l.left = h, 0, h.Length
	if !l.skip {
		l.frames++
		l.size += h.Length // check has bounded it
	}
}

// part returns what there is of a long message: the header of a frame, if n is
// not 0, and of its payload as much as b has.
func (r *Reader) part(b []byte, n int) (Message, int, error) {
	l := &r.long
	k := int(min(l.left, int64(len(b)-n)))
	end := n + k
	if end == 0 {
		return Message{}, 0, nil
	}
	r.feed(r.unmask(l.h, b[n:end], l.pos))
	l.pos += k
	l.left -= int64(k)
	r.need = minHeader
	if l.left > 0 {
		r.need = 1
	}

	m := Message{Opcode: l.opcode, Wire: b[:end:end], Frames: l.frames, Compressed: r.deflated, Part: MorePart}
	if r.wire != nil { // the first part, with fragments that were held
		copy(r.wire.extend(end), b)
		m.Wire = r.wire.b
		r.complete = true
	}
	if l.left == 0 && l.h.Fin {
		m.Part = LastPart
		r.finish()
	}
	e := l.problem
	if e != nil {
		e.Header = l.h.Append(nil)
		if e.Code != MessageTooBig {
			return Message{}, 0, r.fail(e)
		}
		l.problem, l.skip = nil, true
	}
	if l.skip {
		m = Message{}
	}
	if l.left == 0 && l.h.Fin {
		*l = long{}
	}
	if e != nil {
		return m, end, e
	}
	return m, end, nil
}

// feed takes the next bytes of the payload of a long message, unmasked.
func (r *Reader) feed(payload []byte) {
	switch {
	case !r.deflated:
		r.show(payload)
	case !r.long.skip || r.inflater.takeover:
		r.note(r.inflater.write(payload))
	}
}

// finish ends a long message.
func (r *Reader) finish() {
	if !r.deflated {
		r.ended()
		return
	}
	if r.long.skip && !r.inflater.takeover {
		r.inflater.stop()
		r.inflater.Release()
		return
	}
	_, _, err := r.inflater.end()
	r.note(err)
	r.ended()
}

// show hands data to look.
func (r *Reader) show(data []byte) {
	l := &r.long
	if l.skip || l.problem != nil {
		return
	}
	if l.opcode == Text && !l.text.next(data) {
		l.problem = notUTF8()
		return
	}
	r.look(Message{Opcode: l.opcode, Compressed: l.deflated, Data: data})
}

// ended says that all was shown.
func (r *Reader) ended() {
	if l := &r.long; !l.skip && l.problem == nil && !l.text.complete() {
		l.problem = notUTF8()
	}
}

// note notes what the Inflater has to say.
func (r *Reader) note(err error) {
	if err == nil {
		return
	}
	l := &r.long
	var e *ProtocolError // on the heap, so not before there is an error
	switch {
	case errors.As(err, &e):
		c := *e
		l.problem = &c
	case !l.skip && l.problem == nil:
		l.problem = r.tooBig(" when inflated")
	}
}
