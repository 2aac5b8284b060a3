package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	flushAfter = 50 * time.Millisecond // from the first record of a block to its write
	tickAfter  = time.Second           // from a write to its fdatasync, and between retries
)

// A writer is all that the goroutine owns that takes from the queue, while the
// log has the directory.
type writer struct {
	log  *Log
	opt  Options
	id   logID
	lock *os.File
	mark string // path of the file that says that the log is open
	enc  *zstd.Encoder

	seg    segment
	number uint64    // of the block being gathered
	seq    uint64    // of the next record
	block  block     // being gathered, or waiting in out
	first  time.Time // when its first record came
	out    []byte    // the block as it is stored; empty: not encoded yet
	held   []*chunk  // accepted, not yet in a block; more than one only during a failure

	notary  *notary
	entries [][]byte // of blocks that are written, for the notary
	durable int      // how many of them are on the disk
	keep    bool     // the next checkpoint is one to keep
	signing bool     // the notary is at work

	keeper   *keeper // nil: nothing is ever removed
	intake   *intake
	repaired *Event // what was found when the directory was taken; nil: all was well

	unsettled []chan struct{} // of those who wait until what they gave is on the disk
	arrived   []arrival       // of those who wait until what they gave is in a file

	failing bool
	cause   error // what began the failure, or the last one
	unsure  bool  // an fdatasync failed, and no record says so yet
	since   time.Time

	flush, tick *time.Timer
	ticking     bool

	leaving *order          // nil: the directory is not to be given up
	quiet   <-chan struct{} // closed when nothing more comes from keeper and intake
}

// run writes until the end of the queue, or until an order gives the directory up.
func (w *writer) run() consumer {
	w.drain()
	for {
		orders := w.log.orders
		if w.leaving != nil {
			orders = nil
		}
		select {
		case c, ok := <-w.log.queue:
			if !ok {
				w.obeyed(ErrClosed)
				w.log.err = w.close()
				return nil
			}
			w.held = append(w.held, c)
			w.drain()
		case <-w.flush.C:
			w.seal()
		case <-w.tick.C:
			w.ticking = false
			w.settle()
		case err := <-w.notary.done:
			w.signed(err)
		case o := <-orders:
			w.obey(o)
		case <-w.quiet:
			if next := w.leave(); next != nil {
				return next
			}
		}
	}
}

// drain moves accepted records into blocks. During a failure they wait: Record
// refuses new ones, so that no more than the queue and the callers inside
// Record can still come.
func (w *writer) drain() {
	for len(w.held) > 0 && !w.failing {
		c := w.held[0]
		for ; c.next < len(c.recs); c.next++ {
			line, ns := c.peek(c.next)
			if !w.block.fits(len(line)) && !w.seal() {
				return
			}
			if w.block.count == 0 {
				w.flush.Reset(flushAfter)
				w.began()
			}
			w.block.add(w.seq, line, ns)
			w.seq++
		}
		w.held = w.held[:copy(w.held, w.held[1:])]
		if c.durable != nil {
			w.unsettled = append(w.unsettled, c.durable)
		}
		w.arrived = append(w.arrived, c.arrivals...)
		if c.receipt != nil {
			c.receipt <- w.seq - 1
		}
		if c.sign {
			if w.sealAndSign(); !w.failing {
				w.settled()
			}
		}
		c.free()
	}
}

// emit takes an event of the log's own.
func (w *writer) emit(e *Event) {
	c := chunks.Get().(*chunk)
	c.add(e)
	w.held = append(w.held, c)
}

// seal writes the block, or says false when the log is failing. A block that
// was not written stays as it is until a retry.
func (w *writer) seal() bool {
	if w.failing {
		return false
	}
	if w.block.count == 0 {
		return true
	}
	if err := w.write(); err != nil {
		w.fail(err)
		return false
	}
	return true
}

