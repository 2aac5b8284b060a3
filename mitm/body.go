package mitm

import "bytes"

// A body finds the end of an HTTP message body in its bytes (RFC 9112,
// Section 6) and changes none of them.
type body struct {
	kind  bodyKind
	left  int64 // bytes left: of the body, or of the chunk that is being passed
	state chunkState
	line  []byte // the framing line that is being read
	tail  int    // bytes of trailers so far
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

// maxChunkLine bounds a chunk-size line with its extensions, which nobody uses.
const maxChunkLine = 4 << 10

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
		return n, bad("chunk framing line over 4 KiB")
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
		if b.tail += len(line) + 2; b.tail > maxHead {
			return n, errHeadTooLarge
		}
		if len(line) == 0 {
			b.state, b.line = chunkDone, nil
		}
	}
	return n, nil
}

// parseChunkSize parses a chunk-size with optional extensions (RFC 9112,
// Section 7.1): hexadecimal digits, at most 15 so that nothing overflows.
func parseChunkSize(line []byte) (size int64, err error) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.TrimRight(digits, " \t")
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
