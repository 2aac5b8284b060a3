package frames

import (
	"fmt"
	"slices"
	"strconv"
)

// deflateName is the extension-token of RFC 7692, Section 7.
const deflateName = "permessage-deflate"

// The bounds of the base-2 logarithm of the size of a window (RFC 7692,
// Section 7.1.2). A direction for which nothing is agreed may use the largest.
const (
	minWindowBits = 8
	maxWindowBits = 15
)

// A Context is what was agreed for the compressor of one [Direction].
type Context struct {
	Takeover bool // the window of one message serves the next one
	Bits     int  // the window is of 1 << Bits bytes at most; 8 to 15
}

// A Deflate is what client and server agreed on for permessage-deflate. It is
// indexed by Direction: the parameters that begin with "client" are those of
// [ToServer].
type Deflate [2]Context

// An UnknownExtensionError says that client and server agreed on an extension
// other than permessage-deflate: frames and payloads may mean anything.
type UnknownExtensionError struct {
	Name string // a token
}

func (e *UnknownExtensionError) Error() string {
	return fmt.Sprintf("unknown extension %+.64q was agreed on", e.Name)
}

// Agree returns what the handshake agreed on, given the values of the
// Sec-WebSocket-Extensions headers of the request and of the response. It
// returns nil and no error if it was no extension at all: then the offers do
// not matter and are not looked at.
//
// The error is an [*UnknownExtensionError] for a choice that is lawful but not
// understood, and a [*HandshakeError] for one by which the client has to fail
// the connection. Names are compared exactly: a peer that did not could agree
// on what is refused here, never the other way round.
func Agree(offers, answer []string) (*Deflate, error) {
	chosen, err := ParseExtensions(answer)
	if err != nil || len(chosen) == 0 {
		return nil, err
	}
	offered, err := ParseExtensions(offers)
	if err != nil {
		return nil, err
	}

	for i, e := range chosen {
		// RFC 6455, Section 4.1: "If the response includes a
		// |Sec-WebSocket-Extensions| header field and this header field indicates
		// the use of an extension that was not present in the client's handshake
		// (the server has indicated an extension not requested by the client),
		// the client MUST _Fail the WebSocket Connection_."
		if !slices.ContainsFunc(offered, func(o Extension) bool { return o.Name == e.Name }) {
			return nil, &HandshakeError{"RFC 6455, Section 4.1", fmt.Sprintf("extension %+.64q was not offered", e.Name)}
		}
		if e.Name != deflateName {
			return nil, &UnknownExtensionError{e.Name}
		}
		// RFC 7692, Section 5: "A server MUST NOT accept a PMCE extension
		// negotiation offer together with another extension if the PMCE will
		// conflict with the extension on their use of the RSV1 bit." Two of the
		// same do.
		if i > 0 {
			return nil, deflateError("5", "permessage-deflate was accepted twice")
		}
	}

	// Section 7: "A client MUST _Fail the WebSocket Connection_ if the peer
	// server accepted an extension negotiation offer for this extension with
	// an extension negotiation response meeting any of the following
	// conditions": those of parseDeflate, and "The client does not support the
	// configuration that the response represents."
	response, failure := parseDeflate(chosen[0], false)
	if failure != nil {
		return nil, failure
	}
	for _, o := range offered {
		if o.Name != deflateName {
			continue
		}
		// "A server MUST decline an extension negotiation offer for this
		// extension if any of the following conditions are met": those of
		// parseDeflate. So the answer cannot be to an offer like that.
		offer, e := parseDeflate(o, true)
		if e == nil {
			if e = offer.accepts(response); e == nil {
				return response.deflate(), nil
			}
		}
		failure = e
	}
	return nil, failure
}

// deflateParameters are the parameters of one permessage-deflate element.
type deflateParameters struct {
	noTakeover [2]bool // client_no_context_takeover, server_no_context_takeover
	bits       [2]int  // client_max_window_bits, server_max_window_bits; zero: no value
	clientBits bool    // client_max_window_bits is there, with or without a value
}

