package audit

import (
	"fmt"
	"time"
)

// An absence is the consumer of a log whose directory is given up. What is
// recorded waits in the queue. It fails if the directory cannot be taken back:
// then it is as with a disk that cannot be written.
type absence struct {
	log  *Log
	opt  Options
	held []*chunk // accepted, and to be written first

	sent  uint64 // how many of held were sent, and are perhaps in a file
	cause error  // why the directory cannot be taken back; nil: nobody has tried
	since time.Time
}

func (a *absence) run() consumer {
	l := a.log
	tick := time.NewTicker(tickAfter)
	defer tick.Stop()
	ending := l.ending
	for {
		queue := l.queue
		if a.cause == nil && ending != nil {
			queue = nil // until Close, when nobody may be left waiting in Record
		}
		select {
		case c, ok := <-queue:
			if !ok {
				return a.close()
			}
			a.held = append(a.held, c)
		case <-ending:
			ending = nil
		case <-tick.C:
			if a.cause == nil {
				continue
			}
			if w := a.take(a.opt, 0); w != nil {
				return w
			}
		case o := <-l.orders:
			if next := a.obey(o); next != nil {
				return next
			}
		}
	}
}

// obey carries o out, and returns who comes next if the absence is over.
func (a *absence) obey(o order) consumer {
	switch o.verb {
	case toForward:
		f := newForwarder(a, o.peer)
		o.reply <- nil
		return f
	case toRetake:
		w := a.take(a.opt, lockWithin)
		if w == nil {
			o.reply <- *a.log.failure.Load()
			return nil
		}
		o.reply <- nil
		return w
	case toReopen:
		if a.cause == nil {
			break
		}
		w := a.take(o.opt, 0)
		if w == nil {
			o.reply <- *a.log.failure.Load()
			return nil
		}
		o.reply <- nil
		return w
	case toYield:
		o.reply <- a.cause // of one who has nothing to give
		return nil
	}
	o.reply <- ErrElsewhere
	return nil
}

// take takes the directory, or says why not and returns nil.
func (a *absence) take(opt Options, wait time.Duration) consumer {
	w, err := newWriter(a.log, opt, wait)
	if err != nil {
		a.fail(err)
		return nil
	}
	w.begin()
	w.held = append(w.held, a.all()...)
	if a.cause != nil {
		w.cause, w.since = a.cause, a.since
		opt.Logger.Info("audit log can be written again", "dir", opt.Dir, "lost", a.log.lost.Load())
	}
	return w
}

// all is what is to be written, with a word before it if some of that may be in
// the log already.
func (a *absence) all() []*chunk {
	if a.sent == 0 {
		return a.held
	}
	e := &Event{Event: AuditGap, Gap: &Gap{Since: a.since}, Reason: fmt.Sprintf(
		"the process that had the log has ended: %d records that it did not acknowledge follow, and some may be there twice", a.sent)}
	a.opt.Logger.Warn("audit log goes on", "dir", a.opt.Dir, "reason", e.Reason)
	a.log.progress.gaps.Add(1)
	c := chunks.Get().(*chunk)
	c.add(e)
	return append([]*chunk{c}, a.held...)
}

// fail has Record refuse what comes from now on.
func (a *absence) fail(err error) {
	if a.cause == nil || a.cause.Error() != err.Error() {
		a.opt.Logger.Error("audit log cannot be taken back", "dir", a.opt.Dir, "error", err)
	}
	if a.since.IsZero() {
		a.since = time.Now()
	}
	a.cause = err
	a.log.blame(err)
}

// close writes what is left if the directory can be had once more.
func (a *absence) close() consumer {
	if len(a.held) == 0 && a.log.lost.Load() == 0 && a.cause == nil {
		return nil
	}
	if w := a.take(a.opt, lockWithin); w != nil {
		return w // which finds the end of the queue
	}
	a.log.err = fmt.Errorf("%w: %d records are lost: %w", ErrUnwritable, count(a.held)+a.log.lost.Load(), a.cause)
	return nil
}
