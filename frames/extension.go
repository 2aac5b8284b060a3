package frames

import (
	"fmt"
	"strings"
)

// An Extension is one element of a Sec-WebSocket-Extensions header: an offer
// in a request, a choice in a response (RFC 6455, Section 9.1). All its
// strings are tokens, that is printable ASCII without separators.
type Extension struct {
	Name       string
	Parameters []Parameter
}

// A Parameter is a parameter of an [Extension]. Value is empty if there was
// none: a value that is empty does not conform to the grammar.
type Parameter struct{ Name, Value string }

// A HandshakeError tells why the extensions of a handshake make it a failed
// one. Bytes of the peers appear in it quoted only.
type HandshakeError struct {
	Section string // the violated section, such as "RFC 7692, Section 7.1"
	Reason  string // what was wrong, lower case
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("failed handshake: %s (%s)", e.Reason, e.Section)
}

// ParseExtensions parses the values of all Sec-WebSocket-Extensions headers of
// a request or response, in their order: "this header field MAY be split or
// combined across multiple lines" (Section 9.1). An error is a
// [*HandshakeError]: "If a value is received by either the client or the server
// during negotiation that does not conform to the ABNF below, the recipient of
// such malformed data MUST immediately _Fail the WebSocket Connection_."
//
//	extension-list  = 1#extension
//	extension       = extension-token *( ";" extension-param )
//	extension-param = token [ "=" (token | quoted-string) ]
//
// Null elements of a list are allowed (RFC 2616, Section 2.1). A list of
// nothing else is not, but it is let pass, as no extensions: there is nothing
// in it that one could read in two ways.
func ParseExtensions(values []string) ([]Extension, error) {
	var list []Extension
	for _, value := range values {
		s := scanner{rest: value}
		for s.space(); s.rest != ""; s.space() {
			if s.skip(',') {
				continue
			}
			e, ok := s.extension()
			if !ok || s.rest != "" && s.rest[0] != ',' {
				return nil, &HandshakeError{
					Section: "RFC 6455, Section 9.1",
					Reason:  fmt.Sprintf("malformed list of extensions at byte %d of %+.200q", len(value)-len(s.rest), value),
				}
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// A scanner takes tokens from the start of a header value. Its methods also
// take the white space behind them, by the "implied *LWS" rule of RFC 2616,
// which is the one that Section 9.1 refers to.
type scanner struct{ rest string }

func (s *scanner) extension() (e Extension, ok bool) {
	if e.Name = s.token(); e.Name == "" {
		return e, false
	}
	for s.skip(';') {
		p := Parameter{Name: s.token()}
		if p.Name == "" {
			return e, false
		}
		if s.skip('=') {
			if p.Value = s.value(); p.Value == "" {
				return e, false
			}
		}
		e.Parameters = append(e.Parameters, p)
	}
	return e, true
}

// value takes a token or a quoted-string, and returns "" if there is none.
func (s *scanner) value() string {
	if !strings.HasPrefix(s.rest, `"`) {
		return s.token()
	}
	// "When using the quoted-string syntax variant, the value after
	// quoted-string unescaping MUST conform to the 'token' ABNF." What a
	// quoted-string may hold besides need not be known, therefore.
	var value []byte
	for i := 1; i < len(s.rest); i++ {
		c := s.rest[i]
		if c == '"' {
			s.rest = s.rest[i+1:]
			s.space()
			return string(value)
		}
		if c == '\\' {
			if i++; i == len(s.rest) {
				break
			}
			c = s.rest[i]
		}
		if !isToken(c) {
			break
		}
		value = append(value, c)
	}
	return ""
}

// token takes a token, and returns "" if there is none.
func (s *scanner) token() string {
	n := 0
	for n < len(s.rest) && isToken(s.rest[n]) {
		n++
	}
	token := s.rest[:n]
	s.rest = s.rest[n:]
	s.space()
	return token
}

// skip takes the separator c and reports whether it was there.
func (s *scanner) skip(c byte) bool {
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	s.space()
	return true
}

// space takes white space. A line break within a value is no longer one by the
// time that it arrives here.
func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t") }

// isToken reports whether c may stand in a token: "any CHAR except CTLs or
// separators" (RFC 2616, Section 2.2).
func isToken(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?={}`, rune(c))
}
