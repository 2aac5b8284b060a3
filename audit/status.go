package audit

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// A Status says how a log that is open fares.
type Status struct {
	Failing    error         // why it cannot be written now; nil: it can
	Queued     int           // hand-overs that wait for the writer
	QueueSize  int           // how many can wait before Record has to
	Written    int64         // records written to a file, by whichever process, since Open
	Lost       int64         // records refused, since Open
	Gaps       int64         // audit.gap records, since Open
	Behind     time.Duration // age of the oldest record that is not on the disk; 0: there is none
	Elsewhere  bool          // another process has the directory, or nobody
	Checkpoint time.Time     // of the last that was signed; zero: there is none
}

// progress is what the writer and the notary say of themselves.
type progress struct {
	written    atomic.Int64
	gaps       atomic.Int64
	oldest     atomic.Int64 // when the oldest record came that is not on the disk, in Unix nanoseconds; 0: none
	checkpoint atomic.Int64 // when the last was signed, likewise
}

// Status takes no lock, and asks nothing of the writer.
func (l *Log) Status() Status {
	s := Status{
		Failing: l.Failed(), Queued: len(l.queue), QueueSize: cap(l.queue),
		Written: l.progress.written.Load(), Lost: l.Lost(), Gaps: l.progress.gaps.Load(),
		Elsewhere: l.writer.Load() == nil,
	}
	if at := l.progress.oldest.Load(); at != 0 {
		s.Behind = max(1, time.Since(time.Unix(0, at)))
	}
	if at := l.progress.checkpoint.Load(); at != 0 {
		s.Checkpoint = time.Unix(0, at)
	}
	return s
}

// began notes when the block that is being gathered got its first record.
func (w *writer) began() {
	w.first = time.Now()
	w.log.progress.oldest.CompareAndSwap(0, w.first.UnixNano())
}

// settledBefore notes that all is on the disk but for the block that is being gathered.
func (w *writer) settledBefore() {
	var oldest int64
	if w.block.count > 0 {
		oldest = w.first.UnixNano()
	}
	w.log.progress.oldest.Store(oldest)
}

// begin takes the time of the last checkpoint from the log that is opened.
func (p *progress) begin(dir string, opened *progress) {
	p.oldest.Store(0)
	p.checkpoint.Store(opened.checkpoint.Load())
	if info, err := os.Stat(filepath.Join(dir, checkpointFile)); err == nil {
		p.checkpoint.CompareAndSwap(0, info.ModTime().UnixNano())
	}
}
