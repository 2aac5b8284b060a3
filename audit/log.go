package audit

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrUnwritable: the log cannot be written and on_failure is "block".
	ErrUnwritable = errors.New("audit log cannot be written")
	// ErrClosed: Record came after Close.
	ErrClosed = errors.New("audit log is closed")

	// errTooLong: a payload that makes a record too long. The others of the
	// same call are recorded.
	errTooLong = errors.New("a record is longer than the format allows")
)

// Options say where and how to write a log.
type Options struct {
	// Dir holds the log. It is made with mode 0700 if it is not there; the mode
	// of one that is there is the operator's choice. One writer at a time.
	Dir string

	// Level says which events are recorded. Zero: Messages.
	Level Level

	// OnFailure says what Record does while the log cannot be written: "block"
	// (return ErrUnwritable, whether the level wants the events or not) or
	// "gap" (return nil). The loss is counted and recorded in both. Empty: "block".
	OnFailure string

	// SegmentSize is the size in bytes above which no segment grows, unless one
	// block alone is larger. Zero: 64 MiB.
	SegmentSize int64

	// Logger hears when the log becomes unwritable and writable again, and
	// what was repaired. Nil: slog.Default().
	Logger *slog.Logger

	// Keep is how long records are kept: a segment is removed when none of its
	// records is younger, by the clock and by the time that the log has seen
	// pass. A new segment begins after a day, or an eighth of Keep. Zero: for ever.
	Keep time.Duration

	// MaxSize is how many bytes the segments may have together; the oldest are
	// removed. No segment is larger than an eighth of it. Zero: no limit.
	MaxSize int64

	// Follower hears of each block and checkpoint. Nil: nobody does.
	Follower Follower

	// Recipients can open the payloads that are sealed with the keys of
	// [Log.PayloadKey]. Nil: it makes none.
	Recipients *Recipients

	openSegment func(path string) (file, error) // nil: openSegment
	step        stepFunc                        // of writing the other files
}

// queueLength is how many hand-overs may wait for the writer, enough to ride
// out an ordinary fdatasync.
const queueLength = 1024

// A Log is the file log. Its methods may be called concurrently.
type Log struct {
	demand atomic.Pointer[demand]
	writer atomic.Pointer[writer] // who has the directory; nil: it is given up

	// mu keeps Close from closing the queue under a Record. Record only ever
	// reads it.
	mu     sync.RWMutex
	closed bool
	queue  chan *chunk
	room   room // of what is large in the queue
	orders chan order

	origin atomic.Pointer[string]
	keys   atomic.Pointer[keyStore] // nil: without recipients

	failure  atomic.Pointer[error] // why the log cannot be written now
	lost     atomic.Int64          // refused, and not yet in a gap record
	total    atomic.Int64          // refused since Open
	progress progress

	stop      sync.Once
	ending    chan struct{}  // closed when Close begins
	accepting sync.WaitGroup // of Accept

	done chan struct{} // the queue is at its end
	err  error         // and how that went; read after done
}

// A demand is what the options say to Record.
type demand struct {
	level Level
	block bool
}

// Record takes the events that the level wants, in order. It waits while the
// writer is behind. A nil error means accepted: the writer has the records in
// memory, and they are in a file within 50 ms, on the disk within a second.
func (l *Log) Record(events ...Event) (err error) {
	if cause := l.failure.Load(); cause != nil {
		return l.refuse(events, *cause)
	}
	level := l.demand.Load().level
	c := chunks.Get().(*chunk)
	for i := range events {
		if !level.Wants(&events[i]) {
			continue
		}
		if !c.add(&events[i]) {
			l.lost.Add(1)
			l.total.Add(1)
			err = errTooLong
		}
	}
	if len(c.recs) == 0 {
		c.free()
		return err
	}
	if n := int64(len(c.buf)); n > smallChunk {
		var cause error
		if !l.room.take(n, func() bool { cause = l.Failed(); return cause != nil }) {
			c.free()
			return l.refuse(events, cause)
		}
		c.room, c.cost = &l.room, n
	}
	if closed := l.put(c); closed != nil {
		return closed
	}
	return err
}

// put hands c to the consumer, whether the log is failing or not.
func (l *Log) put(c *chunk) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		c.free()
		return ErrClosed
	}
	l.queue <- c
	return nil
}

// refuse counts the events that are not recorded.
func (l *Log) refuse(events []Event, cause error) error {
	var n int64
	demand := l.demand.Load()
	for i := range events {
		if demand.level.Wants(&events[i]) {
			n++
		}
	}
	l.lost.Add(n)
	l.total.Add(n)
	if demand.block {
		return cause
	}
	return nil
}

// Failed returns why the log cannot be written now, an ErrUnwritable whatever
// on_failure says, or nil.
func (l *Log) Failed() error {
	if cause := l.failure.Load(); cause != nil {
		return *cause
	}
	return nil
}

// Lost returns how many records were refused since Open.
func (l *Log) Lost() int64 { return l.total.Load() }

// Close writes all that was accepted before, brings it to the disk and gives
// the directory back, or if another process has that, sends it there. It returns
// an error if records could not be written, or may not be.
func (l *Log) Close() error {
	l.stop.Do(func() { close(l.ending) })
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
	l.mu.Unlock()
	<-l.done
	l.accepting.Wait()
	return l.err
}
