package audit

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// A sentFrame is on its way until all its records are written.
type sentFrame struct {
	last  uint64 // number of its last record
	bytes int
	since time.Time // when it was sent
}

// News are what the other process says.
type news struct {
	written uint64
	state   *state // nil: it does not say
	end     bool   // it writes nothing more of what it was sent
	err     error  // it says nothing more
}

// push has the next frame sent, if one may be.
func (f *forwarder) push() {
	if f.busy || f.broken || f.said || f.flight >= maxUnwritten {
		return
	}
	switch {
	case f.unsent > 0:
		f.out <- f.next()
	case f.ended:
		f.out <- net.Buffers{appendFrameHead(nil, kindEnd, 0)}
		f.said = true
	default:
		return
	}
	f.busy = true
}

// next makes a frame of what is to be sent: as many records as go into one, but
// none behind a chunk after which a checkpoint is due.
func (f *forwarder) next() net.Buffers {
	head := make([]byte, 0, frameHead+recordsHead)
	frame := net.Buffers{nil}
	size, flags, first := 0, byte(0), f.sent+1
	for f.at < len(f.held) && flags == 0 {
		c := f.held[f.at]
		from := max(f.rec, c.next)
		to := from
		for to < len(c.recs) && (size == 0 && to == from || size+c.recs[to].end-c.start(from) <= maxLines) {
			to++
		}
		if to > from {
			part := c.buf[c.start(from):c.start(to)]
			frame = append(frame, part)
			size += len(part)
			f.sent += uint64(to - from)
		}
		if f.rec = to; to < len(c.recs) {
			break
		}
		if c.sign {
			flags = flagSign
		}
		f.at, f.rec = f.at+1, 0
	}
	f.unsent -= size
	f.flight += size
	f.frames = append(f.frames, sentFrame{f.sent, size, time.Now()})
	head = appendFrameHead(head, kindRecords, recordsHead+size)
	frame[0] = append(binary.BigEndian.AppendUint64(head, first), flags)
	return frame
}

// size is how many bytes of c are still to be written.
func (c *chunk) size() int { return len(c.buf) - c.start(c.next) }

// start is where record i begins in c.
func (c *chunk) start(i int) int {
	if i == 0 {
		return 0
	}
	return c.recs[i-1].end
}

func (f *forwarder) send() {
	for b := range f.out {
		_, err := b.WriteTo(f.conn)
		f.gone <- err
	}
}

func (f *forwarder) receive() {
	for {
		a := f.hear()
		select {
		case f.in <- a:
		case <-f.quit:
			return
		}
		if a.err != nil {
			return
		}
	}
}

// hear reads what the other process says next.
func (f *forwarder) hear() (a news) {
	kind, body, err := readFrame(f.conn)
	switch {
	case err != nil:
		a.err = err
	case kind == kindWritten:
		a.written, a.err = parseWritten(body)
	case kind == kindEnd:
		a.end = true
	case kind == kindState:
		a.state = new(state)
		if err := json.Unmarshal(body, a.state); err != nil {
			a.err = fmt.Errorf("%w: %w", errFrame, err)
		}
	default:
		a.err = fmt.Errorf("%w: a frame of kind %q from who accepts", errFrame, kind)
	}
	return a
}
