package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// A DamageError says where a log is not what it should be.
type DamageError struct {
	Segment string // file name
	Offset  int64  // of the block, in bytes
	Err     error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: offset %d: %v", filepath.Join(segmentDir, e.Segment), e.Offset, e.Err)
}

func (e *DamageError) Unwrap() error { return e.Err }

// errShort: the file ends inside a block. At the end of the last segment that
// is a block that is being written, or the torn tail of a crash.
var errShort = errors.New("the file ends inside a block")

// A source reads the blocks of one segment.
type source struct {
	f    *os.File
	name string
	id   logID
	size int64 // when it was opened; it may have grown since
}

// A located is a block and its place in the segment.
type located struct {
	header
	off int64
}

func openSource(dir, name string, id logID) (*source, error) {
	f, err := os.Open(filepath.Join(dir, segmentDir, name))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &source{f: f, name: name, id: id, size: info.Size()}, nil
}

func (s *source) close() { s.f.Close() }

func (s *source) damage(off int64, err error) error {
	return &DamageError{Segment: s.name, Offset: off, Err: err}
}

// block reads the header at off and sees that the whole block is in the file.
func (s *source) block(off int64) (located, error) {
	var b [headerFrame]byte
	n, err := s.f.ReadAt(b[:min(headerFrame, s.size-off)], off)
	if err != nil && err != io.EOF {
		return located{}, err
	}
	h, used, err := consumeHeader(b[:n])
	switch {
	case err != nil:
		return located{}, s.damage(off, err)
	case used == 0 || off+h.size() > s.size:
		return located{}, s.damage(off, errShort)
	case h.ID != s.id:
		return located{}, s.damage(off, fmt.Errorf("block of another log, %x", h.ID))
	}
	return located{h, off}, nil
}

// blocks yields the blocks from off on, judged by their headers alone. Damage
// is yielded as an error with the offset in the located; the walk then goes on
// at the next whole block, if there is one.
func (s *source) blocks(off int64) iter.Seq2[located, error] {
	return func(yield func(located, error) bool) {
		for off < s.size {
			b, err := s.block(off)
			if err == nil {
				if !yield(b, nil) {
					return
				}
				off += b.size()
				continue
			}
			var damage *DamageError
			next := int64(-1)
			if errors.As(err, &damage) {
				next = s.search(off + 1)
			}
			if next >= 0 && errors.Is(err, errShort) {
				err = s.damage(off, fmt.Errorf("block cut short, the next one begins at offset %d", next))
			}
			if !yield(located{off: off}, err) || next < 0 {
				return
			}
			off = next
		}
	}
}

// search returns the offset of the first whole block of this log at off or
// behind it, or -1.
func (s *source) search(off int64) int64 {
	prefix := headerPrefix(s.id)
	window := make([]byte, 1<<20)
	for off < s.size {
		n, err := s.f.ReadAt(window[:min(int64(len(window)), s.size-off)], off)
		if err != nil && err != io.EOF || n < len(prefix) {
			return -1
		}
		i := bytes.Index(window[:n], prefix)
		if i < 0 {
			off += int64(n - len(prefix) + 1)
			continue
		}
		if b, err := s.block(off + int64(i)); err == nil {
			if _, err := s.stored(b); err == nil {
				return b.off
			}
		}
		off += int64(i) + 1
	}
	return -1
}

// stored reads the bytes of a block behind its header and checks their hash.
func (s *source) stored(b located) ([]byte, error) {
	p := make([]byte, b.StoredLen)
	if _, err := s.f.ReadAt(p, b.off+headerFrame); err == io.EOF {
		return nil, s.damage(b.off, errShort) // cut off since the header was read
	} else if err != nil {
		return nil, err
	}
	if sha256.Sum256(p) != b.Stored {
		return nil, s.damage(b.off, errors.New("the stored bytes do not match their hash"))
	}
	return p, nil
}

// newDecoder returns a decoder that goes no further than the room it is given,
// whatever a frame says of itself.
func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
}

// lines returns the records of a block, each with its newline, in a slice of
// their own.
func (s *source) lines(b located, dec *zstd.Decoder) ([]byte, error) {
	p, err := s.stored(b)
	if err != nil {
		return nil, err
	}
	raw, err := dec.DecodeAll(p, make([]byte, 0, b.RawLen))
	if err != nil {
		return nil, s.damage(b.off, fmt.Errorf("block that does not decompress: %w", err))
	}
	if len(raw) != int(b.RawLen) || bytes.Count(raw, newline) != int(b.Count) || raw[len(raw)-1] != '\n' {
		return nil, s.damage(b.off, fmt.Errorf("the records are not the %d in %d bytes of the header", b.Count, b.RawLen))
	}
	return raw, nil
}

var newline = []byte{'\n'}
