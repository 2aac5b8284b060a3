package audit

import (
	"bytes"
	"errors"
	"net"
	"time"
)

// The log changes hands
//
// Who takes from the queue of a log is its consumer. There is one at a time, all
// on one goroutine, each of which names the next when it ends:
//
//	writer     has the directory, and writes
//	absence    has given it up, or could not take it back
//	forwarder  sends what comes to the process that has it now
//
// The queue lives across the change, so what is recorded meanwhile waits in it,
// in its order, and Record knows nothing of all this.
//
// A gateway is replaced in this order: the old one has Yield, the new one Open,
// the old one Forward and the new one Accept on the two ends of a socket. If the
// new one cannot open the log, the old one has Retake instead; if it ends later,
// that comes by itself.
type consumer interface {
	// run returns the next consumer, or nil at the end of the queue.
	run() consumer
}

// consume has the queue consumed until its end.
func (l *Log) consume(c consumer) {
	for c != nil {
		c = c.run()
	}
	close(l.done)
}

var (
	// ErrElsewhere: the directory of the log is given up.
	ErrElsewhere = errors.New("the directory of the audit log is given up to another process")

	errNotElsewhere = errors.New("the directory of the audit log is not given up")
)

// An order tells the consumer to change.
type order struct {
	verb  verb
	opt   Options    // of reopen
	peer  *peer      // of forward
	reply chan error // has room for the one answer
}

type verb int

const (
	toReopen verb = iota
	toYield
	toRetake
	toForward
)

// Reopen ends the log as Close does and opens the one that o describes, the same
// or another, under the records that come meanwhile: they wait in the queue, and
// no call of Record fails for it. What a failing log still has to write goes into
// the new one. On an error the log as it was is open again, unless that fails
// too: then the log is failing, and tries again each second.
//
// A log that forwards what is recorded has no directory to end. It does from now
// on what o says: the level, on_failure, where the keys of payloads are made, which
// is to be where the other process writes, and what it would take back. A log
// whose directory is given up, and that does not forward yet, cannot be reopened,
// which is ErrElsewhere.
func (l *Log) Reopen(o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	return l.order(order{verb: toReopen, opt: o})
}

// Yield writes, syncs and signs all that was accepted before and gives the
// directory up, as Close does. Records that come after it wait until Retake or
// Forward, and when the queue is full Record waits. On an error the log has the
// directory as before: a log that is failing is not given up.
func (l *Log) Yield() error { return l.order(order{verb: toYield}) }

// Retake takes the directory back that was given up; a process that holds it is
// waited for, for a second. On an error the log is failing, and tries again each
// second. It has no effect on a log that has its directory, and is ErrElsewhere
// while what is recorded is forwarded.
func (l *Log) Retake() error { return l.order(order{verb: toRetake}) }

// Forward sends what is recorded, and what waited since Yield, over conn, a unix
// stream socket, to a process whose Log Accepts it. It returns when the two have
// greeted each other; on an error all is as before. conn is the log's in any
// case.
//
// What the other process has not said to be in a file is kept. If the connection
// ends, because that process does, the log takes the directory back as Retake
// does, and writes what was kept.
func (l *Log) Forward(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(greetWithin))
	p, err := l.greet(conn, true)
	conn.SetDeadline(time.Time{})
	if err == nil {
		err = l.order(order{verb: toForward, peer: p})
	}
	if err != nil {
		conn.Close()
	}
	return err
}

// order has the consumer obey.
func (l *Log) order(o order) error {
	o.reply = make(chan error, 1)
	select {
	case l.orders <- o:
		return <-o.reply
	case <-l.done:
		return ErrClosed
	}
}

// obey begins what o wants of the writer. It goes on writing while keeper and
// intake come to an end, for they may wait for what they have recorded.
func (w *writer) obey(o order) {
	switch o.verb {
	case toRetake:
		o.reply <- nil
	case toForward:
		o.reply <- errNotElsewhere
	default:
		w.leaving = &o
		quiet := make(chan struct{})
		go func() {
			w.intake.end()
			w.keeper.hold(true)
			close(quiet)
		}()
		w.quiet = quiet
	}
}

// obeyed answers the order that is being carried out, if there is one.
func (w *writer) obeyed(err error) {
	if w.leaving != nil {
		w.leaving.reply <- err
	}
	w.leaving, w.quiet = nil, nil
}

// attend has the spool taken in.
func (w *writer) attend() {
	w.intake = newIntake(w.log, &w.opt)
	go w.intake.run()
}

// leave does what the order wants once nothing of the log's own comes any more.
// It returns nil if the log stays with w.
func (w *writer) leave() consumer {
	o := w.leaving
	for range len(w.log.queue) {
		c, ok := <-w.log.queue
		if !ok {
			break // run will see it too
		}
		w.held = append(w.held, c)
		w.drain()
	}
	finished := w.finish()
	if !finished && o.verb == toYield {
		w.obeyed(*w.log.failure.Load())
		w.keeper.hold(false)
		w.attend()
		return nil
	}
	left := w.left()
	if err := w.release(finished); err != nil {
		w.opt.Logger.Error("audit log not closed in order", "dir", w.opt.Dir, "error", err)
	}
	a := &absence{log: w.log, opt: w.opt, held: left}
	if o.verb == toYield {
		o.reply <- nil
		return a
	}
	next, err := newWriter(w.log, o.opt, 0)
	if err != nil {
		var again error
		if next, again = newWriter(w.log, w.opt, lockWithin); again != nil {
			a.fail(again)
			o.reply <- err
			return a
		}
	}
	next.begin()
	next.held = append(next.held, left...)
	if !finished {
		next.cause, next.since, next.unsure = w.cause, w.since, w.unsure
	}
	o.reply <- err
	return next
}

// left returns what is not written: the block as a chunk, and what waits behind it.
func (w *writer) left() []*chunk {
	if w.block.count == 0 {
		return w.held
	}
	c := chunks.Get().(*chunk)
	for line := range bytes.Lines(w.block.raw) {
		c.buf = append(c.buf, line[lengthOfSeq(line):]...)
		c.recs = append(c.recs, chunkRecord{end: len(c.buf), ns: timeOf(line[lengthOfSeq(line):])})
	}
	c.arrivals, w.arrived = w.arrived, nil
	return append([]*chunk{c}, w.held...)
}