// parseDeflate returns the parameters of e. Section 7 has the same three
// conditions for an offer that a server MUST decline and for a response by
// which a client MUST fail the connection.
func parseDeflate(e Extension, offer bool) (p deflateParameters, err *HandshakeError) {
	what := "response"
	if offer {
		what = "offer"
	}
	for i, parameter := range e.Parameters {
		// "contains multiple extension parameters with the same name"
		if slices.ContainsFunc(e.Parameters[:i], func(q Parameter) bool { return q.Name == parameter.Name }) {
			return p, deflateError("7", "%s with more than one %s", what, parameter.Name)
		}
		valid := true
		switch parameter.Name {
		// Sections 7.1.1.1 and 7.1.1.2: "This extension parameter
		// has no value."
		case "server_no_context_takeover":
			p.noTakeover[ToClient], valid = true, parameter.Value == ""
		case "client_no_context_takeover":
			p.noTakeover[ToServer], valid = true, parameter.Value == ""
		// Section 7.1.2.1: "This parameter has a decimal integer value without
		// leading zeroes between 8 to 15, inclusive".
		case "server_max_window_bits":
			p.bits[ToClient], valid = windowBits(parameter.Value)
		// Section 7.1.2.2, of an offer: "This parameter has no value or a
		// decimal integer value". Of a response it is again the latter alone.
		case "client_max_window_bits":
			p.clientBits = true
			p.bits[ToServer], valid = windowBits(parameter.Value)
			valid = valid || offer && parameter.Value == ""
		// "contains an extension parameter not defined for use in"
		default:
			return p, deflateError("7", "%s with unknown parameter %+.64q", what, parameter.Name)
		}
		// "contains an extension parameter with an invalid value"
		if !valid {
			return p, deflateError("7", "%s with invalid value %+.64q of %s", what, parameter.Value, parameter.Name)
		}
	}
	return p, nil
}

// windowBits parses the value of a parameter.
func windowBits(value string) (bits int, ok bool) {
	for bits = minWindowBits; bits <= maxWindowBits; bits++ {
		if value == strconv.Itoa(bits) {
			return bits, true
		}
	}
	return 0, false
}

// accepts returns why response does not accept the offer p, or nil.
func (p deflateParameters) accepts(response deflateParameters) *HandshakeError {
	// A server that accepts server_no_context_takeover or server_max_window_bits
	// has to say so (Sections 7.1.1.1 and 7.1.2.1), and some do not. Whether to
	// live with that is the client's affair: with the widest window kept over
	// all messages, which a response without them means here, what such a
	// server sends is read right in either case.

	// Section 7.1.2.1: "A server accepts an extension negotiation offer with
	// this parameter by including the "server_max_window_bits" extension
	// parameter in the extension negotiation response to send back to the
	// client with the same or smaller value as the offer."
	if offered, got := p.bits[ToClient], response.bits[ToClient]; offered != 0 && got > offered {
		return deflateError("7.1.2.1", "response with server_max_window_bits %d, over the %d of the offer", got, offered)
	}

	// Section 7.1.2.2: "If a received extension negotiation offer doesn't have
	// the "client_max_window_bits" extension parameter, the corresponding
	// extension negotiation response to the offer MUST NOT include the
	// "client_max_window_bits" extension parameter."
	if response.clientBits && !p.clientBits {
		return deflateError("7.1.2.2", "response with a client_max_window_bits that was not offered")
	}

	// What else an offer may say of the client is a hint, which the server may
	// ignore; and a server may limit itself and the client unasked.
	return nil
}

// deflate returns what a response agrees on. Hints of the offer do not count:
// Section 7.2.2 has it of client_no_context_takeover that without it in the
// agreed parameters the window must be kept.
func (p deflateParameters) deflate() *Deflate {
	var d Deflate
	for dir := range d {
		d[dir] = Context{Takeover: !p.noTakeover[dir], Bits: p.bits[dir]}
		if d[dir].Bits == 0 {
			d[dir].Bits = maxWindowBits
		}
	}
	return &d
}

func deflateError(section, format string, args ...any) *HandshakeError {
	return &HandshakeError{"RFC 7692, Section " + section, fmt.Sprintf(format, args...)}
}
