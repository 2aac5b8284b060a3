package audit

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// lastWait is how long Close waits for the other process to have written what it
// was sent, before it says how much that has not said so.
const lastWait = 10 * time.Second

// A forwarder is the consumer that sends what is recorded to another process.
// What it holds is bounded: beyond maxUnwritten bytes that are sent and not
// written, what comes waits in the queue.
type forwarder struct {
	log  *Log
	opt  Options // to take the directory back with
	conn net.Conn
	pid  int

	held []*chunk // that are not written all, oldest first
	at   int      // in held: of the first chunk that is not sent all
	rec  int      // in that one: of the first record that is not sent

	sent    uint64 // number of the last record that is sent, or is being
	written uint64 // number of the last record that is in a file
	heard   uint64 // what the other process says of that
	certain bool   // nothing else of what was sent is in a file
	unsent  int    // bytes held and not sent
	flight  int    // bytes sent and not written
	frames  []sentFrame

	failing *state // the other process cannot write; nil: it can
	since   time.Time

	out    chan net.Buffers // to the sender; it has one at a time
	busy   bool             // it has one
	broken bool             // it can send nothing more
	gone   chan error       // for each, whether it is sent
	in     chan news        // from the receiver
	quit   chan struct{}    // closed: nobody listens to the receiver any more
	work   sync.WaitGroup   // sender and receiver
	ended  bool             // the queue is at its end
	said   bool             // and the other process was told
}

func newForwarder(a *absence, p *peer) *forwarder {
	f := &forwarder{
		log: a.log, opt: a.opt, conn: p.conn, pid: p.hello.PID, held: a.all(),
		out: make(chan net.Buffers, 1), gone: make(chan error, 1), in: make(chan news), quit: make(chan struct{}),
	}
	for _, c := range f.held {
		f.unsent += c.size()
	}
	if a.cause != nil { // as far as is known, this one can
		f.since = a.since
		f.log.failure.Store(nil)
	}
	f.work.Go(f.send)
	f.work.Go(f.receive)
	return f
}

func (f *forwarder) run() consumer {
	l := f.log
	f.opt.Logger.Info("audit log forwarded", "dir", f.opt.Dir, "to_pid", f.pid)
	tick := time.NewTicker(tickAfter)
	defer tick.Stop()
	ending := l.ending
	var last <-chan time.Time
	for {
		f.push()
		queue := l.queue
		if f.ended || f.unsent >= maxLines && f.failing == nil && ending != nil {
			queue = nil
		}
		select {
		case c, ok := <-queue:
			if ok {
				f.take(c)
				continue
			}
			f.ended = true
			f.reportLoss()
			last = time.After(lastWait)
		case err := <-f.gone:
			f.busy = false
			f.settle()
			if err != nil { // there may still be something to hear
				f.broken = true
				f.conn.SetReadDeadline(time.Now().Add(time.Second))
			}
		case a := <-f.in:
			if err := f.answered(a); err != nil {
				return f.bereft(err)
			}
		case <-ending: // nobody may be left waiting in Record
			ending = nil
		case <-tick.C:
			f.reportLoss()
		case o := <-l.orders:
			o.reply <- f.obey(o)
		case <-last:
			f.end()
			if len(f.held) == 0 {
				return nil
			}
			err := fmt.Errorf("process %d has not acknowledged %d records, which may be lost", f.pid, count(f.held)+l.lost.Load())
			l.blame(err)
			l.err = l.Failed()
			return nil
		}
	}
}

// obey carries out the one order that needs no directory.
func (f *forwarder) obey(o order) error {
	if o.verb != toReopen {
		return ErrElsewhere
	}
	id, err := readLogID(o.opt.Dir)
	if err != nil {
		return err
	}
	origin := id.origin()
	f.opt = o.opt
	f.log.origin.Store(&origin)
	f.log.heed(&f.opt)
	return nil
}

func (f *forwarder) take(c *chunk) {
	f.held = append(f.held, c)
	f.unsent += c.size()
	f.log.progress.oldest.CompareAndSwap(0, time.Now().UnixNano())
}

