package capture

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// maxHandshakes is how many bytes of URLs and headers are kept of a HAR, of
// all its WebSocket connections together; each counts connCost besides.
const (
	maxHandshakes = 64 << 20
	connCost      = 512
)

// ReadHAR calls f for each WebSocket message of an HTTP Archive, also one that
// is compressed by gzip, in the order of the file: connection by connection.
// The message is f's to keep. An error of f ends the reading and is returned;
// others are an [*Error].
//
// Browsers write the keys of an entry in order of the alphabet, which puts
// _webSocketMessages before the request that they belong to. So that no
// connection need be held in memory, the file is read twice.
func ReadHAR(r io.ReadSeeker, f func(*Message) error) error {
	start, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	first, err := newHAR(r)
	if err != nil {
		return err
	}
	conns, failed := first.handshakes()
	if _, err := r.Seek(start, io.SeekStart); err != nil {
		return err
	}
	second, err := newHAR(r)
	if err != nil {
		return err
	}
	// What the first reading could not read ends the second as well, unless it
	// is in a part which that skips.
	if err := second.messages(conns, f); err != nil {
		return err
	}
	return failed
}

// A har is one reading of a file. Entries and messages count from 1.
type har struct {
	*walker
	entry, message int
}

func newHAR(r io.Reader) (*har, error) {
	r, format, err := Unwrap(r)
	if err != nil {
		return nil, err
	}
	if format != HAR {
		return nil, fmt.Errorf("not an HTTP Archive (%v)", format)
	}
	return &har{walker: newWalker(r)}, nil
}

// entries calls entry for each element of log.entries.
func (h *har) entries(entry func() error) error {
	err := h.object(func(key string) error {
		if key != "log" {
			return h.skip()
		}
		return h.object(func(key string) error {
			if key != "entries" {
				return h.skip()
			}
			return h.array(func() error {
				h.entry, h.message = h.entry+1, 0
				return entry()
			})
		})
	})
	var own *callerError
	if err == nil || errors.As(err, &own) {
		return err
	}
	place := "archive"
	if h.entry > 0 {
		place = fmt.Sprintf("entry %d", h.entry)
	}
	if h.message > 0 {
		place += fmt.Sprintf(", message %d", h.message)
	}
	return &Error{Place: place, Offset: h.dec.InputOffset(), Err: err}
}

// A callerError is an error that did not come from the file.
type callerError struct{ error }

// handshakes returns the connections of the entries that have messages. Of an
// entry that breaks off it is what stands before.
func (h *har) handshakes() (map[int]*Conn, error) {
	conns := make(map[int]*Conn)
	kept := 0
	err := h.entries(func() error {
		var s handshake
		err := h.object(func(key string) error { return s.field(h, key) })
		if s.messages > 0 {
			conn := s.conn()
			kept += connCost + len(conn.Host) + len(conn.Path) + len(conn.Origin) + len(conn.Subprotocol)
			if kept > maxHandshakes {
				return errors.New("too many WebSocket connections in one file")
			}
			conns[h.entry] = conn
		}
		return err
	})
	return conns, err
}

// A harMessage is what Chrome's developer tools and Playwright write.
type harMessage struct {
	Type   string  `json:"type"`
	Time   float64 `json:"time"`
	Opcode int     `json:"opcode"`
	Data   string  `json:"data"`
}

func (h *har) messages(conns map[int]*Conn, f func(*Message) error) error {
	err := h.entries(func() error {
		return h.object(func(key string) error {
			conn := conns[h.entry]
			if key != "_webSocketMessages" || conn == nil {
				return h.skip()
			}
			err := h.array(func() error {
				h.message++
				var m harMessage
				if err := h.decode(&m); err != nil {
					return err
				}
				if m.Type == "error" {
					return nil // a note of the browser, nothing that was sent
				}
				message, err := m.message(conn)
				if err != nil {
					return err
				}
				if err := f(message); err != nil {
					return &callerError{err}
				}
				return nil
			})
			if err == nil {
				h.message = 0
			}
			return err
		})
	})
	var own *callerError
	if errors.As(err, &own) {
		return own.error
	}
	return err
}

// RFC 6455, Section 5.2. A browser puts fragments together.
var opcodes = map[int]string{1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}

func (m *harMessage) message(conn *Conn) (*Message, error) {
	out := &Message{Conn: conn, Time: harTime(m.Time), Opcode: opcodes[m.Opcode]}
	switch m.Type {
	case "send":
		out.ToServer = true
	case "receive":
	default:
		return nil, fmt.Errorf("type %.40q is neither send nor receive", m.Type)
	}
	switch out.Opcode {
	case "":
		return nil, fmt.Errorf("unknown opcode %d", m.Opcode)
	case "text":
		out.Data = []byte(m.Data)
	default:
		// "If opcode isn't 1, then payloadData is a base64 encoded string
		// representing binary data" (DevTools Protocol, WebSocketFrame).
		var err error
		if out.Data, err = base64.StdEncoding.DecodeString(m.Data); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// harTime takes seconds since 1970, as Chrome writes them, and the milliseconds
// of others: 1e11 is March 1973 in milliseconds and beyond 5000 in seconds.
func harTime(t float64) time.Time {
	if t >= 1e11 {
		t /= 1e3
	}
	if t <= 0 || t >= 1e11 {
		return time.Time{}
	}
	seconds, fraction := math.Modf(t)
	return time.Unix(int64(seconds), int64(fraction*1e6)*1e3).UTC() // a float64 has no more
}
