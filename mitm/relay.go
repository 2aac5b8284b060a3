package mitm

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"framegate/audit"
	"framegate/frames"
)

const (
	// closeWait is how long the closing handshake may take once we have begun
	// one (RFC 6455, Section 7.1.1 leaves the time open).
	closeWait = 5 * time.Second
	// halfWait is how long one direction may be silent once the other has
	// ended, and how long the sockets may stay open once both have.
	halfWait = 10 * time.Second
)

// A relay is an open WebSocket between two legs.
type relay struct {
	*flow
	ws         *upgrade
	directions [2]*direction // by frames.Direction
	claims     claims
	running    sync.WaitGroup // both directions
	counted    func()         // ends the count as an open one
	unwatch    func()         // ends watchIdle; nil without an IdleTimeout

	last    atomic.Int64 // when a byte passed, in Unix nanoseconds; only with an IdleTimeout
	closing atomic.Bool  // nothing more is forwarded
	broken  atomic.Bool  // a side was reset, and so is the other
	once    sync.Once    // of shut

	mu  sync.Mutex
	end *ending // nil as long as the WebSocket has not ended
}

// An ending is how a WebSocket ended: what ws.close and conn.close say.
type ending struct {
	dir    string // the direction of the frame that ended it
	code   frames.Code
	reason string
	action string
	state  string // ledger state; "" for inspected
	rules  []string
}

// relay begins to carry messages, and returns what waits until the WebSocket has
// ended on both sides.
func (f *flow) relay(ws *upgrade) (wait func() error) {
	f.stopped()
	f.state = audit.StateInspected
	r := &relay{flow: f, ws: ws}
	clearDeadlines(f.down.wire, f.up.wire)
	r.directions[frames.ToServer] = newDirection(r, frames.ToServer, &f.down, f.up)
	r.directions[frames.ToClient] = newDirection(r, frames.ToClient, f.up, &f.down)
	f.stopped = context.AfterFunc(f.ctx, r.drain)
	if f.settings.IdleTimeout > 0 {
		r.unwatch = r.watchIdle()
	}
	r.counted = f.proxy.Stats.websocket()
	r.running.Go(r.directions[frames.ToServer].run)
	r.running.Go(r.directions[frames.ToClient].run)
	return r.wait
}

// wait is where ServeConn spends the life of a WebSocket, with as little on the
// stack as can be.
func (r *relay) wait() error {
	r.running.Wait()
	r.over()
	return nil
}

// over records the end.
func (r *relay) over() {
	f, ws := r.flow, r.ws
	defer r.counted()
	if r.unwatch != nil {
		defer r.unwatch()
	}
	if ws.tap != nil {
		ws.tap.Close()
	}
	e := f.event(audit.WSClose)
	e.Path, e.Code, e.Reason, e.Action = ws.Path, int(r.end.code), r.end.reason, r.end.action
	if r.end.dir != "" {
		e.Msg = &audit.Message{Dir: r.end.dir}
	}
	f.record(e)
	f.reset = r.broken.Load()
	if r.end.state != "" {
		f.state, f.rules, f.reason = r.end.state, r.end.rules, r.end.reason
	}
	f.totals = &audit.Totals{
		ToServer: r.directions[frames.ToServer].total(),
		ToClient: r.directions[frames.ToClient].total(),
	}
}

// endedBy keeps how the WebSocket ended. The first to say so is right, but that
// we refused something on its last steps decides about the ledger.
func (r *relay) endedBy(e ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == nil || r.end.state == "" && e.state != "" {
		r.end = &e
	}
}

// drain closes both sides because the gateway stops.
func (r *relay) drain() {
	r.shut(ending{code: frames.GoingAway, reason: "the gateway stops", action: "drain"},
		frames.GoingAway, frames.GoingAway, "")
}