// answered takes what the other process says.
func (f *forwarder) answered(a news) error {
	switch {
	case a.err != nil:
		return a.err
	case a.end:
		f.certain = true
		return errors.New("it has closed the log")
	case a.state != nil && a.state.Refused != "":
		return fmt.Errorf("it refuses: %s", a.state.Refused)
	case a.state != nil && a.state.Failing != "":
		if f.failing == nil {
			f.since = time.Now()
			f.opt.Logger.Error("audit log cannot be written by the process that has it", "pid", f.pid, "error", a.state.Failing)
		}
		f.failing = a.state
		f.log.blame(fmt.Errorf("process %d: %s", f.pid, a.state.Failing))
		return nil
	case a.state != nil:
		if f.failing != nil {
			f.failing = nil
			f.log.failure.Store(nil)
			f.opt.Logger.Info("audit log can be written again", "pid", f.pid, "lost", f.log.lost.Load())
		}
		f.reportLoss()
		return nil
	}
	if a.written < f.heard || a.written > f.sent {
		return fmt.Errorf("%w: %d records written of %d that were sent", errFrame, a.written, f.sent)
	}
	f.heard = a.written
	f.settle()
	return nil
}

// settle lets go of what is written. What the sender has in its hands is not
// touched: of that an answer can only come while it is at its last.
func (f *forwarder) settle() {
	if f.busy {
		return
	}
	for n := f.heard - f.written; n > 0; {
		c := f.held[0]
		k := min(n, uint64(len(c.recs)-c.next))
		c.next += int(k)
		f.written += k
		f.log.progress.written.Add(int64(k))
		n -= k
		if c.next < len(c.recs) {
			break
		}
		for _, a := range c.arrivals {
			a.tell()
		}
		f.held = f.held[:copy(f.held, f.held[1:])]
		f.at--
		c.free()
	}
	gone := 0
	for gone < len(f.frames) && f.frames[gone].last <= f.written {
		f.flight -= f.frames[gone].bytes
		gone++
	}
	f.frames = f.frames[:copy(f.frames, f.frames[gone:])]
	var oldest int64
	if len(f.frames) > 0 {
		oldest = f.frames[0].since.UnixNano()
	} else if len(f.held) > 0 {
		oldest = time.Now().UnixNano()
	}
	f.log.progress.oldest.Store(oldest)
}

// reportLoss records what Record has refused, as a writer does.
func (f *forwarder) reportLoss() {
	if f.failing != nil {
		return
	}
	if n := f.log.lost.Swap(0); n > 0 {
		cause := errTooLong.Error()
		if !f.since.IsZero() {
			cause = "the process that has the log could not write it"
		}
		f.log.progress.gaps.Add(1)
		c := chunks.Get().(*chunk)
		c.add(&Event{Event: AuditGap, Reason: cause, Gap: &Gap{Count: n, Since: f.since}})
		f.take(c)
	}
}

// end ends sender and receiver.
func (f *forwarder) end() {
	f.conn.Close()
	close(f.quit)
	close(f.out)
	f.work.Wait()
	f.log.progress.oldest.Store(0)
}

// bereft takes the directory back: the other process is gone, or does not speak
// as it should.
func (f *forwarder) bereft(err error) consumer {
	f.end()
	f.busy = false
	f.settle()
	if f.ended && len(f.held) == 0 {
		return nil // all that was to be written is
	}
	f.opt.Logger.Warn("audit log: the process that has it is gone", "dir", f.opt.Dir, "pid", f.pid, "error", err)
	a := &absence{log: f.log, opt: f.opt, held: f.held, since: time.Now()}
	if f.failing != nil { // what was refused meanwhile was so for this
		a.cause, a.since = fmt.Errorf("process %d: %s", f.pid, f.failing.Failing), f.since
	}
	if !f.certain {
		a.sent = f.sent - f.written
	}
	if w := a.take(f.opt, lockWithin); w != nil {
		return w
	}
	return a
}
