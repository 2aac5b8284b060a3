package frames

import "unicode/utf8"

// A Message is one control frame or one whole data message.
//
// Its slices are good until the next call of [Reader.Next] or
// [Reader.Release], and as long as the caller leaves the bytes alone that it
// gave to Next. They are for reading only.
type Message struct {
	Opcode Opcode
	// Data is what the application sees: the payload of all frames, unmasked
	// and inflated.
	Data []byte
	// Wire is every byte received for the message, untouched: headers, mask
	// keys, payloads. It may be forwarded as it is.
	Wire []byte
	// Frames is the number of frames in Wire.
	Frames int
	// Compressed tells that the message was received with RSV1 set (RFC 7692,
	// Section 6).
	Compressed bool
	// Part tells of a message over hold that it is taken in parts ([Reader.Stream]).
	// Its data went to the function given there; Wire is of this part, and
	// Frames counts those begun so far.
	Part Part
}

// A Part says how much of the message that was sent a [Message] is.
type Part uint8

// What a Message may be.
const (
	Whole    Part = iota
	MorePart      // a part, and not the last
	LastPart      // the last part, which may be the only one
)

// check returns the violation in the payload of m, or nil.
func (m Message) check() *ProtocolError {
	switch m.Opcode {
	case Text:
		if !utf8.Valid(m.Data) {
			return notUTF8()
		}
	case Close:
		return checkClose(m.Data)
	}
	return nil
}
