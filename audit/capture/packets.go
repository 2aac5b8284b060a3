package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket/pcapgo"
)

// maxPacket is the longest packet that is read: more than the 256 KiB that
// libpcap would ever take, so a record above it is no record.
const maxPacket = 1 << 20

// Stats says what became of the packets of a capture. Whatever was not handed
// to a Stream is in here.
type Stats struct {
	Packets     int64 // read
	Other       int64 // of these: not TCP over IP
	Unsupported int64 // of a link type that is not decoded
	Malformed   int64 // of which a header does not parse, or is not all there
	Fragments   int64 // fragments of IP that made no packet
	Stray       int64 // segments outside of any window, or of a connection that was over

	Connections int64 // that had data
	Evicted     int64 // of these: closed early, as there were too many
	Abandoned   int64 // times that waiting for a segment ended at a memory limit
	Missing     int64 // bytes reported as gaps
}

// A packet is one packet of a capture file. data is good until the next one.
type packet struct {
	link uint32
	at   time.Time
	data []byte
}

// A source is a file of packets. next returns io.EOF at its end, and offset
// where the packet begins that was read last, or could not be read.
type source interface {
	next() (packet, error)
	offset() int64
}

// ReadPackets reads a pcap or pcapng file, also compressed by gzip, and calls
// open for each TCP connection that has data, before its first byte. Of what
// open returns the methods are called from the same goroutine; nil ignores the
// connection. Each Stream is closed before ReadPackets is back.
//
// An error from the middle of the file is an [*Error]: what stands before it has been
// delivered, and Stats counts it.
func ReadPackets(r io.Reader, open func(*Conn) Stream) (Stats, error) {
	return readPackets(r, open, defaultLimits)
}

func readPackets(r io.Reader, open func(*Conn) Stream, limits limits) (Stats, error) {
	s, err := newSource(r)
	if err != nil {
		return Stats{}, err
	}
	t := newTable(open, limits)
	err = t.readAll(s)
	t.end()
	return t.stats, err
}

func newSource(r io.Reader) (source, error) {
	r, format, err := Unwrap(r)
	if err != nil {
		return nil, err
	}
	switch format {
	case PCAP:
		return newPCAP(r)
	case PCAPNG:
		return &ngSource{r: r}, nil
	}
	return nil, fmt.Errorf("neither pcap nor pcapng (%v)", format)
}

func (t *table) readAll(s source) error {
	d := newDecoder(&t.stats)
	var unsupported uint32
	for {
		p, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &Error{Place: fmt.Sprintf("packet %d", t.stats.Packets+1), Offset: s.offset(), Err: err}
		}
		t.stats.Packets++
		switch seg, err := d.decode(p); {
		case err == nil:
			t.segment(seg)
		case errors.Is(err, errOther):
			t.stats.Other++
		case errors.Is(err, errLink):
			t.stats.Unsupported++
			unsupported = p.link
		case errors.Is(err, errMalformed):
			t.stats.Malformed++
		}
	}
	t.stats.Fragments += d.fragments.left()
	if n := t.stats.Unsupported; n > 0 && n == t.stats.Packets {
		return fmt.Errorf("link type %d is not supported", unsupported)
	}
	return nil
}

// A pcapSource reads packets from a libpcap file.
type pcapSource struct {
	r    *pcapgo.Reader
	link uint32
	at   int64 // where the current record begins
	then int64 // where the next one does
}

const pcapHeaderSize, pcapRecordSize = 24, 16

// newPCAP reads the file's header a second time for the link type, of which
// gopacket keeps eight bits: LINKTYPE_LINUX_SLL2 is 276.
func newPCAP(r io.Reader) (*pcapSource, error) {
	header := make([]byte, pcapHeaderSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, &Error{Place: "file header", Err: errTruncated}
	}
	reader, err := pcapgo.NewReader(io.MultiReader(bytes.NewReader(header), r))
	if err != nil {
		return nil, &Error{Place: "file header", Err: err}
	}
	// Many writers leave the limit 0, or do not keep to their own.
	reader.SetSnaplen(maxPacket)
	var order binary.ByteOrder = binary.LittleEndian
	if header[0] == 0xa1 {
		order = binary.BigEndian
	}
	// The upper bits tell of a frame check sequence, which follows the packet
	// and so is cut off by the length that IP has.
	link := order.Uint32(header[20:]) & 0x03ffffff
	return &pcapSource{r: reader, link: link, then: pcapHeaderSize}, nil
}

func (s *pcapSource) offset() int64 { return s.at }

func (s *pcapSource) next() (packet, error) {
	s.at = s.then
	data, info, err := s.r.ZeroCopyReadPacketData()
	inside := !info.Timestamp.IsZero() // a record header has been read
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF) && inside:
		return packet{}, errTruncated
	case err != nil:
		return packet{}, err
	}
	s.then += pcapRecordSize + int64(len(data))
	return packet{link: s.link, at: info.Timestamp, data: data}, nil
}
