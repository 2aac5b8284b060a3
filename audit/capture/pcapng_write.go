package capture

import (
	"encoding/binary"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/gopacket/layers"
)

// Options of pcapng blocks that are written (draft-ietf-opsawg-pcapng, Section
// 3.5 and those of the blocks).
const (
	blockStatistics = 5

	optEnd         = 0
	optComment     = 1
	optApplication = 4 // of a section
	optName        = 2 // of an interface, as optResolution
	optResolution  = 9
	optReceived    = 4 // of statistics, as optDropped
	optDropped     = 5
)

// maxComment is the longest comment that is written, in bytes. The format has
// room for 65,535; a list of packets is no place for a novel.
const maxComment = 1000

// An ngWriter writes blocks of one section with one interface: Ethernet, times
// in nanoseconds, little endian. pcapgo's writer cannot put a comment on a
// packet, which is where ours have their ids.
type ngWriter struct {
	w    io.Writer
	buf  []byte // one block
	size int64  // bytes written
}

// newNGWriter writes the head of a file.
func newNGWriter(w io.Writer, application, comment string) (*ngWriter, error) {
	g := &ngWriter{w: w}
	b := g.begin(blockSection)
	b = binary.LittleEndian.AppendUint32(b, 0x1a2b3c4d)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint64(b, 1<<64-1) // length of the section: not said
	b = appendText(b, optComment, comment)
	b = appendText(b, optApplication, application)
	if err := g.end(b); err != nil {
		return nil, err
	}
	b = g.begin(blockInterface)
	b = binary.LittleEndian.AppendUint16(b, uint16(layers.LinkTypeEthernet))
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, 0) // no limit on packets
	b = appendText(b, optName, application)
	b = append(b, optResolution, 0, 1, 0, 9, 0, 0, 0) // 10^-9 s
	return g, g.end(b)
}

// packet writes one Enhanced Packet Block.
func (g *ngWriter) packet(at time.Time, data []byte, comment string) error {
	b := g.begin(blockEnhanced)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = appendStamp(b, at)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = pad(append(b, data...))
	return g.end(appendText(b, optComment, comment))
}

// statistics writes one Interface Statistics Block.
func (g *ngWriter) statistics(at time.Time, received, dropped uint64) error {
	b := g.begin(blockStatistics)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = appendStamp(b, at)
	for _, o := range []struct {
		code  uint16
		value uint64
	}{{optReceived, received}, {optDropped, dropped}} {
		b = binary.LittleEndian.AppendUint16(b, o.code)
		b = binary.LittleEndian.AppendUint16(b, 8)
		b = binary.LittleEndian.AppendUint64(b, o.value)
	}
	return g.end(b)
}

func (g *ngWriter) begin(kind uint32) []byte {
	b := binary.LittleEndian.AppendUint32(g.buf[:0], kind)
	return append(b, 0, 0, 0, 0)
}

// end closes the block in b and writes it with one call.
func (g *ngWriter) end(b []byte) error {
	b = append(b, optEnd, 0, 0, 0)
	length := uint32(len(b) + 4)
	b = binary.LittleEndian.AppendUint32(b, length)
	binary.LittleEndian.PutUint32(b[4:], length)
	g.buf = b
	n, err := g.w.Write(b)
	g.size += int64(n)
	return err
}

// appendStamp appends a time as two halves. Before 1970 there is none.
func appendStamp(b []byte, at time.Time) []byte {
	var t uint64
	if ns := at.UnixNano(); ns > 0 {
		t = uint64(ns)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(t>>32))
	return binary.LittleEndian.AppendUint32(b, uint32(t))
}

// appendText appends a string option: "a UTF-8 string", not longer than
// maxComment. None for "".
func appendText(b []byte, code uint16, s string) []byte {
	if s == "" {
		return b
	}
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) > maxComment {
		end := maxComment
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	return pad(append(b, s...))
}

// pad fills up to 32 bits. A block begins at a multiple of them in its buffer.
func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
