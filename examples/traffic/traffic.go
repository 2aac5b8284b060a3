// Package traffic holds real WebSocket traffic, one connection a file, and
// reads it. README.md tells where each file comes from and under what licence.
//
// A file has one JSON object a line for each message:
//
//	dir          "c2s" (to the server) or "s2c"
//	opcode       text, binary, ping, pong or close
//	payload      the payload, or
//	payload_b64  the same in base64, for what is not UTF-8
//	code         of a Close that has one; its payload is then the reason alone
//	frames       sizes of the fragments, if there were several
//	t            seconds since the first message, or null
//
// Lines may have other keys, which tell of the capture.
package traffic

import (
	"bufio"
	"embed"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"framegate/frames"
)

//go:embed *.jsonl
var files embed.FS

// maxLine is the longest line that Read takes.
const maxLine = 16 << 20

// A Message is one message of a recorded connection.
type Message struct {
	Direction frames.Direction
	Opcode    frames.Opcode
	Payload   []byte        // of a Close with a code: code and reason
	Fragments []int         // sizes; nil for a single frame
	Time      time.Duration // since the first message; zero if unknown
}

// Sets returns the names that [Load] takes, sorted.
func Sets() []string {
	names, _ := fs.Glob(files, "*.jsonl") // the pattern is good
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, ".jsonl")
	}
	return names
}

// Load returns the messages of a set.
func Load(set string) ([]Message, error) {
	f, err := files.Open(set + ".jsonl")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	messages, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", set, err)
	}
	return messages, nil
}

type line struct {
	Dir     string   `json:"dir"`
	Opcode  string   `json:"opcode"`
	Payload string   `json:"payload"`
	Base64  []byte   `json:"payload_b64"`
	Code    *uint16  `json:"code"`
	Frames  []int    `json:"frames"`
	T       *float64 `json:"t"`
}

var opcodes = map[string]frames.Opcode{
	"text":   frames.Text,
	"binary": frames.Binary,
	"ping":   frames.Ping,
	"pong":   frames.Pong,
	"close":  frames.Close,
}

// Read reads messages in the format above. An error names the line.
func Read(r io.Reader) ([]Message, error) {
	var messages []Message
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	for number := 1; scanner.Scan(); number++ {
		var l line
		err := json.Unmarshal(scanner.Bytes(), &l)
		var m Message
		if err == nil {
			m, err = l.message()
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		messages = append(messages, m)
	}
	return messages, scanner.Err()
}

func (l *line) message() (Message, error) {
	m := Message{Payload: []byte(l.Payload), Fragments: l.Frames}
	switch l.Dir {
	case "c2s":
		m.Direction = frames.ToServer
	case "s2c":
		m.Direction = frames.ToClient
	default:
		return m, fmt.Errorf("dir %q is neither c2s nor s2c", l.Dir)
	}
	var ok bool
	if m.Opcode, ok = opcodes[l.Opcode]; !ok {
		return m, fmt.Errorf("unknown opcode %q", l.Opcode)
	}
	if l.Base64 != nil {
		m.Payload = l.Base64
	}
	if l.Code != nil {
		m.Payload = append(binary.BigEndian.AppendUint16(nil, *l.Code), m.Payload...)
	}
	if l.T != nil {
		m.Time = time.Duration(*l.T * float64(time.Second))
	}
	total := 0
	for _, size := range m.Fragments {
		if size < 0 {
			return m, fmt.Errorf("fragment of %d bytes", size)
		}
		total += size
	}
	if m.Fragments != nil && total != len(m.Payload) {
		return m, fmt.Errorf("fragments of %d bytes make a payload of %d", total, len(m.Payload))
	}
	return m, nil
}

// Append appends the message's frames to b, fragmented as it was recorded.
// mask gives the masking key of each frame; nil leaves them unmasked. A message
// that violated the protocol does so again.
func (m Message) Append(b []byte, mask func() [4]byte) []byte {
	sizes := m.Fragments
	if sizes == nil {
		sizes = []int{len(m.Payload)}
	}
	opcode, rest := m.Opcode, m.Payload
	for i, size := range sizes {
		h := frames.Header{Fin: i == len(sizes)-1, Opcode: opcode, Masked: mask != nil}
		if h.Masked {
			h.Mask = mask()
		}
		b = frames.AppendFrame(b, h, rest[:size])
		opcode, rest = frames.Continuation, rest[size:]
	}
	return b
}
