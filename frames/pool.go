package frames

import (
	"math/bits"
	"sync"
)

// Buffers come in powers of two, one pool each. Below 512 bytes a smaller
// class would save nothing worth the further pool. Above 64 MiB, the default
// of the largest message, buffers are left to the garbage collector.
const (
	minClass = 9
	maxClass = 26
)

var pools [maxClass - minClass + 1]sync.Pool

// A buffer is a slice on its way through a pool. The pools hold pointers, since
// a slice put into an interface is an allocation.
type buffer struct{ b []byte }

// newBuffer returns an empty buffer with room for n bytes.
func newBuffer(n int) *buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), minClass)
	if class <= maxClass {
		if p, ok := pools[class-minClass].Get().(*buffer); ok {
			return p
		}
	}
	return &buffer{make([]byte, 0, 1<<class)}
}

// extend makes p longer by n bytes and returns these. If p is too small it
// moves to one of at least twice the size, so that the cost of many calls is
// linear in the bytes they add.
func (p *buffer) extend(n int) []byte {
	start := len(p.b)
	if cap(p.b)-start < n {
		q := newBuffer(start + n)
		q.b = append(q.b, p.b...)
		*p, *q = *q, *p
		q.free()
	}
	p.b = p.b[:start+n]
	return p.b[start:]
}

// free puts p back. Nobody may use p or its bytes afterwards.
func (p *buffer) free() {
	if p == nil {
		return
	}
	p.b = p.b[:0]
	if class := bits.Len(uint(cap(p.b)) - 1); class <= maxClass {
		pools[class-minClass].Put(p)
	}
}
