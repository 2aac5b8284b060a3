package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/tlog"
)

// A piece is what the walk over the segments meets next: a block, damage, or
// the end of a segment. Once done is closed it has been looked at.
type piece struct {
	s     *source
	first bool // of its segment
	last  bool // its segment is the last
	off   int64

	block  *located // nil: damage, or the end of the segment
	cut    *header  // of a block that the end of the file cuts short
	damage error

	done chan struct{}
	// What a worker finds out about a block:
	leaf       tlog.Hash
	losses     []Loss
	expiries   []Expiry
	err        error // what is wrong with the block, judged by its header
	unreadable error // the file cannot be read
}

func (p *piece) place() string {
	return fmt.Sprintf("%s: offset %d", filepath.Join(segmentDir, p.s.name), p.off)
}

// walk yields the pieces of all segments in order. The headers are read one
// after the other; the rest of the blocks is read and checked by workers, one
// for each core.
func (v *verification) walk(l *leaves, yield func(*piece) error) error {
	names, err := segments(v.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = nil // no directory: no segments
	workers := runtime.GOMAXPROCS(0)
	work := make(chan *piece, workers)
	order := make(chan *piece, 4*workers)
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		defer close(order)
		defer close(work)
		failed <- v.produce(names, work, order, stop)
	}()
	for range workers {
		go func() {
			c := checker{leaves: l}
			for p := range work {
				c.check(p)
				close(p.done)
			}
		}()
	}
	for p := range order {
		<-p.done
		if err == nil {
			if err = yield(p); err != nil {
				close(stop)
			}
		}
		if p.block == nil && p.damage == nil {
			p.s.close() // all its blocks have been looked at
		}
	}
	return errors.Join(err, <-failed)
}

func (v *verification) produce(names []string, work, order chan<- *piece, stop <-chan struct{}) error {
	for i, name := range names {
		s, err := openSource(v.dir, name, v.id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since: what it had is missing, or on record
		}
		if err != nil {
			return err
		}
		first := true
		put := func(p *piece) {
			p.s, p.first, p.last, p.done = s, first, i == len(names)-1, make(chan struct{})
			first = false
			order <- p
			if p.block == nil {
				close(p.done)
			} else {
				work <- p
			}
		}
		for off := int64(0); off < s.size; {
			select {
			case <-stop:
				off = s.size
				continue
			default:
			}
			b, err := s.block(off)
			if err == nil {
				put(&piece{off: off, block: &b})
				off += b.size()
				continue
			}
			var damage *DamageError
			if !errors.As(err, &damage) {
				put(&piece{off: s.size})
				return err
			}
			put(&piece{off: off, damage: damage.Err, cut: s.header(off)})
			if off = s.search(off + 1); off < 0 {
				break
			}
		}
		put(&piece{off: s.size})
	}
	return nil
}

// header returns the header at off, if there is a whole one.
func (s *source) header(off int64) *header {
	var b [headerFrame]byte
	if _, err := s.f.ReadAt(b[:], off); err != nil {
		return nil
	}
	h, n, err := consumeHeader(b[:])
	if err != nil || n == 0 || h.ID != s.id {
		return nil
	}
	return &h
}

// torn says whether what the segment has from off on looks as a crash leaves it.
func (s *source) torn(off int64) bool {
	torn, err := isTorn(io.NewSectionReader(s.f, off, s.size-off), headerPrefix(s.id))
	return err == nil && torn
}

// A checker checks blocks one after the other.
type checker struct {
	leaves *leaves
	dec    *zstd.Decoder
	leafs  leafHasher
	raw    []byte
}

// ownEvent begins the events of the log about itself.
var ownEvent = []byte(`,"event":"audit.`)

var gapEvent = []byte(`,"event":"` + AuditGap + `"`)

// check fills in what there is to be known about a block. One that is not what
// was signed is not inflated: its header may say anything.
func (c *checker) check(p *piece) {
	p.leaf = c.leafs.hash(p.block.header.append(nil)[8:])
	if n := p.block.Number; n < c.leaves.signed && p.leaf != c.leaves.hashes[n] {
		return
	}
	stored, err := p.s.stored(*p.block)
	var damage *DamageError
	switch {
	case errors.As(err, &damage):
		p.err = damage.Err
	case err != nil:
		p.unreadable = err
	default:
		p.losses, p.expiries, p.err = c.records(&p.block.header, stored)
	}
}

// records checks the records of a block.
func (c *checker) records(h *header, stored []byte) (losses []Loss, expiries []Expiry, err error) {
	if c.dec == nil {
		if c.dec, err = newDecoder(); err != nil {
			return nil, nil, err
		}
	}
	if cap(c.raw) < int(h.RawLen) || cap(c.raw) > 16*maxRaw {
		c.raw = make([]byte, 0, max(int(h.RawLen), maxRaw))
	}
	raw, err := c.dec.DecodeAll(stored, c.raw[:0:h.RawLen])
	if err != nil || len(raw) != int(h.RawLen) {
		return nil, nil, errors.New("the stored bytes do not decompress to the length of the header")
	}
	if raw[len(raw)-1] != '\n' {
		return nil, nil, errors.New("the last record has no end")
	}
	var f frontier
	var prefix []byte
	for line := range bytes.Lines(raw) {
		line = line[:len(line)-1]
		prefix = append(strconv.AppendUint(append(prefix[:0], `{"seq":`...), h.FirstSeq+f.size, 10), ',')
		if !bytes.HasPrefix(line, prefix) {
			return nil, nil, fmt.Errorf("record %d does not bear this seq", h.FirstSeq+f.size)
		}
		if bytes.Contains(line, ownEvent) {
			if e, ok := parseExpiry(line); ok {
				expiries = append(expiries, e)
			} else if bytes.Contains(line, gapEvent) {
				losses = append(losses, parseLoss(line))
			}
		}
		f.add(c.leafs.hash(line))
	}
	if f.size != uint64(h.Count) {
		return nil, nil, fmt.Errorf("%d records, %d in the header", f.size, h.Count)
	}
	if h.Root != [32]byte{} && f.root() != h.Root {
		return nil, nil, errors.New("the records do not give the root of the header")
	}
	return losses, expiries, nil
}

func parseLoss(line []byte) Loss {
	var rec struct {
		Loss
		Gap struct {
			Count int64 `json:"count"`
		} `json:"gap"`
	}
	if json.Unmarshal(line, &rec) == nil {
		rec.Loss.Count = rec.Gap.Count
	}
	return rec.Loss
}
