package audit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// An inflow is what comes from one process.
type inflow struct {
	taken   uint64 // records put into the queue
	size    int64  // their bytes
	written atomic.Uint64
	gone    atomic.Int64 // bytes written

	tell  chan struct{} // there is something to tell the other process
	space chan struct{} // something was written
}

// An arrival is what a chunk has of an inflow.
type arrival struct {
	in      *inflow
	records uint64
	size    int64
}

// tell says that it is in a file. It does not wait.
func (a arrival) tell() {
	a.in.written.Add(a.records)
	a.in.gone.Add(a.size)
	for _, c := range []chan struct{}{a.in.tell, a.in.space} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// tellArrived tells those who wait that the block is written.
func (w *writer) tellArrived() {
	for i, a := range w.arrived {
		a.tell()
		w.arrived[i] = arrival{}
	}
	w.arrived = w.arrived[:0]
}

// Accept records what another process Forwards over conn, until that ends, however
// long that takes, and returns once all of it is in a file. It says how many records came, and no
// error if the other process has ended in order: io.ErrUnexpectedEOF if it was
// killed, which leaves nothing half done and an audit.gap record, ErrClosed if this
// log was closed, and then the other one keeps what is not in a file. conn is the
// log's.
//
// The records are checked one by one: whatever comes, the log stays valid.
func (l *Log) Accept(conn net.Conn) (records int64, err error) {
	defer conn.Close()
	l.mu.RLock()
	if l.closed {
		l.mu.RUnlock()
		return 0, ErrClosed
	}
	l.accepting.Add(1)
	l.mu.RUnlock()
	defer l.accepting.Done()

	over, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-l.ending:
			conn.SetReadDeadline(time.Now())
			conn.SetWriteDeadline(time.Now().Add(lastWait))
		case <-over:
		}
	}()
	defer func() { <-stopped }()
	defer close(over)

	in := &inflow{tell: make(chan struct{}, 1), space: make(chan struct{}, 1)}
	p, err := l.greet(conn, false)
	if err == nil {
		said := make(chan struct{})
		received := make(chan struct{})
		go func() {
			defer close(said)
			in.acknowledge(l, conn, received)
		}()
		err = l.receive(p.conn, in)
		in.settle(l)
		close(received)
		<-said
		if errors.Is(err, errFrame) {
			conn.Write(appendJSONFrame(nil, kindState, state{Refused: shortened(err.Error())}))
		}
		if in.written.Load() == in.taken { // and nothing comes any more
			conn.Write(appendFrameHead(nil, kindEnd, 0))
		}
	}
	select {
	case <-l.ending:
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = ErrClosed
		}
	default:
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) { // it had not read all that it was told
		err = io.ErrUnexpectedEOF
	}
	if err != nil && p != nil {
		err = fmt.Errorf("process %d: %w", p.hello.PID, err)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.Join(err, l.Record(Event{Event: AuditGap, Gap: &Gap{}, Reason: fmt.Sprintf(
				"process %d, which sent its records here, was killed: its last ones may be missing", p.hello.PID)}))
		}
	}
	return int64(in.taken), err
}

// receive puts what comes into the queue.
func (l *Log) receive(conn net.Conn, in *inflow) error {
	for {
		kind, body, err := readFrame(conn)
		switch {
		case err != nil:
			return err
		case kind == kindEnd:
			return nil
		case kind != kindRecords:
			return fmt.Errorf("%w: a frame of kind %q from who forwards", errFrame, kind)
		}
		c, err := parseRecords(body, in.taken+1)
		if err != nil {
			return err
		}
		n := int64(len(c.buf))
		for in.size-in.gone.Load() > maxUnwritten { // a peer that does not keep to it
			select {
			case <-in.space:
			case <-l.done:
				return ErrClosed
			}
		}
		c.arrivals = []arrival{{in, uint64(len(c.recs)), n}}
		records := uint64(len(c.recs))
		if err := l.put(c); err != nil {
			return err
		}
		in.taken += records
		in.size += n
	}
}

// settle waits until all that was taken is in a file, or the log is closed.
func (in *inflow) settle(l *Log) {
	for in.written.Load() < in.taken {
		select {
		case <-in.space:
		case <-l.done:
			return
		}
	}
}

// acknowledge tells the other process what is in a file, and whether the log can
// be written, until all has come. An error is one of the reader too.
func (in *inflow) acknowledge(l *Log, conn net.Conn, received <-chan struct{}) {
	tick := time.NewTicker(tickAfter)
	defer tick.Stop()
	var b []byte
	var told uint64
	var failing string
	for last := false; ; {
		b = b[:0]
		if n := in.written.Load(); n > told {
			told = n
			b = appendWritten(b, n)
		}
		now := ""
		if cause := l.Failed(); cause != nil {
			now = shortened(cause.Error())
		}
		if now != failing {
			failing = now
			b = appendJSONFrame(b, kindState, state{Failing: now})
		}
		if len(b) > 0 {
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
		if last {
			return
		}
		select {
		case <-in.tell:
		case <-tick.C:
		case <-received:
			last = true
		}
	}
}

// shortened bounds a reason, so that its frame is not too long.
func shortened(s string) string { return s[:min(len(s), 4<<10)] }
