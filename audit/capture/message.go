package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// A Conn is one connection of a capture, as far as the capture shows it: zero
// values are unknown.
type Conn struct {
	Client, Server netip.AddrPort
	Start          time.Time // its first packet, or the start of its request

	// Of the WebSocket handshake. Packets leave them to whoever parses the
	// streams.
	Host        string // with a port if the header has one
	Path        string // of the request target, still percent-encoded, no query
	Origin      string
	Subprotocol string // the one that the server chose
}

// A Message is one WebSocket message of a capture that holds messages.
type Message struct {
	Conn     *Conn     // the same pointer for all messages of a connection
	Time     time.Time // zero if unknown
	ToServer bool
	Opcode   string // "text", "binary", "close", "ping" or "pong"
	Data     []byte // of a close with a code: code and reason
}

// An Error says what is wrong with a capture and where. What stands before
// that place has been handed out.
type Error struct {
	Place  string // such as "packet 3", counted from 1
	Offset int64  // in bytes, decompressed
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s at byte %d: %v", e.Place, e.Offset, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

var (
	errEmpty     = errors.New("the file is empty")
	errTruncated = errors.New("the file ends inside of it")
	errTooLarge  = errors.New("value too large")
)

// maxValue is the longest JSON string, or line, that is read. It holds a
// message of 64 MiB in base64.
const maxValue = 128 << 20
