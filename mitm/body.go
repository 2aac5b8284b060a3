package mitm

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// A body finds the end of an HTTP message body in its bytes (RFC 9112,
// Section 6) and changes none of them.
type body struct {
	kind  bodyKind
	left  int64 // bytes left: of the body, or of the chunk that is being passed
	state chunkState
	line  []byte   // the framing line that is being read
	tail  int      // bytes of trailers so far
	hop   []string // what Connection names: no trailer may have such a name
}

type bodyKind int

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunked
	bodyUntilEOF
)

type chunkState int

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd // the CRLF behind the data
	chunkTrailer
	chunkDone
)

const (
	// maxChunkLine bounds a chunk-size line with its extensions, which nobody uses.
	maxChunkLine = 2 << 10
	// maxTrailers bounds all trailers of a message. net/http takes 4 KiB.
	maxTrailers = 2 << 10
)

// done reports whether the body is complete.
func (b *body) done() bool {
	switch b.kind {
	case bodyLength:
		return b.left == 0
	case bodyChunked:
		return b.state == chunkDone
	}
	return b.kind == bodyNone
}

// consume returns how many bytes at the start of p belong to the body.
func (b *body) consume(p []byte) (n int, err error) {
	switch b.kind {
	case bodyLength:
		n = int(min(b.left, int64(len(p))))
		b.left -= int64(n)
	case bodyUntilEOF:
		n = len(p)
	case bodyChunked:
		for n < len(p) && b.state != chunkDone {
			k, err := b.consumeChunked(p[n:])
			n += k
			if err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (b *body) consumeChunked(p []byte) (n int, err error) {
	if b.state == chunkData {
		n = int(min(b.left, int64(len(p))))
		if b.left -= int64(n); b.left == 0 {
			b.state = chunkEnd
		}
		return n, nil
	}
	end := bytes.IndexByte(p, '\n')
	if n = end + 1; end < 0 {
		n = len(p)
	}
	if len(b.line)+n > maxChunkLine {
		return n, bad("chunk framing line over 2 KiB")
	}
	b.line = append(b.line, p[:n]...)
	if end < 0 {
		return n, nil
	}
	line, ok := bytes.CutSuffix(b.line, []byte("\r\n"))
	if !ok || bytes.ContainsAny(line, "\r\x00") {
		return n, bad("chunk framing line not ended by CRLF")
	}
	b.line = b.line[:0]
	switch b.state {
	case chunkSize:
		if b.left, err = parseChunkSize(line); err != nil {
			return n, err
		}
		b.state = chunkData
		if b.left == 0 {
			b.state = chunkTrailer
		}
	case chunkEnd:
		if len(line) > 0 {
			return n, bad("chunk longer than its size")
		}
		b.state = chunkSize
	case chunkTrailer:
		if b.tail += len(line) + 2; b.tail > maxTrailers {
			return n, bad("trailers over 2 KiB")
		}
		if len(line) == 0 {
			b.state, b.line = chunkDone, nil
			return n, nil
		}
		return n, b.checkTrailer(string(line))
	}
	return n, nil
}

// parseChunkSize parses a chunk-size with optional extensions (RFC 9112,
// Section 7.1): hexadecimal digits, at most 15 so that nothing overflows. White
// space may pad the line at its end, as some servers do, and nowhere else.
func parseChunkSize(line []byte) (size int64, err error) {
	digits, _, _ := bytes.Cut(bytes.TrimRight(line, " \t"), []byte(";"))
	if len(digits) == 0 || len(digits) > 15 {
		return 0, bad("malformed chunk size")
	}
	for _, c := range digits {
		size <<= 4
		switch {
		case '0' <= c && c <= '9':
			size |= int64(c - '0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			size |= int64(c|0x20-'a') + 10
		default:
			return 0, bad("malformed chunk size")
		}
	}
	return size, nil
}

// checkTrailer refuses a trailer that is none. Servers have merged trailers into
// the head, and then taken their word for where the message ends or who sent it.
//
// RFC 9110, Section 6.5.1: "Many fields cannot be processed outside the header
// section because their evaluation is necessary prior to receiving the content,
// such as those that describe message framing, routing, authentication, request
// modifiers, response controls, or content format."
func (b *body) checkTrailer(line string) error {
	f, err := parseField(line)
	if err != nil {
		return err
	}
	name := strings.ReplaceAll(lowerASCII(f.name), "_", "-")
	switch {
	case !httpguts.ValidTrailerHeader(name), strings.HasPrefix(name, "sec-"), slices.Contains(notTrailers, name):
		return bad("%s as a trailer", f.name)
	case slices.Contains(b.hop, lowerASCII(f.name)):
		return bad("trailer that Connection names")
	}
	return nil
}

// notTrailers completes the list of httpguts.
var notTrailers = []string{"cookie", "forwarded", "http2-settings", "origin", "set-cookie", "upgrade", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}

// requestBody tells from the head how the end of the body is found
// (RFC 9112, Section 6.3), and refuses what is said in two ways.
func requestBody(h *requestHead) (body, error) {
	length, lengths := h.get("Content-Length")
	coding, codings := h.get("Transfer-Encoding")
	for _, f := range h.fields {
		// To a server that hands its fields on by CGI's rules (RFC 3875, Section
		// 4.1.18) these are the same as those with a hyphen.
		switch lowerASCII(f.name) {
		case "content_length", "transfer_encoding":
			return body{}, bad("%s, which may be taken for another field", f.name)
		}
	}
	switch {
	case codings > 0 && lengths > 0:
		return body{}, bad("Content-Length beside Transfer-Encoding")
	case lengths > 1:
		return body{}, bad("more than one Content-Length")
	case codings > 0 && h.minor == 0:
		return body{}, bad("Transfer-Encoding in HTTP/1.0")
	case codings > 1 || codings == 1 && lowerASCII(coding) != "chunked":
		return body{}, bad("Transfer-Encoding other than chunked")
	case codings == 1:
		return body{kind: bodyChunked, hop: h.tokens("Connection")}, nil
	case lengths == 1:
		n, err := parseLength(length)
		return body{kind: bodyLength, left: n}, err
	}
	return body{}, nil
}

// parseLength parses a Content-Length: digits only, as RFC 9110, Section 8.6
// has it.
func parseLength(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 63)
	if err != nil || strings.TrimLeft(s, "0123456789") != "" {
		return 0, bad("malformed Content-Length")
	}
	return n, nil
}
