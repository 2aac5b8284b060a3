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
}

// check returns the violation in the payload of m, or nil.
func (m Message) check() *ProtocolError {
	switch m.Opcode {
	case Text:
		// Section 5.6: "a particular text frame might include a partial UTF-8
		// sequence; however, the whole message MUST contain valid UTF-8."
		if !utf8.Valid(m.Data) {
			return violation(InvalidPayload, "5.6", "text message is not UTF-8")
		}
	case Close:
		return checkClose(m.Data)
	}
	return nil
}
