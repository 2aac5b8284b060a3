package audit

import (
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
)

// byIndex returns the blocks of s that can hold a match, judged by the index of
// s, and the last block that the index knows; ok is false if there is no index to
// go by.
//
// An index is not used unless all of this holds: it is of this log and this
// segment, whole by its checksums, and no longer than the segment; the last
// block that it knows is in its place; so is each block that it chooses. An
// index that is out of date, half copied or of another log so costs time and
// nothing else. What the checks cannot find is a filter that somebody forged to
// hide records, so it must be a file that nobody can write to who could not
// write to the log itself, and what has to be proved is read without an index.
func (m *matcher) byIndex(dir string, s *source) (chosen []located, last located, ok bool) {
	if !m.narrow {
		return nil, last, false
	}
	f, size := openIndex(dir, s)
	if f == nil {
		return nil, last, false
	}
	defer f.Close()
	head := make([]byte, indexHead)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, last, false
	}
	x, err := parseIndexHead(head)
	if err != nil || x.ID != s.id || segmentName(x.Number) != s.name || x.size() != size || x.Covered > s.size {
		return nil, last, false
	}
	if x.Blocks == 0 || x.LastBlock >= x.Covered {
		return nil, last, false // an index of nothing, or of nonsense
	}
	last, err = s.block(x.LastBlock)
	if err != nil || headerSum(&last.header) != x.LastHeader || last.off+last.size() != x.Covered ||
		last.Number != x.Number+uint64(x.Blocks)-1 {
		return nil, last, false
	}
	if !m.wantsTime(x.First, x.Last) {
		return nil, last, true
	}
	table := make([]byte, int(x.Blocks)*indexEntry)
	if _, err := f.ReadAt(table, indexHead); err != nil || crc32.Checksum(table, crcTable) != x.Table {
		return nil, last, false
	}
	chosen, ok = m.choose(f, s, &x, table)
	return chosen, last, ok
}

// A candidate is a block of which only the time is known to fit.
type candidate struct {
	indexed
	off    int64 // of the block
	filter int64 // offset of its filter among the filters
}

func (m *matcher) choose(f *os.File, s *source, x *indexFile, table []byte) ([]located, bool) {
	var candidates []candidate
	c := candidate{}
	for ; len(table) > 0; table = table[indexEntry:] {
		c.indexed = parseIndexEntry(table)
		if m.wantsTime(c.First, c.Last) {
			candidates = append(candidates, c)
		}
		c.off += headerFrame + int64(c.StoredLen)
		c.filter += int64(c.FilterLen)
	}
	if c.off != x.Covered || c.filter != x.Filters {
		return nil, false
	}
	if len(candidates) == 0 {
		return nil, true
	}
	filters, ok := m.filters(f, x, candidates)
	if !ok {
		return nil, false
	}
	var chosen []located
	for _, c := range candidates {
		if !m.mayBeIn(filters, c, candidates[0].filter) {
			continue
		}
		b, err := s.block(c.off)
		if err != nil || !sameStart(headerSum(&b.header), c.Header) {
			return nil, false
		}
		chosen = append(chosen, b)
	}
	return chosen, true
}

// filters reads the filters from the first candidate's to the last one's, in
// one piece, if any is needed.
func (m *matcher) filters(f *os.File, x *indexFile, candidates []candidate) ([]byte, bool) {
	if len(m.keys) == 0 {
		return nil, true
	}
	first, last := candidates[0], candidates[len(candidates)-1]
	b := make([]byte, last.filter+int64(last.FilterLen)-first.filter)
	if _, err := f.ReadAt(b, indexHead+int64(x.Blocks)*indexEntry+first.filter); err != nil {
		return nil, false
	}
	for _, c := range candidates {
		at := c.filter - first.filter
		if crc32.Checksum(b[at:at+int64(c.FilterLen)], crcTable) != c.FilterCRC {
			return nil, false
		}
	}
	return b, true
}

func (m *matcher) mayBeIn(filters []byte, c candidate, start int64) bool {
	for _, key := range m.keys {
		if at := c.filter - start; !mayHave(filters[at:at+int64(c.FilterLen)], key) {
			return false
		}
	}
	return true
}

// openIndex opens the index of s if there is one and its file can be relied on
// as much as the segment. An index longer than the segment is of no use, and
// would be a way to make a reader take memory.
func openIndex(dir string, s *source) (*os.File, int64) {
	path := filepath.Join(dir, indexDir, indexName(s.name))
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() < indexHead || info.Size() > s.size+4096 {
		return nil, 0
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0
	}
	segment, segmentErr := s.f.Stat()
	info, err = f.Stat()
	if err != nil || segmentErr != nil || info.Mode().Perm()&0o022 != 0 || !sameAuthority(info, segment) {
		f.Close()
		return nil, 0
	}
	return f, info.Size()
}

// isPattern says whether a glob is more than a name.
func isPattern(glob string) bool { return strings.ContainsAny(glob, `*?[\`) }
