package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A block is a header in a skippable frame and a zstd frame with the records.
// RFC 8878 section 3.1.2: skippable frames "allow the insertion of user-defined
// metadata into a flow of concatenated frames", and a decoder passes over them.
const (
	// RFC 8878 gives 0x184D2A50 to 0x184D2A5F. 50 is what pzstd writes, 5E is
	// the seek table of zstd's seekable format.
	skippableMagic = 0x184D2A57

	headerMagic = "FGAUDIT1" // the last character is the version of the format
	headerSize  = 136        // content of the skippable frame
	headerFrame = 8 + headerSize

	maxCount = 4096      // records in a block
	maxRaw   = 256 << 10 // bytes of records in a block, unless one alone is longer
	// maxRecord bounds what a reader must be ready to inflate. It is above the
	// largest message with every byte of it escaped (64 MiB, six for one).
	maxRecord = 512 << 20
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// errNewer: the log is of a format that this program does not know.
var errNewer = errors.New("written by a newer framegate, in a format that this one does not know")

// A logID tells one log from another.
type logID [16]byte

// A header describes one block. All that is needed to pass over the block, to
// choose it by time and to check its bytes is here.
type header struct {
	ID        logID
	Number    uint64            // of the block in the log, from 0
	FirstSeq  uint64            // seq of its first record
	Count     uint32            // records, 1 to maxCount
	First     int64             // earliest time of a record, Unix nanoseconds
	Last      int64             // latest time of a record
	RawLen    uint32            // bytes of the records, newlines included
	StoredLen uint32            // bytes of the zstd frame behind the header
	Stored    [sha256.Size]byte // SHA-256 of these bytes
	Root      [sha256.Size]byte // RFC 6962 root over the records; zero in blocks of before there was one
}

// append appends the skippable frame. Its own two fields are little endian, as
// RFC 8878 has them; the content is big endian.
func (h *header) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, headerSize)
	start := len(b)
	b = append(b, headerMagic...)
	b = append(b, h.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Number)
	b = binary.BigEndian.AppendUint64(b, h.FirstSeq)
	b = binary.BigEndian.AppendUint32(b, h.Count)
	b = binary.BigEndian.AppendUint64(b, uint64(h.First))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Last))
	b = binary.BigEndian.AppendUint32(b, h.RawLen)
	b = binary.BigEndian.AppendUint32(b, h.StoredLen)
	b = append(b, h.Stored[:]...)
	b = append(b, h.Root[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], crcTable))
}

// headerPrefix is how every block of a log begins.
func headerPrefix(id logID) []byte {
	return (&header{ID: id}).append(nil)[:8+len(headerMagic)+len(id)]
}

// consumeHeader parses the header at the start of b. n == 0 without an error
// means that more bytes are needed; otherwise h.append(nil) equals b[:n].
func consumeHeader(b []byte) (h header, n int, err error) {
	if len(b) >= 4 && binary.LittleEndian.Uint32(b) != skippableMagic {
		return h, 0, errors.New("no block header here")
	}
	if len(b) < 8+len(headerMagic) {
		return h, 0, nil
	}
	switch magic := string(b[8 : 8+len(headerMagic)]); {
	case magic[:7] != headerMagic[:7]:
		return h, 0, errors.New("no block header here")
	case magic != headerMagic:
		return h, 0, errNewer
	case binary.LittleEndian.Uint32(b[4:]) != headerSize:
		return h, 0, errors.New("block header of a wrong length")
	}
	if len(b) < headerFrame {
		return h, 0, nil
	}
	p := b[8+len(headerMagic) : headerFrame]
	copy(h.ID[:], p)
	h.Number = binary.BigEndian.Uint64(p[16:])
	h.FirstSeq = binary.BigEndian.Uint64(p[24:])
	h.Count = binary.BigEndian.Uint32(p[32:])
	h.First = int64(binary.BigEndian.Uint64(p[36:]))
	h.Last = int64(binary.BigEndian.Uint64(p[44:]))
	h.RawLen = binary.BigEndian.Uint32(p[52:])
	h.StoredLen = binary.BigEndian.Uint32(p[56:])
	copy(h.Stored[:], p[60:])
	copy(h.Root[:], p[92:])
	if binary.BigEndian.Uint32(p[124:]) != crc32.Checksum(b[8:headerFrame-4], crcTable) {
		return h, 0, errors.New("block header does not match its checksum")
	}
	if h.Count == 0 || h.Count > maxCount || h.RawLen == 0 || h.RawLen > maxRecord ||
		h.StoredLen == 0 || h.StoredLen > maxRecord+maxRecord/128 || h.First > h.Last {
		return h, 0, fmt.Errorf("impossible block header: %d records, %d bytes in %d", h.Count, h.RawLen, h.StoredLen)
	}
	return h, headerFrame, nil
}

// parseEntry parses an entry of the tree: the content of a header, without the
// magic number and the length of its frame.
func parseEntry(entry []byte) (header, error) {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, headerFrame), skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, headerSize)
	h, n, err := consumeHeader(append(b, entry...))
	if err == nil && (n == 0 || len(entry) != headerSize) {
		err = fmt.Errorf("an entry of %d bytes, expected %d", len(entry), headerSize)
	}
	return h, err
}

// size is that of the whole block.
func (h *header) size() int64 { return headerFrame + int64(h.StoredLen) }
