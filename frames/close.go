package frames

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Code says why a connection is closed (RFC 6455, Section 7.4).
type Code uint16

// The codes of the IANA WebSocket Close Code Number Registry,
// https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number.
const (
	NormalClosure      Code = 1000
	GoingAway          Code = 1001
	ProtocolErrorCode  Code = 1002
	UnsupportedData    Code = 1003
	NoStatus           Code = 1005 // never sent: a Close frame without a code
	AbnormalClosure    Code = 1006 // never sent: no Close frame at all
	InvalidPayload     Code = 1007 // such as text that is not UTF-8
	PolicyViolation    Code = 1008
	MessageTooBig      Code = 1009
	MandatoryExtension Code = 1010
	InternalError      Code = 1011
	ServiceRestart     Code = 1012
	TryAgainLater      Code = 1013
	BadGateway         Code = 1014
	TLSHandshake       Code = 1015 // never sent: the TLS handshake failed
)

// Valid reports whether c may appear in a Close frame.
func (c Code) Valid() bool {
	switch {
	// Section 7.4.2: "Status codes in the range 0-999 are not used."
	case c < 1000:
		return false
	// Section 7.4.1: 1004 is reserved, 1005 and 1006 are each "a reserved
	// value and MUST NOT be set as a status code in a Close control frame by
	// an endpoint".
	case c >= 1004 && c <= 1006:
		return false
	// The registry adds 1012 to 1014.
	case c <= BadGateway:
		return true
	// Section 7.4.1 on 1015: "MUST NOT be set as a status code". Section
	// 7.4.2: 1000-2999 are "reserved for definition by this protocol, its
	// future revisions, and extensions"; no more of them are defined.
	case c < 3000:
		return false
	// Section 7.4.2: 3000-3999 are "for use by libraries, frameworks, and
	// applications", 4000-4999 "for private use".
	default:
		return c < 5000
	}
}

// ParseClose returns what the payload of a Close frame says (RFC 6455, Section
// 5.5.1). For an empty payload the code is [NoStatus]. An error is a
// [*ProtocolError].
func ParseClose(payload []byte) (code Code, reason string, err error) {
	if e := checkClose(payload); e != nil {
		return 0, "", e
	}
	// Section 7.1.5: "If this Close control frame contains no status code,
	// _The WebSocket Connection Close Code_ is considered to be 1005."
	if len(payload) == 0 {
		return NoStatus, "", nil
	}
	return Code(binary.BigEndian.Uint16(payload)), string(payload[2:]), nil
}

// checkClose returns the violation in the payload of a Close frame, or nil.
func checkClose(payload []byte) *ProtocolError {
	// "The Close frame MAY contain a body"
	if len(payload) == 0 {
		return nil
	}

	// "If there is a body, the first two bytes of the body MUST be a 2-byte
	// unsigned integer (in network byte order) representing a status code"
	if len(payload) == 1 {
		return violation(ProtocolErrorCode, "5.5.1", "close frame with a payload of 1 byte")
	}

	// "with value /code/ defined in Section 7.4."
	if code := Code(binary.BigEndian.Uint16(payload)); !code.Valid() {
		return violation(ProtocolErrorCode, "7.4", fmt.Sprintf("close code %d may not be sent", code))
	}

	// "the body MAY contain UTF-8-encoded data with value /reason/", and
	// Section 8.1: an endpoint that finds it not to be UTF-8 "MUST _Fail the
	// WebSocket Connection_".
	if !utf8.Valid(payload[2:]) {
		return violation(InvalidPayload, "8.1", "close reason is not UTF-8")
	}
	return nil
}

// AppendClose appends the payload of a Close frame to b. The result is always
// one that may be sent: a code that is not [Code.Valid], such as [NoStatus],
// gives an empty payload, bad UTF-8 becomes U+FFFD, and a reason that does not
// fit into a control frame is cut before the character that is too much.
func AppendClose(b []byte, code Code, reason string) []byte {
	if !code.Valid() {
		return b
	}
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if end := maxControl - 2; len(reason) > end {
		for !utf8.RuneStart(reason[end]) {
			end--
		}
		reason = reason[:end]
	}
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	return append(b, reason...)
}
