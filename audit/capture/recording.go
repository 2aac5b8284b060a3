package capture

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A recorded is one line of a recording.
type recorded struct {
	Dir     string   `json:"dir"`
	Opcode  string   `json:"opcode"`
	Payload string   `json:"payload"`
	Base64  []byte   `json:"payload_b64"`
	Code    *uint16  `json:"code"`
	T       *float64 `json:"t"`
}

// ReadRecording calls f for each message of a recording: one connection, one
// JSON object a line,
//
//	dir          "c2s" (to the server) or "s2c"
//	opcode       "text", "binary", "ping", "pong" or "close"
//	payload      the payload, or
//	payload_b64  the same in base64, for what is not UTF-8
//	code         of a close that has one; its payload is then the reason alone
//	t            seconds since the first message, or null
//
// and other keys, which do not matter here. Times count from 1970, as the file
// says only how far they are apart. The message is f's to keep. An error of f
// ends the reading and is returned; others are an [*Error].
func ReadRecording(r io.Reader, f func(*Message) error) error {
	return readRecording(r, f, maxValue)
}

func readRecording(r io.Reader, f func(*Message) error, maxLine int) error {
	r, format, err := Unwrap(r)
	if err != nil {
		return err
	}
	if format != Recording {
		return fmt.Errorf("not a recording (%v)", format)
	}
	conn := new(Conn)
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	// bufio.ScanLines leaves out the end of a line, which the offset needs.
	var offset, next int64
	scanner.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		n, line, err := bufio.ScanLines(data, atEOF)
		if line != nil {
			offset = next
		}
		next += int64(n)
		return n, line, err
	})
	number := 0
	for scanner.Scan() {
		number++
		if len(scanner.Bytes()) == 0 {
			continue
		}
		m, err := recordedMessage(scanner.Bytes())
		if err != nil {
			return &Error{Place: fmt.Sprintf("line %d", number), Offset: offset, Err: err}
		}
		m.Conn = conn
		if err := f(m); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = errTooLarge
		}
		return &Error{Place: fmt.Sprintf("line %d", number+1), Offset: next, Err: errEOF(err)}
	}
	return nil
}

func recordedMessage(b []byte) (*Message, error) {
	var l recorded
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, err
	}
	m := &Message{Opcode: l.Opcode, Data: []byte(l.Payload)}
	switch l.Dir {
	case "c2s":
		m.ToServer = true
	case "s2c":
	default:
		return nil, fmt.Errorf("dir %.40q is neither c2s nor s2c", l.Dir)
	}
	switch l.Opcode {
	case "text", "binary", "ping", "pong", "close":
	default:
		return nil, fmt.Errorf("unknown opcode %.40q", l.Opcode)
	}
	if l.Base64 != nil {
		m.Data = l.Base64
	}
	if l.Code != nil {
		m.Data = append(binary.BigEndian.AppendUint16(nil, *l.Code), m.Data...)
	}
	if l.T != nil && *l.T >= 0 && *l.T < 1e9 {
		m.Time = time.Unix(0, int64(*l.T*float64(time.Second))).UTC()
	}
	return m, nil
}
