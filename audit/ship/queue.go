package ship

import (
	"context"
	"sync"
	"time"
)

// A batch is the records of a block, shared by all targets and changed by none.
type batch struct {
	seq     uint64 // of the first
	count   int
	records []byte // each with its newline
}

func (b *batch) last() uint64 { return b.seq + uint64(b.count) - 1 }

// A loss is records that a target will not get. Between the two numbers there
// may be some that it got.
type loss struct {
	count    int64
	from, to uint64
	since    time.Time
}

func (l *loss) add(b *batch, count int) {
	if l.count == 0 {
		l.from, l.to, l.since = b.seq, b.last(), time.Now()
	}
	l.count += int64(count)
	l.from, l.to = min(l.from, b.seq), max(l.to, b.last())
}

// A queue holds what waits for a target, with what is under way. offer never
// waits.
type queue struct {
	limit int64

	mu      sync.Mutex
	batches []*batch
	bytes   int64
	lost    loss // not reported yet
	total   int64
	wake    chan struct{} // of one: there is something
	idle    chan struct{} // closed while there is nothing
}

func newQueue(limit int64) *queue {
	q := &queue{limit: limit, wake: make(chan struct{}, 1), idle: make(chan struct{})}
	close(q.idle)
	return q
}

// offer takes a batch or counts it as lost. It says true for the first that is
// lost since the last report.
func (q *queue) offer(b *batch) (full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := int64(len(b.records))
	if q.bytes+size > q.limit {
		full = q.lost.count == 0
		q.lose(b, b.count)
		return full
	}
	if len(q.batches) == 0 {
		q.idle = make(chan struct{})
	}
	q.batches = append(q.batches, b)
	q.bytes += size
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return false
}

func (q *queue) lose(b *batch, count int) {
	q.lost.add(b, count)
	q.total += int64(count)
}

// next waits for a batch, which stays in the queue until done or refused.
func (q *queue) next(ctx context.Context) *batch {
	for {
		q.mu.Lock()
		if len(q.batches) > 0 {
			b := q.batches[0]
			q.mu.Unlock()
			return b
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-q.wake:
		}
	}
}

// holds says whether b is still the first.
func (q *queue) holds(b *batch) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.batches) > 0 && q.batches[0] == b
}

// done takes b out; lost of its records will not arrive.
func (q *queue) done(b *batch, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.batches) == 0 || q.batches[0] != b {
		return // given up, and counted then
	}
	if lost > 0 {
		q.lose(b, lost)
	}
	q.batches[0] = nil
	q.batches = q.batches[1:]
	q.bytes -= int64(len(b.records))
	if len(q.batches) == 0 {
		q.batches = nil
		close(q.idle)
	}
}

// giveUp counts all that waits as lost.
func (q *queue) giveUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.batches {
		q.lose(b, b.count)
	}
	if len(q.batches) > 0 {
		q.batches, q.bytes = nil, 0
		close(q.idle)
	}
}

// takeLoss returns what is lost and not reported.
func (q *queue) takeLoss() loss {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lost
	q.lost = loss{}
	return l
}

// lossSince returns when the loss that is not reported began.
func (q *queue) lossSince() (t time.Time, any bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost.since, q.lost.count > 0
}

// drained is closed once nothing waits.
func (q *queue) drained() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.idle
}

func (q *queue) sizes() (queued, lost int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, q.total
}
