package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// An IndexedSegment says what Index did with one segment.
type IndexedSegment struct {
	Segment string // file name
	Size    int64  // of the segment
	Covered int64  // bytes of it that are indexed
	Blocks  int    // in Covered
	Index   int64  // bytes of the index
	Kept    bool   // the index was there already
	Damage  error  // why nothing behind Covered is indexed; nil at the end of the segment
}

// Index makes what is missing of the index of the log in dir, or all of it, and
// deletes what belongs to segments that are gone. The log may be written to
// meanwhile. Queries that run meanwhile see an old index or a new one.
//
// What is behind damage stays without an index, so that every query comes
// across the damage.
func Index(dir string, rebuild bool) iter.Seq2[IndexedSegment, error] {
	return func(yield func(IndexedSegment, error) bool) {
		b, err := newIndexBuilder(dir)
		if err != nil {
			yield(IndexedSegment{}, err)
			return
		}
		for _, name := range b.segments {
			done, err := b.segment(name, rebuild)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed since its name was read
			}
			if !yield(done, err) || err != nil {
				return
			}
		}
		if err := b.sweep(); err != nil {
			yield(IndexedSegment{}, err)
		}
	}
}

type indexBuilder struct {
	dir      string
	id       logID
	segments []string
	dec      *zstd.Decoder
}

func newIndexBuilder(dir string) (*indexBuilder, error) {
	id, err := readLogID(dir)
	if err != nil {
		return nil, err
	}
	names, err := segments(dir)
	if err != nil {
		return nil, err
	}
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, indexDir), 0o700); err != nil {
		return nil, err
	}
	return &indexBuilder{dir, id, names, dec}, nil
}

func (b *indexBuilder) segment(name string, rebuild bool) (IndexedSegment, error) {
	done := IndexedSegment{Segment: name}
	s, err := openSource(b.dir, name, b.id)
	if err != nil {
		return done, err
	}
	defer s.close()
	done.Size = s.size
	path := filepath.Join(b.dir, indexDir, indexName(name))
	if !rebuild && b.fits(s, path, &done) {
		done.Kept = true
		return done, nil
	}
	content, err := b.build(s, &done)
	if err != nil {
		return done, err
	}
	done.Index = int64(len(content))
	return done, writeIndex(path, content)
}

// fits says whether the index at path is that of all there is in s, by the
// headers of all blocks.
func (b *indexBuilder) fits(s *source, path string, done *IndexedSegment) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, indexHead)
	if _, err := f.ReadAt(head, 0); err != nil {
		return false
	}
	x, err := parseIndexHead(head)
	info, statErr := f.Stat()
	if err != nil || statErr != nil || info.Size() != x.size() {
		return false
	}
	h := sha256.New()
	var end int64
	for block, err := range s.blocks(0) {
		if err != nil {
			return false // a torn tail, or damage: look again
		}
		h.Write(block.header.append(nil))
		end = block.off + block.size()
	}
	done.Covered, done.Blocks, done.Index = x.Covered, int(x.Blocks), info.Size()
	return end == x.Covered && x.ID == b.id && bytes.Equal(h.Sum(nil), x.Headers[:])
}

// build makes the index of the sound blocks from the beginning of s.
func (b *indexBuilder) build(s *source, done *IndexedSegment) ([]byte, error) {
	number, err := strconv.ParseUint(strings.TrimSuffix(s.name, segmentSuffix), 10, 64)
	if err != nil {
		return nil, err
	}
	x := indexFile{ID: b.id, Number: number, First: math.MaxInt64, Last: math.MinInt64}
	headers := sha256.New()
	var table, filters []byte
	for block, err := range s.blocks(0) {
		var filter []byte
		if err == nil && block.Number != number+uint64(x.Blocks) {
			// A query that passes over the block would not tell of it.
			err = s.damage(block.off, fmt.Errorf("block %d where block %d should be", block.Number, number+uint64(x.Blocks)))
		}
		if err == nil {
			filter, err = b.filter(s, block)
		}
		var damage *DamageError
		if errors.As(err, &damage) {
			if !errors.Is(err, errShort) {
				done.Damage = err
			}
			break
		}
		if err != nil {
			return nil, err
		}
		headers.Write(block.header.append(nil))
		x.Blocks++
		x.LastBlock, x.LastHeader = block.off, headerSum(&block.header)
		x.Covered = block.off + block.size()
		x.First, x.Last = min(x.First, block.First), max(x.Last, block.Last)
		e := indexed{
			StoredLen: block.StoredLen, First: block.First, Last: block.Last,
			FilterLen: uint32(len(filter)), FilterCRC: crc32.Checksum(filter, crcTable),
		}
		copy(e.Header[:], x.LastHeader[:])
		table = e.append(table)
		filters = append(filters, filter...)
	}
	headers.Sum(x.Headers[:0])
	x.Filters, x.Table = int64(len(filters)), crc32.Checksum(table, crcTable)
	done.Covered, done.Blocks = x.Covered, int(x.Blocks)
	return slices.Concat(x.append(nil), table, filters), nil
}

// writeIndex writes an index that is there whole or not at all for whoever
// reads meanwhile. It is not synced: a crash may leave one that is torn, which
// its checksums tell.
func writeIndex(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once renamed
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// size is that of the whole file.
func (x *indexFile) size() int64 { return indexHead + int64(x.Blocks)*indexEntry + x.Filters }

// filter returns the Bloom filter of a block. A record that a query could not
// read is damage here too.
func (b *indexBuilder) filter(s *source, block located) ([]byte, error) {
	raw, err := s.lines(block, b.dec)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]struct{})
	seq := block.FirstSeq
	for line := range bytes.Lines(raw) {
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, s.damage(block.off, fmt.Errorf("record %d: %w", seq, err))
		}
		if r.Seq != seq {
			return nil, s.damage(block.off, fmt.Errorf("record %d bears seq %d", seq, r.Seq))
		}
		recordKeys(keys, &r)
		seq++
	}
	return bloom(keys), nil
}

// sweep deletes the indexes of segments that are gone.
func (b *indexBuilder) sweep() error {
	entries, err := os.ReadDir(filepath.Join(b.dir, indexDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), indexSuffix)
		if !ok || slices.Contains(b.segments, name+segmentSuffix) {
			continue
		}
		// A segment that was begun meanwhile is not in the list.
		if _, err := os.Stat(filepath.Join(b.dir, segmentDir, name+segmentSuffix)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Remove(filepath.Join(b.dir, indexDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
