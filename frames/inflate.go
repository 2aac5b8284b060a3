package frames

import (
	"errors"
	"sync"
)

// ratioFloor is how much a message may inflate to before its ratio counts. A
// small one may well be a short reference to a long message before it.
const ratioFloor = 1 << 20

// ErrTooLarge is the outcome of a message that inflates to more than was
// allowed. The next message of the same [Inflater] is readable all the same.
var ErrTooLarge = errors.New("inflated message over the limit")

// inflateTail is what the sender has cut off. RFC 7692, Section 7.2.2: "Append
// 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the
// message."
var inflateTail = []byte{0x00, 0x00, 0xff, 0xff}

// An Inflater decompresses the messages of one direction (RFC 7692, Section
// 7.2.2). Its methods are for one goroutine at a time.
//
// Between messages it holds the last one it returned, until Release, and with
// context takeover the window: a buffer for the bytes seen so far, up to the
// size agreed on. All else is borrowed from a pool for the time of a message.
// An Inflater that is dropped without Close leaves its buffers to the garbage
// collector.
type Inflater struct {
	takeover bool
	window   window
	out      *buffer
	err      error // of every further call

	ask   func() bool // may a message get more than slideRoom? nil: yes
	asked bool        // and the answer for this one was yes

	decoder *decoder // of the message that has begun and not ended
	caps    caps     // of that message
	fed     int64    // bytes of its payload so far
}

// caps bound one message, in bytes inflated.
type caps struct {
	hold  int64             // what is over it goes to look
	max   int64             // and what is over this nowhere
	ratio int64             // over hold and ratioFloor, max for each byte of payload; 0: any
	look  func(data []byte) // if nil, max is no more than hold
}

// NewInflater returns an Inflater for the direction that c was agreed for. Bits
// out of range count as the nearest that is in it.
func NewInflater(c Context) *Inflater {
	bits := min(max(c.Bits, minWindowBits), maxWindowBits)
	return &Inflater{takeover: c.Takeover, window: window{size: 1 << bits}}
}

// Inflate returns the data of the next message, whose payload may come in
// pieces, one for each frame, say. The data is good until the next call of any
// method. It is at most limit bytes, which are counted while inflating.
//
// An error is [ErrTooLarge] or a [*ProtocolError]. After ErrTooLarge the
// message is lost but the direction is in step: where later messages may refer
// to it, the rest of it was inflated as well, in constant memory. After a
// ProtocolError the direction is lost, since nobody knows the window of the
// receiver; every further call returns the same error.
func (f *Inflater) Inflate(limit int64, payload ...[]byte) ([]byte, error) {
	size := 0
	for _, p := range payload {
		size += len(p)
	}
	limit = max(limit, 0)
	f.begin(caps{hold: limit, max: limit}, size)
	for _, p := range payload {
		f.write(p) // end has the outcome
	}
	data, _, err := f.end()
	return data, err
}

// begin begins a message whose payload has size bytes, or so.
func (f *Inflater) begin(c caps, size int) {
	if f.err != nil {
		return
	}
	f.asked = false
	if f.out == nil {
		// Text shrinks to a third or so; and a limit is no reason for a buffer
		// that is larger than the message needs.
		n := int(min(4*int64(size), c.hold, 1<<20-matchRoom)) + matchRoom
		if n > slideRoom && !f.allowed() {
			n, c = slideRoom, caps{}
		}
		f.out = newBuffer(n)
	}
	f.caps, f.fed = c, 0
	f.decoder = decoders.Get().(*decoder)
	f.decoder.start(f)
}

// allowed reports whether the message may get more than slideRoom, which is what
// one needs of which the data is not kept.
func (f *Inflater) allowed() bool {
	if f.ask != nil && !f.asked {
		f.asked = f.ask()
		return f.asked
	}
	return true
}

// write takes a piece of the payload of the message. Its outcome is that of the
// message so far.
func (f *Inflater) write(payload []byte) error {
	if f.err != nil {
		return f.err
	}
	c, d := &f.caps, f.decoder
	f.fed += int64(len(payload))
	d.limit = c.max
	if c.ratio > 0 && f.fed <= c.max/c.ratio {
		d.limit = min(c.max, max(f.fed*c.ratio, ratioFloor))
	}
	d.feed(payload)
	if err := d.outcome(); err != nil {
		return f.fail(err)
	}
	if d.size() > c.hold {
		c.look(d.out[d.seen:d.o])
		d.seen = d.o
	}
	return nil
}

// end ends the message. If it is over hold then look has seen all of it, and
// data is nil.
func (f *Inflater) end() (data []byte, looked bool, err error) {
	if f.err != nil {
		return nil, false, f.err
	}
	d := f.decoder
	d.end()
	err = d.outcome()
	data, looked = d.out[:d.o:d.o], d.size() > f.caps.hold
	if f.takeover && (err == nil || err == ErrTooLarge) {
		f.window.append(data)
	}
	if looked && err == nil {
		f.caps.look(d.out[d.seen:d.o])
	}
	f.stop()
	if err != nil {
		f.Release()
		return nil, false, f.fail(err)
	}
	if looked {
		f.Release()
		return nil, true, nil
	}
	return data, false, nil
}

// fail makes err, unless it is ErrTooLarge, that of every further call.
func (f *Inflater) fail(err error) error {
	if err != ErrTooLarge {
		f.err = err
		f.Close()
	}
	return err
}

// stop gives the decoder back.
func (f *Inflater) stop() {
	if f.decoder != nil {
		f.decoder.stop()
		decoders.Put(f.decoder)
		f.decoder, f.caps.look = nil, nil
	}
}

// Release ends the life of what Inflate returned and gives it back to the
// pool. The window is kept, and of a message of which only a part has come what
// the rest may refer to.
func (f *Inflater) Release() {
	if f.decoder == nil {
		f.out.free()
		f.out = nil
	} else if f.caps.look != nil {
		f.decoder.pause()
	}
}

// Close gives everything back to the pool. After it, Inflate takes what comes
// for the first message of a direction.
func (f *Inflater) Close() {
	f.stop()
	f.Release()
	f.window.free()
}

var decoders = sync.Pool{New: newDecoder}

// A window holds the last bytes of a direction, up to size of them: a slice
// that grows until it is full, and is a ring from then on.
type window struct {
	size int
	ring *buffer
	next int // where the next byte goes: the end of the bytes, or the oldest
}

func (w *window) len() int {
	if w.ring == nil {
		return 0
	}
	return len(w.ring.b)
}

func (w *window) append(b []byte) {
	if len(b) == 0 {
		return
	}
	b = b[max(len(b)-w.size, 0):]
	if w.ring == nil {
		w.ring = newBuffer(len(b))
	}
	if n := min(w.size-len(w.ring.b), len(b)); n > 0 {
		copy(w.ring.extend(n), b)
		b = b[n:]
		w.next = len(w.ring.b) % w.size
	}
	n := copy(w.ring.b[w.next:], b)
	w.next = (w.next + n) % w.size
	if n < len(b) {
		w.next = copy(w.ring.b, b[n:])
	}
}

// copy copies into dst from what lies back bytes before the end, as far as
// there is anything, and returns how much that was.
func (w *window) copy(dst []byte, back int) int {
	start := w.next - back
	if start >= 0 {
		return copy(dst, w.ring.b[start:w.next])
	}
	n := copy(dst, w.ring.b[len(w.ring.b)+start:])
	return n + copy(dst[n:], w.ring.b[:w.next])
}

func (w *window) free() {
	w.ring.free()
	w.ring, w.next = nil, 0
}
