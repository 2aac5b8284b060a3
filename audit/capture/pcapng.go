package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Types of pcapng blocks that are read; all others are skipped, as
// draft-ietf-opsawg-pcapng, Section 3.1 wants it.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 2 // obsolete; Wireshark up to 1.1 wrote it
	blockSimple    = 3
	blockEnhanced  = 6
)

// An ngSource reads packets from a pcapng file.
type ngSource struct {
	r          io.Reader
	at         int64 // bytes read
	block      int64 // where the current block begins
	order      binary.ByteOrder
	interfaces []ngInterface
	buf        []byte
}

func (s *ngSource) offset() int64 { return s.block }

func (s *ngSource) next() (packet, error) {
	for {
		p, ok, err := s.readBlock()
		if ok || err != nil {
			return p, err
		}
	}
}

// readBlock reads one block. ok says that it was a packet.
func (s *ngSource) readBlock() (p packet, ok bool, err error) {
	s.block = s.at
	head, err := s.read(8)
	if err != nil {
		return p, false, err // io.EOF: a file ends between blocks
	}
	defer func() {
		if err == io.EOF {
			err = errTruncated
		}
	}()
	body := int64(12) // what has been read, with the trailing length
	if binary.LittleEndian.Uint32(head) == blockSection {
		// The type reads the same both ways; the order of the length follows it.
		length := [4]byte(head[4:])
		magic, err := s.read(4)
		if err != nil {
			return p, false, err
		}
		switch binary.LittleEndian.Uint32(magic) {
		case 0x1a2b3c4d:
			s.order = binary.LittleEndian
		case 0x4d3c2b1a:
			s.order = binary.BigEndian
		default:
			return p, false, fmt.Errorf("byte order mark of section is %x", magic)
		}
		head = append(head[:0], 0x0a, 0x0d, 0x0d, 0x0a)
		head = append(head, length[:]...)
		body += 4
	} else if s.order == nil {
		return p, false, errors.New("block before the first section")
	}
	kind, length := s.order.Uint32(head), s.order.Uint32(head[4:])
	if int64(length) < body || length%4 != 0 {
		return p, false, fmt.Errorf("block length %d", length)
	}
	left := int64(length) - body // without the trailing length
	end := s.at + left
	switch kind {
	case blockSection:
		err = s.section(left)
	case blockInterface:
		err = s.describe(left)
	case blockPacket, blockEnhanced:
		p, err = s.packet(kind, left)
		ok = true
	case blockSimple:
		p, err = s.simple(left)
		ok = true
	}
	if err == nil {
		err = s.finish(end, length)
	}
	return p, ok && err == nil, err
}

// section begins a new section, which has interfaces of its own.
func (s *ngSource) section(left int64) error {
	if left < 12 {
		return fmt.Errorf("section header of %d bytes", left)
	}
	b, err := s.read(12)
	if err != nil {
		return err
	}
	if major := s.order.Uint16(b); major != 1 {
		return fmt.Errorf("pcapng version %d", major)
	}
	s.interfaces = s.interfaces[:0]
	return nil
}

func (s *ngSource) packet(kind uint32, left int64) (packet, error) {
	if left < 20 {
		return packet{}, fmt.Errorf("packet block of %d bytes", left)
	}
	b, err := s.read(20)
	if err != nil {
		return packet{}, err
	}
	index := s.order.Uint32(b)
	if kind == blockPacket {
		index = uint32(s.order.Uint16(b)) // a count of drops follows
	}
	i, err := s.face(index)
	if err != nil {
		return packet{}, err
	}
	p := packet{link: i.link, at: i.time(s.order.Uint32(b[4:]), s.order.Uint32(b[8:]))}
	p.data, err = s.data(int64(s.order.Uint32(b[12:])), left-20)
	return p, err
}

// simple reads a packet without a time, of the first interface.
func (s *ngSource) simple(left int64) (packet, error) {
	if left < 4 {
		return packet{}, fmt.Errorf("packet block of %d bytes", left)
	}
	b, err := s.read(4)
	if err != nil {
		return packet{}, err
	}
	i, err := s.face(0)
	if err != nil {
		return packet{}, err
	}
	n := s.order.Uint32(b) // of the packet; how much was captured is not said
	if i.snap != 0 {
		n = min(n, i.snap)
	}
	data, err := s.data(int64(n), left-4)
	return packet{link: i.link, data: data}, err
}

func (s *ngSource) face(index uint32) (*ngInterface, error) {
	if uint64(index) >= uint64(len(s.interfaces)) {
		return nil, fmt.Errorf("interface %d of %d", index, len(s.interfaces))
	}
	return &s.interfaces[index], nil
}

func (s *ngSource) data(n, left int64) ([]byte, error) {
	if n > left || n > maxPacket {
		return nil, fmt.Errorf("packet of %d bytes in a block with %d", n, left)
	}
	return s.read(int(n))
}

// finish skips to end and reads the length that closes a block.
func (s *ngSource) finish(end int64, length uint32) error {
	n, err := io.CopyN(io.Discard, s.r, end-s.at)
	s.at += n
	if err != nil {
		return err
	}
	var closing [4]byte
	n4, err := io.ReadFull(s.r, closing[:])
	s.at += int64(n4)
	if err != nil {
		return errEOF(err)
	}
	if again := s.order.Uint32(closing[:]); again != length {
		return fmt.Errorf("block of %d bytes closes with %d", length, again)
	}
	return nil
}

// read returns the next n bytes, good until the next call: io.EOF if there are
// none, errTruncated if there are fewer.
func (s *ngSource) read(n int) ([]byte, error) {
	if n > cap(s.buf) {
		s.buf = make([]byte, max(n, 1<<12))
	}
	b := s.buf[:n]
	got, err := io.ReadFull(s.r, b)
	s.at += int64(got)
	return b, errEOF(err)
}

func errEOF(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}
