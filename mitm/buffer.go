package mitm

import (
	"math/bits"
	"sync"
)

// Buffers for bytes that wait for the rest of their frame come in powers of
// two from 1 KiB up, each size with a pool of its own.
const minBuffer = 10

var buffers [48]sync.Pool

// shells are what the buffers lie in while they are in their pools: to put a
// slice itself there is an allocation.
var shells = sync.Pool{New: func() any { return new([]byte) }}

// takeBuffer returns an empty buffer with room for at least n bytes.
func takeBuffer(n int) []byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minBuffer)
	if 1<<class == chunk {
		return chunks.Get().(*[chunk]byte)[:0]
	}
	shell, ok := buffers[class-minBuffer].Get().(*[]byte)
	if !ok {
		return make([]byte, 0, 1<<class)
	}
	b := *shell
	*shell = nil
	shells.Put(shell)
	return b
}

// giveBuffer gives b, from takeBuffer, back.
func giveBuffer(b []byte) {
	switch cap(b) {
	case 0:
	case chunk: // the usual one, without an allocation
		chunks.Put((*[chunk]byte)(b[:chunk]))
	default:
		shell := shells.Get().(*[]byte)
		*shell = b[:0]
		buffers[bits.Len(uint(cap(b)-1))-minBuffer].Put(shell)
	}
}

// moveBuffer makes b have room for n bytes, and for some more than it has,
// without keeping much more.
func moveBuffer(b []byte, n int) []byte {
	n = max(n, len(b)+1)
	if n <= cap(b) && cap(b) <= 4*max(n, 1<<minBuffer) {
		return b
	}
	to := append(takeBuffer(n), b...)
	giveBuffer(b)
	return to
}
