package frames

import "fmt"

// A ProtocolError is a violation by the peer, with the close code that answers
// it and the evidence for a record. Its texts are made of our own words and of
// numbers only, so they are safe to log; Header holds bytes of the peer.
type ProtocolError struct {
	Code    Code   // the answer: 1002, 1007 or 1009
	Section string // the violated section, such as "RFC 6455, Section 5.5"
	Reason  string // what was wrong, lower case
	Header  []byte // the header of the offending frame, a copy; nil from ParseClose
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("protocol error %d: %s (%s)", e.Code, e.Reason, e.Section)
}

// violation returns an error for a section of RFC 6455. The caller adds Header.
func violation(code Code, section, reason string) *ProtocolError {
	return &ProtocolError{Code: code, Section: "RFC 6455, Section " + section, Reason: reason}
}
