package mitm

import (
	"crypto/rand"

	"framegate/frames"
)

// frame makes the one frame that leaves instead of the message that was
// received: whole, not compressed, and from a client under a mask of its own.
// "The masking key needs to be unpredictable; thus, the masking key MUST be
// derived from a strong source of entropy" (RFC 6455, Section 5.3).
//
// It may stand among frames that are compressed: "On a WebSocket connection
// where a PMCE is in use, this bit [RSV1] indicates whether a message is
// compressed or not" (RFC 7692, Section 6), each by itself.
func (d *direction) frame(op frames.Opcode, data []byte) []byte {
	return d.fragment(op, true, data)
}

// fragment makes one of several frames.
func (d *direction) fragment(op frames.Opcode, fin bool, data []byte) []byte {
	h := frames.Header{Fin: fin, Opcode: op, Masked: d.dir == frames.ToServer}
	if h.Masked {
		rand.Read(h.Mask[:])
	}
	return frames.AppendFrame(nil, h, data)
}

// lose notes that the receiver does not get m as it was sent. With context
// takeover a compressed message may refer to any before it, so a peer that lacks
// one could make something else of those that follow, and not notice. From now
// on they leave inflated.
func (d *direction) lose(m *frames.Message) {
	d.behind = d.behind || m.Compressed && d.takeover
}
