package frames

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// A Header is a frame header (RFC 6455, Section 5.2).
type Header struct {
	Fin    bool
	RSV    byte // three bits: RSV1 is 4, RSV2 is 2, RSV3 is 1
	Opcode Opcode
	Masked bool
	Mask   [4]byte // zero unless Masked
	Length int64   // of the payload, in bytes; not negative
}

const (
	minHeader = 2  // two fixed bytes
	maxHeader = 14 // and 8 of extended length, 4 of masking key
)

// headerLength returns the length of the header that starts with b, or
// minHeader while b is too short to tell.
func headerLength(b []byte) int {
	if len(b) < minHeader {
		return minHeader
	}
	n := minHeader
	switch b[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if b[1]&0x80 != 0 {
		n += 4
	}
	return n
}

// ConsumeHeader parses the frame header at the start of b and returns its
// length n. It returns n == 0 and a nil error if b holds only a part of it.
// If n > 0, then h.Append(nil) equals b[:n].
//
// An error is a [*ProtocolError] for a length that Section 5.2 forbids.
// Everything else that may be wrong with a header depends on the frames before
// it, and is the business of [Reader].
func ConsumeHeader(b []byte) (h Header, n int, err error) {
	n = headerLength(b)
	if len(b) < n {
		return Header{}, 0, nil
	}
	h.Fin = b[0]&0x80 != 0
	h.RSV = b[0] >> 4 & 0x7
	h.Opcode = Opcode(b[0] & 0x0f)
	h.Masked = b[1]&0x80 != 0
	minimal := int64(0)
	switch short := b[1] & 0x7f; short {
	case 126:
		h.Length = int64(binary.BigEndian.Uint16(b[2:]))
		minimal = 126
	case 127:
		h.Length = int64(binary.BigEndian.Uint64(b[2:]))
		minimal = 1 << 16
	default:
		h.Length = int64(short)
	}
	if h.Length < minimal {
		return Header{}, 0, badLength(h.Length, b[:n])
	}
	if h.Masked {
		copy(h.Mask[:], b[n-4:n])
	}
	return h, n, nil
}

// badLength says what is wrong with a length that was read from header.
func badLength(length int64, header []byte) *ProtocolError {
	// "the minimal number of bytes MUST be used to encode the length"
	e := violation(ProtocolErrorCode, "5.2", fmt.Sprintf("length %d not encoded in the minimal number of bytes", length))
	if length < 0 {
		// "a 64-bit unsigned integer (the most significant bit MUST be 0)"
		e.Reason = "most significant bit of a 64-bit length is set"
	}
	e.Header = bytes.Clone(header)
	return e
}

// Append appends the encoding of h to b, with the length in its minimal form.
// It writes what h says, also where the result violates the protocol.
func (h Header) Append(b []byte) []byte {
	first := h.RSV&0x7<<4 | byte(h.Opcode)&0x0f
	if h.Fin {
		first |= 0x80
	}
	var masked byte
	if h.Masked {
		masked = 0x80
	}
	switch {
	case h.Length < 126:
		b = append(b, first, masked|byte(h.Length))
	case h.Length < 1<<16:
		b = append(b, first, masked|126, byte(h.Length>>8), byte(h.Length))
	default:
		b = append(b, first, masked|127)
		b = binary.BigEndian.AppendUint64(b, uint64(h.Length))
	}
	if h.Masked {
		b = append(b, h.Mask[:]...)
	}
	return b
}

// AppendFrame appends one frame to b: h with its Length set to that of
// payload, then payload, masked with h.Mask if h.Masked. It leaves payload as
// it is, which must not lie in the spare room of b. The caller chooses the
// key: "The masking key needs to be unpredictable" (RFC 6455, Section 5.3).
func AppendFrame(b []byte, h Header, payload []byte) []byte {
	h.Length = int64(len(payload))
	b = h.Append(slices.Grow(b, maxHeader+len(payload)))
	if !h.Masked {
		return append(b, payload...)
	}
	start := len(b)
	b = b[:start+len(payload)]
	Mask(b[start:], payload, h.Mask, 0)
	return b
}
