package audit

import (
	"sync"
	"sync/atomic"
)

const (
	// smallChunk is what a chunk may have without counting: more than a batch
	// of records without payloads ever is.
	smallChunk = 64 << 10
	// maxWaiting bounds the larger ones that wait for the writer. One that is
	// larger than that waits alone.
	maxWaiting = 64 << 20
)

// A room bounds the memory of records that wait for the writer, beyond the
// length of the queue: payloads make records large. Who finds place takes no lock.
type room struct {
	used    atomic.Int64
	waiting atomic.Int64
	mu      sync.Mutex
	changed sync.Cond
}

func (r *room) init() { r.changed.L = &r.mu }

// take takes n bytes, and waits for them unless stop says not to, in which case
// it says false.
func (r *room) take(n int64, stop func() bool) bool {
	if r.tryTake(n) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Who gives back either sees that somebody waits, or has given back before
	// we try again.
	r.waiting.Add(1)
	defer r.waiting.Add(-1)
	for !r.tryTake(n) {
		if stop() {
			return false
		}
		r.changed.Wait()
	}
	return true
}

func (r *room) tryTake(n int64) bool {
	for {
		used := r.used.Load()
		if used > 0 && used+n > maxWaiting {
			return false
		}
		if r.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// give gives n bytes back.
func (r *room) give(n int64) {
	r.used.Add(-n)
	r.wake()
}

// wake makes those who wait look again, at the room and at what stops them.
func (r *room) wake() {
	if r.waiting.Load() > 0 {
		r.mu.Lock()
		r.changed.Broadcast()
		r.mu.Unlock()
	}
}
