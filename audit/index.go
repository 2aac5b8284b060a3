package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"strings"
)

// An index lies beside the log, one file for each segment, and lets a query
// pass over blocks without a look at them. It is no part of the log: it can be
// deleted and made again at any time, nothing is ever proved by it, and without
// one every query gives the same answer, only later. docs/AUDIT-QUERY.md has
// its format and what it may be trusted with.
//
// A file is a head, a table with one entry for each block, and one Bloom filter
// for each block. The head alone says whether a segment has anything of a time
// asked for, the table which blocks have, and the filters which of these have
// the host, client, rule, event, action or connection asked for.
const (
	indexDir    = "index"
	indexSuffix = ".idx"
	indexMagic  = "FGINDEX1" // the last character is the version of the format
	indexHead   = 160
	indexEntry  = 36

	// Ten bits a key and seven probes pass over 99 of 100 blocks that do not
	// have the key.
	bloomBits   = 10
	bloomProbes = 7

	// maxSuffix bounds how much of a host is indexed for wildcards: DNS names
	// have at most 253 characters (RFC 1035 section 2.3.4), a Host header may
	// have more dots than that.
	maxSuffix = 254
)

// An indexFile is the head of an index.
type indexFile struct {
	ID          logID
	Number      uint64            // of the segment's first block
	Covered     int64             // bytes of the segment that are indexed, whole blocks from its beginning
	Blocks      uint32            // in Covered
	First, Last int64             // earliest and latest time of a record in Covered
	Headers     [sha256.Size]byte // SHA-256 of the headers of all blocks in Covered
	LastBlock   int64             // offset of the last block in Covered
	LastHeader  [sha256.Size]byte // SHA-256 of its header
	Filters     int64             // bytes of all filters
	Table       uint32            // CRC-32C of the table
}

// An indexed is an entry of the table.
type indexed struct {
	StoredLen   uint32
	First, Last int64
	Header      [8]byte // beginning of the SHA-256 of the block's header
	FilterLen   uint32
	FilterCRC   uint32
}

var errBadIndex = errors.New("not an index of this version")

func (x *indexFile) append(b []byte) []byte {
	start := len(b)
	b = append(b, indexMagic...)
	b = append(b, x.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, x.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(x.Covered))
	b = binary.BigEndian.AppendUint32(b, x.Blocks)
	b = binary.BigEndian.AppendUint64(b, uint64(x.First))
	b = binary.BigEndian.AppendUint64(b, uint64(x.Last))
	b = append(b, x.Headers[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(x.LastBlock))
	b = append(b, x.LastHeader[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(x.Filters))
	b = binary.BigEndian.AppendUint32(b, x.Table)
	b = append(b, make([]byte, indexHead-4-(len(b)-start))...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], crcTable))
}

// parseIndexHead parses the first indexHead bytes of an index.
func parseIndexHead(b []byte) (x indexFile, err error) {
	if len(b) < indexHead || string(b[:8]) != indexMagic ||
		binary.BigEndian.Uint32(b[indexHead-4:]) != crc32.Checksum(b[:indexHead-4], crcTable) {
		return x, errBadIndex
	}
	copy(x.ID[:], b[8:])
	x.Number = binary.BigEndian.Uint64(b[24:])
	x.Covered = int64(binary.BigEndian.Uint64(b[32:]))
	x.Blocks = binary.BigEndian.Uint32(b[40:])
	x.First = int64(binary.BigEndian.Uint64(b[44:]))
	x.Last = int64(binary.BigEndian.Uint64(b[52:]))
	copy(x.Headers[:], b[60:])
	x.LastBlock = int64(binary.BigEndian.Uint64(b[92:]))
	copy(x.LastHeader[:], b[100:])
	x.Filters = int64(binary.BigEndian.Uint64(b[132:]))
	x.Table = binary.BigEndian.Uint32(b[140:])
	if x.Covered < 0 || x.LastBlock < 0 || x.Filters < 0 || x.Filters > math.MaxInt32 {
		return x, errBadIndex
	}
	return x, nil
}

func (e *indexed) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, e.StoredLen)
	b = binary.BigEndian.AppendUint64(b, uint64(e.First))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Last))
	b = append(b, e.Header[:]...)
	b = binary.BigEndian.AppendUint32(b, e.FilterLen)
	return binary.BigEndian.AppendUint32(b, e.FilterCRC)
}

// parseIndexEntry parses the first indexEntry bytes of b.
func parseIndexEntry(b []byte) (e indexed) {
	e.StoredLen = binary.BigEndian.Uint32(b)
	e.First = int64(binary.BigEndian.Uint64(b[4:]))
	e.Last = int64(binary.BigEndian.Uint64(b[12:]))
	copy(e.Header[:], b[20:])
	e.FilterLen = binary.BigEndian.Uint32(b[28:])
	e.FilterCRC = binary.BigEndian.Uint32(b[32:])
	return e
}

// headerSum is what an index knows a block by: the header has the hash of the
// stored bytes, the number and the seq.
func headerSum(h *header) [sha256.Size]byte { return sha256.Sum256(h.append(nil)) }

// indexName is the name of the index of a segment.
func indexName(segment string) string {
	return strings.TrimSuffix(segment, segmentSuffix) + indexSuffix
}

// A key of a filter is a letter that says of what, and the value.
const (
	keyHost   = "h" // without port, brackets, trailing dot and capitals
	keySuffix = "s" // what a host ends with, from a dot on
	keyClient = "c" // address
	keyRule   = "r"
	keyEvent  = "e"
	keyAction = "a"
	keyConn   = "n"
)

// recordKeys adds the keys of a record.
func recordKeys(keys map[string]struct{}, r *Record) {
	add := func(kind, value string) {
		if value != "" {
			keys[kind+value] = struct{}{}
		}
	}
	for _, host := range [...]string{r.Host, r.SNI} {
		host = plainHost(host)
		add(keyHost, host)
		tail := host[max(0, len(host)-maxSuffix):]
		for i := strings.IndexByte(tail, '.'); i >= 0; {
			add(keySuffix, tail[i:])
			next := strings.IndexByte(tail[i+1:], '.')
			if next < 0 {
				break
			}
			i += 1 + next
		}
	}
	if addr, ok := clientAddr(r.Client); ok {
		add(keyClient, addr.String())
	}
	for _, rule := range r.Rules {
		add(keyRule, rule)
	}
	for _, rule := range r.Shadow {
		add(keyRule, rule)
	}
	add(keyEvent, r.Event)
	add(keyAction, r.Action)
	add(keyConn, r.Conn)
}

// indexKeys returns the keys that a block must have, all of them, for one of
// its records to match.
func (m *matcher) indexKeys() []string {
	var keys []string
	add := func(kind, value string) {
		if value != "" {
			keys = append(keys, kind+value)
		}
	}
	switch {
	case !m.anyHost:
		add(keyHost, m.host)
	case len(m.host) <= maxSuffix:
		add(keySuffix, m.host)
	}
	if m.client.IsSingleIP() {
		add(keyClient, m.client.Addr().String())
	}
	add(keyRule, m.Rule)
	if !isPattern(m.Event) {
		add(keyEvent, m.Event)
	}
	add(keyAction, m.Action)
	add(keyConn, m.Conn)
	return keys
}

// probes are the places of a key in a filter: SHA-256, so that nobody outside
// can choose hosts or names that fill a filter.
func probes(key string) (a, b uint64) {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])
}

// bloom returns the filter of a set of keys.
func bloom(keys map[string]struct{}) []byte {
	filter := make([]byte, max(8, (len(keys)*bloomBits+7)/8))
	size := uint64(len(filter)) * 8
	for key := range keys {
		a, b := probes(key)
		for range bloomProbes {
			filter[a%size/8] |= 1 << (a % 8)
			a += b
		}
	}
	return filter
}

// mayHave says false only if the key is not in the set of the filter.
func mayHave(filter []byte, key string) bool {
	size := uint64(len(filter)) * 8
	if size == 0 {
		return true
	}
	a, b := probes(key)
	for range bloomProbes {
		if filter[a%size/8]&(1<<(a%8)) == 0 {
			return false
		}
		a += b
	}
	return true
}

func sameStart(sum [sha256.Size]byte, start [8]byte) bool { return bytes.Equal(sum[:8], start[:]) }
