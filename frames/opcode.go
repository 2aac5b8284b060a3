package frames

import "fmt"

// An Opcode says how to interpret the payload of a frame (RFC 6455, Section 5.2).
// It has four bits.
type Opcode byte

// The opcodes of RFC 6455, Section 11.8. The others are reserved.
const (
	Continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xA
)

// IsControl reports whether o is the opcode of a control frame, reserved ones
// included: "Control frames are identified by opcodes where the most
// significant bit of the opcode is 1" (RFC 6455, Section 5.5).
func (o Opcode) IsControl() bool { return o&0x8 != 0 }

// isReserved reports whether o has no meaning in RFC 6455.
func (o Opcode) isReserved() bool { return o&0x7 > 2 }

// String returns the name of o in lower case, such as "text".
func (o Opcode) String() string {
	switch o {
	case Continuation:
		return "continuation"
	case Text:
		return "text"
	case Binary:
		return "binary"
	case Close:
		return "close"
	case Ping:
		return "ping"
	case Pong:
		return "pong"
	}
	return fmt.Sprintf("reserved(0x%x)", byte(o))
}