// shut ends the WebSocket on our own account: it sends a Close frame to either
// side, after which nothing more is forwarded, and gives both the time to
// answer. reason is for the side that gets toClient or toServer other than
// 1001; it blocks no longer than closeWait on a peer that does not read.
func (r *relay) shut(e ending, toClient, toServer frames.Code, reason string) {
	r.once.Do(func() {
		r.endedBy(e)
		r.closing.Store(true)
		r.proxy.held.cancel(&r.claims)
		soon := time.Now().Add(r.proxy.closeWait)
		r.down.wire.SetDeadline(soon)
		r.up.wire.SetDeadline(soon)
		// At the same time: a peer that does not read must not use up the
		// time of the other.
		var both sync.WaitGroup
		both.Go(func() { r.down.sendClose(toClient, reasonFor(toClient, reason), false) })
		r.up.sendClose(toServer, reasonFor(toServer, reason), true)
		both.Wait()
		for _, d := range r.directions {
			if d.closed.Load() { // its peer has sent Close already, and waits for our end
				d.src.endWrites()
			}
		}
	})
}

// endWrites ends what we send to l, after the Close frame of shut.
func (r *relay) endWrites(l *leg) {
	r.once.Do(func() {}) // wait for shut
	l.endWrites()
}

func reasonFor(code frames.Code, reason string) string {
	if code == frames.GoingAway {
		return ""
	}
	return reason
}

// sendClose sends a Close frame, unless one was sent on this leg already. Within
// a frame none can be sent, so the peer gets the end of the connection, and the
// message there remains incomplete.
func (l *leg) sendClose(code frames.Code, reason string, masked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	if l.cut {
		l.wire.flush()
		l.closeWrite(false)
		return
	}
	h := frames.Header{Fin: true, Opcode: frames.Close, Masked: masked}
	if masked {
		rand.Read(h.Mask[:])
	}
	l.wire.flush()
	l.Write(frames.AppendFrame(nil, h, frames.AppendClose(nil, code, reason)))
}

// offend ends the WebSocket because of what came in direction dir: its sender
// gets code and reason, the other side 1001.
func (r *relay) offend(dir frames.Direction, e ending, reason string) {
	e.dir = dir.String()
	if dir == frames.ToServer {
		r.shut(e, e.code, frames.GoingAway, reason)
	} else {
		r.shut(e, frames.GoingAway, e.code, reason)
	}
}

// watchIdle ends the WebSocket when no byte passes for IdleTimeout.
func (r *relay) watchIdle() (stop func()) {
	limit := r.settings.IdleTimeout
	r.last.Store(time.Now().UnixNano())
	var t *time.Timer
	var mu sync.Mutex
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(limit, func() {
		mu.Lock()
		defer mu.Unlock()
		silent := time.Since(time.Unix(0, r.last.Load()))
		if left := limit - silent; left > 0 {
			t.Reset(left)
			return
		}
		switch now := r.proxy.settings().IdleTimeout; {
		case now == 0:
			t.Reset(limit) // and then see again
			return
		case now > silent:
			t.Reset(now - silent)
			return
		}
		r.shut(ending{code: frames.GoingAway, reason: "idle timeout", action: "close"},
			frames.GoingAway, frames.GoingAway, "")
	})
	return func() { t.Stop() }
}

// finished is called when direction d gets nothing more to forward. err is
// what ended it, io.EOF or a broken connection; nil if its peer has answered
// our own Close.
func (r *relay) finished(d *direction, err error) {
	if r.closing.Load() {
		r.endWrites(d.src)
		return
	}
	eof, clean := d.src.isEOF(err)
	if !eof {
		// One side broke, and so does the other.
		r.endedBy(ending{dir: d.dir.String(), code: frames.AbnormalClosure, reason: plainError(err)})
		r.closing.Store(true)
		r.proxy.held.cancel(&r.claims)
		if wasReset(err) {
			r.broken.Store(true)
		}
		d.dst.close(wasReset(err))
		d.src.close(wasReset(err))
		return
	}
	if !d.closed.Load() {
		r.endedBy(ending{dir: d.dir.String(), code: frames.AbnormalClosure, reason: "end of stream without a Close frame"})
	}
	d.dst.mu.Lock()
	d.dst.closeWrite(clean)
	d.dst.mu.Unlock()
	r.directions[1-d.dir].hasten()
}
