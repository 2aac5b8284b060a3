package mitm

import (
	"errors"
	"strconv"
	"strings"
)

// A responseHead is the head of a response.
type responseHead struct {
	head
	status int
	minor  int
}

// parseResponse parses the response head at the start of b. It returns n == 0
// and a nil error if b holds only part of it.
func parseResponse(b []byte) (h *responseHead, n int, err error) {
	line, hd, n, err := consumeHead(b)
	if n == 0 || err != nil {
		return nil, 0, err
	}
	h = &responseHead{head: hd}
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	switch version {
	case "HTTP/1.1":
		h.minor = 1
	case "HTTP/1.0":
	default:
		return nil, 0, bad("response version is not HTTP/1.1 or HTTP/1.0")
	}
	h.status, err = strconv.Atoi(code)
	if err != nil || len(code) != 3 || h.status < 100 {
		return nil, 0, bad("malformed status code")
	}
	return h, n, nil
}

// responseBody tells how the end of the body of the answer to a GET is found.
func (h *responseHead) responseBody() (body, error) {
	length, lengths := h.get("Content-Length")
	coding, codings := h.get("Transfer-Encoding")
	switch {
	case h.status < 200 || h.status == 204 || h.status == 304:
		return body{}, nil
	case codings > 0 && lengths > 0, lengths > 1, codings > 1,
		codings == 1 && lowerASCII(coding) != "chunked", codings == 1 && h.minor == 0:
		return body{}, bad("ambiguous length of the response")
	case codings == 1:
		return body{kind: bodyChunked}, nil
	case lengths == 1:
		n, err := parseLength(length)
		return body{kind: bodyLength, left: n}, err
	}
	return body{kind: bodyUntilEOF}, nil
}

// checkInterim refuses a response of 1xx that says it has a body: it has none,
// and who believes it takes the head of the next response for that.
func (h *responseHead) checkInterim() error {
	_, lengths := h.get("Content-Length")
	_, codings := h.get("Transfer-Encoding")
	if lengths+codings > 0 {
		// RFC 9110, Section 8.6: "A server MUST NOT send a Content-Length
		// header field in any response with a status code of 1xx"
		return errors.New("interim response with a body")
	}
	return nil
}
