package capture

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// A Format is a kind of file with traffic in it.
type Format int

const (
	Unknown   Format = iota
	PCAP             // libpcap, micro- or nanoseconds, either byte order
	PCAPNG           // pcapng
	HAR              // HTTP Archive 1.2, perhaps with _webSocketMessages
	Recording        // one JSON object a line for each message
	Log              // zstd frames, as the segments of package audit: not read here
	Gzip             // any of these, compressed
)

func (f Format) String() string {
	switch f {
	case PCAP:
		return "pcap"
	case PCAPNG:
		return "pcapng"
	case HAR:
		return "HAR"
	case Recording:
		return "recording"
	case Log:
		return "log"
	case Gzip:
		return "gzip"
	}
	return "unknown"
}

// peekSize is how much of a file decides its format. A recording's first line
// may be longer; its first key is not.
const peekSize = 4096

// utf8BOM may stand before a HAR ("HAR files are required to be saved in UTF-8
// encoding", HAR 1.2) and before nothing else.
var utf8BOM = []byte("\xef\xbb\xbf")

// Detect tells the format of a file by its first bytes, 4096 or all of them.
func Detect(first []byte) Format {
	if len(first) >= 4 {
		switch [4]byte(first) {
		case [4]byte{0xa1, 0xb2, 0xc3, 0xd4}, [4]byte{0xd4, 0xc3, 0xb2, 0xa1},
			[4]byte{0xa1, 0xb2, 0x3c, 0x4d}, [4]byte{0x4d, 0x3c, 0xb2, 0xa1}:
			return PCAP
		case [4]byte{0x0a, 0x0d, 0x0d, 0x0a}:
			return PCAPNG
		case [4]byte{0x28, 0xb5, 0x2f, 0xfd}: // RFC 8878, Section 3.1.1: a frame
			return Log
		}
		if first[0]&0xf0 == 0x50 && first[1] == 0x2a && first[2] == 0x4d && first[3] == 0x18 {
			return Log // Section 3.1.2: a skippable frame
		}
	}
	if bytes.HasPrefix(first, []byte{0x1f, 0x8b}) { // RFC 1952, Section 2.3.1
		return Gzip
	}
	return detectJSON(bytes.TrimPrefix(first, utf8BOM))
}

// detectJSON goes by the first key that tells the formats apart. "event" comes
// before "dir" in a record of the log, which is none of them.
func detectJSON(first []byte) Format {
	dec := json.NewDecoder(bytes.NewReader(first))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return Unknown
	}
	for {
		key, err := dec.Token()
		if err != nil {
			return Unknown
		}
		switch key {
		case "log":
			return HAR
		case "dir", "opcode":
			return Recording
		case "event":
			return Unknown
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return Unknown
		}
	}
}

// Unwrap tells the format of what r holds, below gzip if there is some, and
// returns it from its first byte on: decompressed, without a byte order mark.
func Unwrap(r io.Reader) (io.Reader, Format, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	first, err := peek(b)
	if err != nil {
		return nil, Unknown, err
	}
	format := Detect(first)
	if format == Gzip {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, Unknown, fmt.Errorf("gzip: %w", err)
		}
		b = bufio.NewReaderSize(z, 1<<16)
		if first, err = peek(b); err != nil {
			return nil, Unknown, fmt.Errorf("gzip: %w", err)
		}
		format = Detect(first)
	}
	if format == Gzip {
		format = Unknown // twice is a bomb or a mistake
	}
	if bytes.HasPrefix(first, utf8BOM) {
		_, err = b.Discard(len(utf8BOM)) // has been peeked at
	}
	return b, format, err
}

// A File is an open capture. What it reads is as it is on the disk: each Read
// function of this package unwraps for itself.
type File struct {
	*os.File
	Format Format // below gzip, never Gzip
}

// Open opens a file that can be read again from its start, and tells its
// format. The caller closes it.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	_, format, err := Unwrap(f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &File{f, format}, nil
}

// peek returns up to peekSize bytes. An error matters if there are none before
// it; otherwise whoever reads that far meets it again.
func peek(b *bufio.Reader) ([]byte, error) {
	first, err := b.Peek(peekSize)
	if len(first) == 0 && err == io.EOF {
		return nil, errEmpty
	}
	if len(first) > 0 {
		err = nil
	}
	return first, err
}
