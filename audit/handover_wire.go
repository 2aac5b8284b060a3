package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// What two processes say to each other
//
// Each begins with eight bytes that name protocol and version, and a hello. Then
// come frames: a byte for the kind, four for the length of what follows. Who
// forwards sends records, numbered from 1; who accepts sends how many are in a file,
// and whether the log can be written. Each may say that it is at its end. Numbers
// are big endian.
//
//	'H' hello    JSON
//	'R' records  8 number of the first, 1 flags, lines as they are in the log but without {"seq":N
//	'E' end      nothing
//	'A' written  8 number of the last
//	'S' state    JSON
//
// The two may be of different versions of framegate, so: keys of JSON and bytes
// behind 'A' and 'E' that one does not know are passed over, and so are frames of
// a kind in lower case. Anything else that is not as it says here is an error.
// Nothing is read beyond a frame.
const (
	protocol        = "FGHANDO"
	protocolVersion = '1'

	kindHello   = 'H'
	kindRecords = 'R'
	kindEnd     = 'E'
	kindWritten = 'A'
	kindState   = 'S'

	frameHead    = 5
	recordsHead  = 9
	flagSign     = 1 // a checkpoint is due behind the records
	maxShort     = 64 << 10
	maxLines     = 256 << 10 // of records in a frame, unless one alone is longer
	maxUnwritten = 4 << 20   // bytes that are sent and not in a file, likewise

	greetWithin = 10 * time.Second
)

// errFrame: what the other process sends is not of this protocol.
var errFrame = errors.New("not as one framegate hands its log to another")

// A hello is what the two ends say first.
type hello struct {
	Origin string `json:"origin"` // of the log
	PID    int    `json:"pid"`
}

// A state is how the log of who accepts fares.
type state struct {
	Failing string `json:"failing,omitempty"` // why it cannot be written
	Refused string `json:"refused,omitempty"` // why nothing more is taken
}

// A peer is the other process.
type peer struct {
	conn  net.Conn
	hello hello
}

// appendFrameHead begins a frame of n bytes.
func appendFrameHead(b []byte, kind byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), uint32(n))
}

func appendJSONFrame(b []byte, kind byte, v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		return b // numbers and strings always can
	}
	return append(appendFrameHead(b, kind, len(body)), body...)
}

func appendWritten(b []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(appendFrameHead(b, kindWritten, 8), n)
}

// greet exchanges hellos over conn; who forwards says it first. Who accepts
// answers even what it cannot take, so that the other one hears why. Both must have
// the same log: the keys of payloads lie in its directory.
func (l *Log) greet(conn net.Conn, first bool) (p *peer, err error) {
	if first {
		if err := l.sayHello(conn); err != nil {
			return nil, err
		}
		return l.hearHello(conn)
	}
	p, err = l.hearHello(conn)
	if said := l.sayHello(conn); err == nil {
		err = said
	}
	return p, err
}

func (l *Log) sayHello(conn net.Conn) error {
	b := append([]byte(protocol), protocolVersion)
	_, err := conn.Write(appendJSONFrame(b, kindHello, hello{l.Origin(), os.Getpid()}))
	return err
}

func (l *Log) hearHello(conn net.Conn) (*peer, error) {
	var first [len(protocol) + 1]byte
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return nil, err
	}
	version, ok := strings.CutPrefix(string(first[:]), protocol)
	if !ok {
		return nil, fmt.Errorf("%w: it begins with %q", errFrame, first[:])
	}
	if version[0] != protocolVersion {
		return nil, fmt.Errorf("the other framegate hands a log over in version %q, this one in %q: end the old one, then start the new", version, string(protocolVersion))
	}
	kind, body, err := readFrame(conn)
	if err != nil {
		return nil, err
	}
	p := &peer{conn: conn}
	if kind != kindHello || json.Unmarshal(body, &p.hello) != nil {
		return nil, fmt.Errorf("%w: no hello", errFrame)
	}
	if p.hello.Origin != l.Origin() {
		return nil, fmt.Errorf("process %d has another log: %q, and this one is %q", p.hello.PID, p.hello.Origin, l.Origin())
	}
	return p, nil
}

// readFrame reads the next frame of a kind that is known. An end of what is read
// before its first byte is io.EOF.
func readFrame(r io.Reader) (kind byte, body []byte, err error) {
	for {
		var head [frameHead]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return 0, nil, err
		}
		kind, n := head[0], int64(binary.BigEndian.Uint32(head[1:]))
		most := int64(maxShort)
		if kind == kindRecords {
			most = recordsHead + maxRecord
		}
		if n > most {
			return 0, nil, fmt.Errorf("%w: a frame of %d bytes", errFrame, n)
		}
		body, err := readBody(r, n)
		if err != nil {
			return 0, nil, err
		}
		switch {
		case bytes.IndexByte([]byte{kindHello, kindRecords, kindEnd, kindWritten, kindState}, kind) >= 0:
			return kind, body, nil
		case kind < 'a' || kind > 'z':
			return 0, nil, fmt.Errorf("%w: a frame of kind %q", errFrame, kind)
		}
	}
}

// readBody reads n bytes. It makes room for many only as they come.
func readBody(r io.Reader, n int64) ([]byte, error) {
	if n <= recordsHead+maxLines {
		body := make([]byte, n)
		_, err := io.ReadFull(r, body)
		return body, whole(err)
	}
	var body bytes.Buffer
	_, err := io.CopyN(&body, r, n)
	return body.Bytes(), whole(err)
}

// whole says that an end in the middle of a frame is none.
func whole(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseWritten parses the body of a written frame.
func parseWritten(body []byte) (uint64, error) {
	if len(body) < 8 {
		return 0, fmt.Errorf("%w: %d bytes of a number", errFrame, len(body))
	}
	return binary.BigEndian.Uint64(body), nil
}

// parseRecords takes the records of a frame, of which next is to be the first,
// into a chunk.
func parseRecords(body []byte, next uint64) (*chunk, error) {
	if len(body) <= recordsHead {
		return nil, fmt.Errorf("%w: no records", errFrame)
	}
	if first := binary.BigEndian.Uint64(body); first != next {
		return nil, fmt.Errorf("%w: record %d where %d should be", errFrame, first, next)
	}
	flags, text := body[8], body[recordsHead:]
	if flags&^flagSign != 0 {
		return nil, fmt.Errorf("%w: flags %#x", errFrame, flags)
	}
	if text[len(text)-1] != '\n' {
		return nil, fmt.Errorf("%w: no newline at the end", errFrame)
	}
	c := &chunk{buf: text, sign: flags&flagSign != 0}
	end := 0
	for line := range bytes.Lines(text) {
		ns, err := checkLine(line)
		if err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", errFrame, next+uint64(len(c.recs)), err)
		}
		end += len(line)
		c.recs = append(c.recs, chunkRecord{end: end, ns: ns})
	}
	if len(c.recs) > 1 && len(text) > maxLines || len(text) > maxRecord-longestSeq {
		return nil, fmt.Errorf("%w: %d records of %d bytes", errFrame, len(c.recs), len(text))
	}
	return c, nil
}

// How each line begins, so that the time is at one place.
const (
	beforeTime = `,"time":"`
	timeLength = len("2006-01-02T15:04:05.000000000Z")
	behindTime = `","event":"`
)

// checkLine says whether a line, without its seq and with its newline, makes a
// record that every reader takes, and when it was. The seq comes from the writer
// alone: a line that brings one would overrule it.
func checkLine(line []byte) (ns int64, err error) {
	body := line[:len(line)-1]
	if !bytes.HasPrefix(body, []byte(beforeTime)) || len(body) < len(beforeTime)+timeLength ||
		!bytes.HasPrefix(body[len(beforeTime)+timeLength-1:], []byte("Z"+behindTime)) {
		return 0, errors.New("it does not begin as one")
	}
	if !utf8.Valid(body) {
		return 0, errors.New("not UTF-8")
	}
	for _, c := range body {
		if c < ' ' || c == 0x7f {
			return 0, fmt.Errorf("a byte %#x in it", c)
		}
	}
	const probe = math.MaxUint64
	var r Record
	if err := json.Unmarshal(append(appendSeq(make([]byte, 0, longestSeq+len(body)), probe), body...), &r); err != nil {
		return 0, err
	}
	if r.Seq != probe || r.Event == "" {
		return 0, errors.New("a seq of its own, or no event")
	}
	return unixNano(r.Time), nil
}

// timeOf is the time of a line that this process has made.
func timeOf(line []byte) int64 {
	t, err := time.Parse(time.RFC3339Nano, string(line[len(beforeTime):][:timeLength]))
	if err != nil {
		return 0
	}
	return unixNano(t)
}

// lengthOfSeq is how much of a record the writer has put before what was recorded.
func lengthOfSeq(record []byte) int { return bytes.IndexByte(record, ',') }
