package wire

import (
	"bytes"
	"compress/flate"
	"io"
)

// maxBits is the base-2 logarithm of the largest window of DEFLATE, which is
// also the one that compress/flate has.
const maxBits = 15

// A Deflater compresses the messages of one direction as RFC 7692, Section
// 7.2.1 says. It has nothing in common with framegate's own code.
type Deflater struct {
	takeover bool
	window   int

	out  bytes.Buffer
	w    *flate.Writer
	used int // bytes that the writer may refer to
}

// NewDeflater returns a compressor whose window is of 1<<bits bytes at most;
// zero bits mean 15.
func NewDeflater(takeover bool, bits int) *Deflater {
	if bits == 0 {
		bits = maxBits
	}
	d := &Deflater{takeover: takeover, window: 1 << bits}
	d.w, _ = flate.NewWriter(&d.out, flate.BestCompression) // the level is a valid one
	return d
}

// Compress returns the payload that message has once it is compressed.
func (d *Deflater) Compress(message []byte) []byte {
	d.out.Reset()
	if !d.takeover {
		d.forget()
	}
	for first := true; first || len(message) > 0; first = false {
		// A writer that starts afresh after a window's worth of bytes refers to
		// nothing further back.
		if d.window < 1<<maxBits && d.used+min(len(message), d.window) > d.window {
			d.forget()
		}
		part := message
		if d.window < 1<<maxBits {
			part = message[:min(len(message), d.window)]
		}
		d.w.Write(part) // a bytes.Buffer takes all
		d.w.Flush()
		d.used += len(part)
		message = message[len(part):]
	}
	// "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end."
	return bytes.Clone(bytes.TrimSuffix(d.out.Bytes(), []byte("\x00\x00\xff\xff")))
}

func (d *Deflater) forget() {
	d.w.Reset(&d.out)
	d.used = 0
}

// An Inflater is the other end of a Deflater (Section 7.2.2). The zero value
// has context takeover.
type Inflater struct {
	NoTakeover bool
	history    []byte
}

// Inflate returns the message that payload was compressed from.
func (i *Inflater) Inflate(payload []byte) ([]byte, error) {
	// "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of
	// the message", and a last block, because a flate.Reader wants an end.
	stream := io.MultiReader(bytes.NewReader(payload), bytes.NewReader([]byte("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	message, err := io.ReadAll(flate.NewReaderDict(stream, i.history))
	if !i.NoTakeover {
		i.history = append(i.history, message...)
		i.history = bytes.Clone(i.history[max(0, len(i.history)-1<<maxBits):])
	}
	return message, err
}
