package detect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
)

// jwt finds JSON Web Tokens in compact form (RFC 7519, section 3): three parts in
// base64url without padding (RFC 7515, section 3.1), of which the first decodes
// to a JSON object that has the string "alg" (RFC 7515, section 4.1.1). The third
// one is empty in an unsecured token (RFC 7519, section 6). An encrypted token
// has five parts (RFC 7516, section 3.1).
//
// Not one: other dotted base64; JSON in base64 without an "alg"; a header of
// more than 4096 bytes; a header that has white space between { and its first
// key, which no library writes.
var jwt = &Detector{
	Name:     "jwt",
	Summary:  "JSON Web Tokens with a header that decodes, signed, encrypted or unsecured",
	literals: []string{"eyJ"},
	at:       jwtAt,
	find:     anchored("eyJ", 0),
}

const longestHeader = 4096

var base64URL = classOf(alphabet + "-_")

func jwtAt(data []byte, i int) int {
	if !prefixed(data, i, "eyJ") || base64URL.follows(data, i) {
		return -1
	}
	header := base64URL.end(data, i, longestHeader+1)
	if header-i > longestHeader || header == len(data) || data[header] != '.' || !jwtHeader(data[i:header]) {
		return -1
	}
	var ends [5]int // of the parts
	ends[0] = header
	n := 1
	for n < len(ends) && ends[n-1] < len(data) && data[ends[n-1]] == '.' {
		ends[n] = base64URL.end(data, ends[n-1]+1, len(data))
		n++
	}
	switch {
	case n == 5 && ends[3] > ends[2]+1 && ends[4] > ends[3]+1: // the key may be empty
		return ends[4]
	case n >= 3 && ends[1] > ends[0]+1:
		return ends[2]
	}
	return -1
}

func jwtHeader(part []byte) bool {
	if len(part)%4 == 1 { // the only mistake that base64URL leaves
		return false
	}
	var buf [longestHeader / 4 * 3]byte
	n, err := base64.RawURLEncoding.Decode(buf[:], part)
	// Valid allocates for what is not; few get that far.
	return err == nil && hasAlg(buf[:n]) && json.Valid(buf[:n])
}

// hasAlg reports whether an object has a string "alg" that is not empty. It is
// right if the object is valid JSON.
func hasAlg(object []byte) bool {
	found, depth := false, 0
	for i := 0; i < len(object); i++ {
		switch object[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			text := stringAt(object[i:])
			i += max(len(text), 1) - 1
			if depth != 1 || string(text) != `"alg"` {
				continue
			}
			// A value is followed by a comma or the end, a name by a colon.
			if rest := trimSpace(object[i+1:]); len(rest) > 0 && rest[0] == ':' {
				found = len(stringAt(trimSpace(rest[1:]))) > len(`""`)
			}
		}
	}
	return found && depth == 0
}

// stringAt returns the JSON string that b begins with, nil if there is none.
func stringAt(b []byte) []byte {
	if len(b) == 0 || b[0] != '"' {
		return nil
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return b[:i+1]
		case '\\':
			i++
		}
	}
	return nil
}

func trimSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }
