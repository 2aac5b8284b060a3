package audit

import (
	"bytes"
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"
)

// A frontier computes the Merkle tree hash of RFC 6962 section 2.1 over leaves
// that come one after the other. It holds the roots of the perfect subtrees of
// what it has seen, the largest first: one for each bit of size.
type frontier struct {
	size  uint64
	roots []tlog.Hash
}

func (f *frontier) add(leaf tlog.Hash) {
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.roots) - 1
		leaf = tlog.NodeHash(f.roots[last], leaf)
		f.roots = f.roots[:last]
	}
	f.roots = append(f.roots, leaf)
	f.size++
}

// root is the hash of the tree so far. RFC 6962 section 2.1: "The hash of an
// empty list is the hash of an empty string: MTH({}) = SHA-256()."
func (f *frontier) root() tlog.Hash {
	if len(f.roots) == 0 {
		return sha256.Sum256(nil)
	}
	last := len(f.roots) - 1
	h := f.roots[last]
	for i := last - 1; i >= 0; i-- {
		h = tlog.NodeHash(f.roots[i], h)
	}
	return h
}

// A leafHasher takes RFC 6962 leaf hashes, "SHA-256(0x00 || d(0))", without an
// allocation for each: tlog.RecordHash has some, and there are 200,000 records
// a second.
type leafHasher struct {
	buf []byte
}

func (l *leafHasher) hash(data []byte) tlog.Hash {
	l.buf = append(append(l.buf[:0], 0), data...)
	h := sha256.Sum256(l.buf)
	if cap(l.buf) > 4*maxRaw {
		l.buf = nil
	}
	return h
}

// recordsRoot is the root that the header of a block bears: the Merkle tree hash
// over its records, a leaf being a line without its newline.
func recordsRoot(raw []byte) tlog.Hash {
	var f frontier
	var l leafHasher
	for line := range bytes.Lines(raw) {
		f.add(l.hash(line[:len(line)-1]))
	}
	return f.root()
}
