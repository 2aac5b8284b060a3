package audit

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
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

// A heldError says that another process has the log open.
type heldError struct{ dir string }

func (e *heldError) Error() string {
	return fmt.Sprintf("%s is being written by another gateway: each needs a directory of its own", e.dir)
}

// queueLength is how many hand-overs may wait for the writer, enough to ride
// out an ordinary fdatasync.
const queueLength = 1024

// A Log is the file log. Its methods may be called concurrently.
type Log struct {
	level  Level
	block  bool
	origin string

	// mu keeps Close from closing the queue under a Record. Record only ever
	// reads it.
	mu     sync.RWMutex
	closed bool
	ending sync.Once
	queue  chan *chunk
	room   room // of what is large in the queue

	intake *intake
	keys   *keyStore // nil: without recipients
	logger *slog.Logger

	failure atomic.Pointer[error] // why the log cannot be written now
	lost    atomic.Int64          // refused, and not yet in a gap record
	total   atomic.Int64          // refused since Open

	progress *progress

	done chan struct{} // the writer is at its end
	err  error         // and how that went; read after done
}

// Open opens the log in o.Dir, or makes it, repairs what a crash has left, and
// takes the directory until Close.
func Open(o Options) (*Log, error) {
	if o.Level > Frames {
		return nil, fmt.Errorf("unknown audit level %v", o.Level)
	}
	if o.OnFailure != "" && o.OnFailure != "block" && o.OnFailure != "gap" {
		return nil, fmt.Errorf("unknown audit on_failure %q: expected block or gap", o.OnFailure)
	}
	if o.SegmentSize < 0 {
		return nil, fmt.Errorf("negative segment size %d", o.SegmentSize)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	if o.Keep < 0 || o.MaxSize < 0 {
		return nil, fmt.Errorf("negative keep %v or max_size %d", o.Keep, o.MaxSize)
	}
	if o.MaxSize > 0 {
		o.SegmentSize = max(1, min(o.SegmentSize, o.MaxSize/8))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.openSegment == nil {
		o.openSegment = openSegment
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, segmentDir), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	l, err := open(o, lock)
	if err != nil {
		lock.Close()
	}
	return l, err
}

// open does the rest of Open under the lock, which the writer then owns.
func open(o Options, lock *os.File) (*Log, error) {
	id, err := ensureLogID(o.Dir)
	if err != nil {
		return nil, err
	}
	n, err := loadNotary(&o, id)
	if err != nil {
		return nil, err
	}
	at, err := resume(o.Dir, id, n.tree.size, n.expired)
	if err != nil {
		return nil, err
	}
	at.unsigned = n.signer != nil && !n.signed && at.number > 0
	if err := n.catchUp(at.number); err != nil {
		return nil, err
	}
	var seg segment
	if at.size > 0 {
		f, err := o.openSegment(filepath.Join(o.Dir, segmentDir, at.name))
		if err != nil {
			return nil, err
		}
		seg = segment{f: f, size: at.size, began: at.began}
	}
	// One encoder, one block at a time, no window beyond a block.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxRaw))
	if err != nil {
		seg.close()
		return nil, err
	}
	mark := filepath.Join(o.Dir, openFile)
	_, err = os.Stat(mark)
	unclosed := err == nil
	if err := writeFile(o.step, mark, nil); err != nil {
		seg.close()
		return nil, err
	}
	l := &Log{
		level:  o.Level,
		block:  o.OnFailure != "gap",
		origin: id.origin(),
		queue:  make(chan *chunk, queueLength),
		done:   make(chan struct{}),
		logger: o.Logger,

		progress: &n.progress,
	}
	l.room.init()
	l.progress.checkpointed(o.Dir)
	if o.Recipients != nil {
		l.keys = &keyStore{o.Dir, o.Recipients.list, o.step}
	}
	w := &writer{
		log: l, opt: o, id: id, lock: lock, mark: mark, enc: enc,
		seg: seg, number: at.number, seq: at.seq, notary: n,
		cause: errTooLong,
	}
	if e := at.gap(unclosed); e != nil {
		o.Logger.Warn("audit log repaired", "dir", o.Dir, "reason", e.Reason)
		l.progress.gaps.Add(1)
		w.emit(e)
	}
	if w.keeper, err = newKeeper(&o, l, n); err != nil {
		seg.close()
		return nil, err
	}
	if w.keeper != nil {
		w.keeper.current.Store(firstBlock(at.name))
		go w.keeper.run()
	}
	n.tellFirst(filepath.Join(o.Dir, checkpointFile))
	n.start()
	go w.run()
	l.intake = newIntake(l, o.Dir)
	go l.intake.run()
	return l, nil
}

// ensureLogID reads the id of the log, or makes one where there is no log yet.
func ensureLogID(dir string) (id logID, err error) {
	path := filepath.Join(dir, logIDFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return readLogID(dir)
	}
	names, err := segments(dir)
	if err != nil {
		return id, err
	}
	if len(names) > 0 {
		return id, fmt.Errorf("%s has segments but no file %s", dir, logIDFile)
	}
	rand.Read(id[:])
	return id, writeFile(nil, path, []byte(hex.EncodeToString(id[:])+"\n"))
}

// Record takes the events that the level wants, in order. It waits while the
// writer is behind. A nil error means accepted: the writer has the records in
// memory, and they are in a file within 50 ms, on the disk within a second.
func (l *Log) Record(events ...Event) (err error) {
	if cause := l.failure.Load(); cause != nil {
		return l.refuse(events, *cause)
	}
	c := chunks.Get().(*chunk)
	for i := range events {
		if !l.level.Wants(&events[i]) {
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
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		c.free()
		return ErrClosed
	}
	l.queue <- c
	return err
}

// refuse counts the events that are not recorded.
func (l *Log) refuse(events []Event, cause error) error {
	var n int64
	for i := range events {
		if l.level.Wants(&events[i]) {
			n++
		}
	}
	l.lost.Add(n)
	l.total.Add(n)
	if l.block {
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
// the directory back. It returns an error if records could not be written.
func (l *Log) Close() error {
	l.ending.Do(l.intake.end)
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
	l.mu.Unlock()
	<-l.done
	return l.err
}
