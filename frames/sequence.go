package frames

import "fmt"

// A Direction tells which peer sent the frames.
type Direction uint8

// The two directions of a connection.
const (
	ToServer Direction = iota // sent by the client, masked
	ToClient                  // sent by the server, not masked
)

// String returns "to-server" or "to-client".
func (d Direction) String() string {
	switch d {
	case ToServer:
		return "to-server"
	case ToClient:
		return "to-client"
	}
	return fmt.Sprintf("direction(%d)", uint8(d))
}

// maxControl is the longest payload of a control frame (RFC 6455, Section 5.5).
const maxControl = 125

// A sequence knows what may follow the frames of one direction so far.
type sequence struct {
	dir     Direction
	deflate bool // permessage-deflate was agreed on
	inside  bool // between the first and the last frame of a fragmented message
	closed  bool // after a Close frame
}

// rsv1 is the bit of Header.RSV that RFC 7692, Section 6, calls "Per-Message
// Compressed".
const rsv1 = 4

// check returns the violation that h would be as the next header, or nil.
// It needs only the header, so that nothing is held for a frame that is wrong.
func (s *sequence) check(h Header) *ProtocolError {
	// "The application MUST NOT send any more data frames after sending a
	// Close frame." Section 1.4 has it that the peer "does not send any
	// further data", so control frames are refused alike.
	if s.closed {
		return violation(ProtocolErrorCode, "5.5.1", fmt.Sprintf("%v frame after a close frame", h.Opcode))
	}

	// "MUST be 0 unless an extension is negotiated that defines meanings for
	// non-zero values. If a nonzero value is received and none of the
	// negotiated extensions defines the meaning of such a nonzero value, the
	// receiving endpoint MUST _Fail the WebSocket Connection_."
	rsv := h.RSV
	if s.deflate {
		rsv &^= rsv1
	}
	if rsv != 0 {
		return violation(ProtocolErrorCode, "5.2", fmt.Sprintf("reserved bits %03b without an extension", rsv))
	}

	// "If an unknown opcode is received, the receiving endpoint MUST _Fail the
	// WebSocket Connection_."
	if h.Opcode.isReserved() {
		return violation(ProtocolErrorCode, "5.2", fmt.Sprintf("reserved opcode 0x%x", byte(h.Opcode)))
	}

	// "The server MUST close the connection upon receiving a frame that is not
	// masked."
	if s.dir == ToServer && !h.Masked {
		return violation(ProtocolErrorCode, "5.1", "frame from the client is not masked")
	}

	// "A client MUST close a connection if it detects a masked frame."
	if s.dir == ToClient && h.Masked {
		return violation(ProtocolErrorCode, "5.1", "frame from the server is masked")
	}

	// RFC 7692, Section 6.1: "An endpoint MUST NOT set the "Per-Message
	// Compressed" bit of control frames and non-first fragments of a data
	// message. An endpoint receiving such a frame MUST _Fail the WebSocket
	// Connection_."
	if h.RSV == rsv1 && (h.Opcode.IsControl() || h.Opcode == Continuation) {
		e := violation(ProtocolErrorCode, "", fmt.Sprintf("%v frame marked as compressed", h.Opcode))
		e.Section = "RFC 7692, Section 6.1"
		return e
	}

	if h.Opcode.IsControl() {
		// "All control frames MUST have a payload length of 125 bytes or less"
		if h.Length > maxControl {
			return violation(ProtocolErrorCode, "5.5", fmt.Sprintf("%v frame with a payload of %d bytes, over %d", h.Opcode, h.Length, maxControl))
		}
		// "and MUST NOT be fragmented."
		if !h.Fin {
			return violation(ProtocolErrorCode, "5.5", fmt.Sprintf("fragmented %v frame", h.Opcode))
		}
		// "Control frames [...] MAY be injected in the middle of a fragmented
		// message", so the order of data frames does not concern them.
		return nil
	}

	// "A fragmented message consists of a single frame with the FIN bit clear
	// and an opcode other than 0, followed by zero or more frames with the FIN
	// bit clear and the opcode set to 0"
	if !s.inside && h.Opcode == Continuation {
		return violation(ProtocolErrorCode, "5.4", "continuation frame outside a fragmented message")
	}

	// "The fragments of one message MUST NOT be interleaved between the
	// fragments of another message unless an extension has been negotiated
	// that can interpret the interleaving."
	if s.inside && h.Opcode != Continuation {
		return violation(ProtocolErrorCode, "5.4", fmt.Sprintf("%v frame inside a fragmented message", h.Opcode))
	}
	return nil
}

// advance takes note of a frame that check let pass.
func (s *sequence) advance(h Header) {
	switch {
	case h.Opcode == Close:
		s.closed = true
	case !h.Opcode.IsControl():
		s.inside = !h.Fin
	}
}