// write brings the block into the segment, a new one if there is none yet or it
// is full. A segment is made no sooner: zstd calls an empty file an error.
func (w *writer) write() error {
	if len(w.out) == 0 {
		w.out = w.block.encode(w.out, w.enc, w.id, w.number)
	}
	if w.seg.f == nil || w.seg.size > 0 && (w.seg.size+int64(len(w.out)) > w.opt.SegmentSize || w.tooLong()) {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	if err := w.seg.append(w.out); err != nil {
		return err
	}
	w.entries = append(w.entries, bytes.Clone(w.out[8:headerFrame]))
	w.number++
	w.log.progress.written.Add(int64(w.block.count))
	w.tellBlock()
	w.tellArrived()
	w.block.reset()
	w.out = w.out[:0]
	if cap(w.out) > 4*maxRaw {
		w.out = nil
	}
	w.tickLater()
	return nil
}

// rotate brings the segment to the disk before the next one begins.
func (w *writer) rotate() error {
	if err := w.sync(); err != nil {
		return err
	}
	w.sign(true)
	f, err := w.opt.openSegment(filepath.Join(w.opt.Dir, segmentDir, segmentName(w.number)))
	if err != nil {
		return err
	}
	w.seg.close()
	w.seg = segment{f: f, began: time.Now()}
	w.keeper.begun(w.number)
	return nil
}

// tooLong says whether the segment spans more time than one may, or the clock
// says that it does.
func (w *writer) tooLong() bool {
	return w.opt.Keep > 0 && time.Since(w.seg.began).Abs() > segmentSpan(w.opt.Keep)
}

func (w *writer) tickLater() {
	if !w.ticking {
		w.ticking = true
		w.tick.Reset(tickAfter)
	}
}

// settle is the work of each second: fdatasync and checkpoint, or the retry of a
// failure, and the record of what was lost.
func (w *writer) settle() {
	if !w.failing {
		if err := w.sync(); err != nil {
			w.fail(err)
			return
		}
		w.sign(false)
	} else if !w.retry() {
		return
	}
	w.reportLoss()
	w.drain()
}

// fail begins a failure.
func (w *writer) fail(err error) {
	w.failing, w.cause, w.since = true, err, time.Now()
	w.blame(err)
	w.opt.Logger.Error("audit log cannot be written", "dir", w.opt.Dir, "error", err)
}

// blame says why the log cannot be written now; that may change from one retry
// to the next.
func (w *writer) blame(err error) {
	w.unsure = w.unsure || errors.Is(err, errUnsynced)
	w.log.blame(err)
	w.tickLater()
}

// blame has Record refuse what comes.
func (l *Log) blame(err error) {
	cause := fmt.Errorf("%w: %w", ErrUnwritable, err)
	l.failure.Store(&cause)
	l.room.wake()
}

// retry ends the failure if the block that waits, if one does, can be written
// and everything brought to the disk.
func (w *writer) retry() bool {
	var err error
	if w.block.count > 0 {
		err = w.write()
	}
	if err == nil {
		err = w.sync()
	}
	if err == nil {
		err = w.signNow(false)
	}
	if err != nil {
		w.blame(err)
		return false
	}
	w.failing = false
	w.log.failure.Store(nil)
	w.settled()
	w.opt.Logger.Info("audit log can be written again", "dir", w.opt.Dir, "lost", w.log.lost.Load())
	w.drain()
	w.tickLater() // for what a Record still under way counts as lost
	return true
}

// reportLoss records what Record has refused since the last time.
func (w *writer) reportLoss() {
	if n := w.log.lost.Swap(0); n > 0 || w.unsure {
		w.unsure = false
		w.log.progress.gaps.Add(1)
		w.emit(&Event{Event: AuditGap, Reason: w.cause.Error(), Gap: &Gap{Count: n, Since: w.since}})
	}
}

// finish writes what was taken and has it signed, with one more try if the log is
// failing, and says whether that is done.
func (w *writer) finish() bool {
	if w.failing {
		w.retry()
	}
	if !w.failing {
		w.reportLoss()
		w.drain()
		if w.seal() {
			err := w.sync()
			if err == nil {
				err = w.signNow(true)
			}
			if err != nil {
				w.fail(err)
			}
		}
	}
	return !w.failing
}

// release gives the directory up; finished says that nothing is missing from it.
func (w *writer) release(finished bool) error {
	defer w.log.writer.Store(nil)
	defer w.lock.Close()
	defer w.seg.close()
	defer w.dismiss()
	defer w.keeper.stop()
	w.flush.Stop()
	w.tick.Stop()
	if !finished {
		return nil
	}
	if err := os.Remove(w.mark); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(w.opt.Dir)
}

// close writes what is left.
func (w *writer) close() error {
	finished := w.finish()
	w.intake.end()
	if err := w.release(finished); finished {
		return err
	}
	n := int64(w.block.count) + w.log.lost.Load() + count(w.held)
	return fmt.Errorf("%w: %d records are lost: %w", ErrUnwritable, n, w.cause)
}
