package mitm

import (
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/policy"
)

// A direction that has claimed memory for a message ([budget]) keeps it until the
// message has been forwarded, has begun to leave in parts, or will not come.
// What it holds without a claim: a chunk of received bytes, or of fragments one
// and what one read adds to it; of these as much unmasked; and up to two chunks
// inflated.

// lacks reports whether the next bytes need a claim that the direction lacks.
func (d *direction) lacks() bool {
	return d.claim == nil && (d.reader.Need() > chunk || d.reader.Held() > chunk)
}

// mayInflate reports whether the data of a message may take more than two chunks.
func (d *direction) mayInflate() bool {
	d.cancelled = d.claim == nil && !d.claimFor(d.relay.settings.hold())
	return !d.cancelled
}

// claimFor takes n bytes from the budget, waiting for them if it has to. It
// reports false if the WebSocket has ended meanwhile.
func (d *direction) claimFor(n int64) bool {
	r := d.relay
	if r.closing.Load() {
		return false
	}
	c := &claim{n: n, dir: d.dir, pair: &r.claims, client: clientOf(r.client.Addr()), end: d.evict}
	d.claim, d.claimed = c, d.messages
	if r.proxy.held.take(r.proxy.settings().HeldMemory, c) {
		return true
	}
	if d.pass != nil { // it has forwarded something
		d.pass.flush()
	}
	if !r.closing.Load() { // or else cancel may have been there before
		d.await(c)
	}
	if r.closing.Load() {
		d.repay()
		return false
	}
	d.reload()
	if d.pass != nil {
		d.pass.now = time.Now()
	}
	if d.hasty.Load() { // which was no silence of the peer
		d.limitSilence()
	}
	return true
}

// await waits for the claim, or until the wait is cancelled.
func (d *direction) await(c *claim) {
	r := d.relay
	busy := make(<-chan time.Time) // never
	if limit := r.settings.IdleTimeout; limit > 0 {
		t := time.NewTicker(max(limit/4, 1))
		defer t.Stop()
		busy = t.C
	}
	for {
		select {
		case <-c.granted:
			return
		case now := <-busy: // to wait for us is not to be idle
			r.last.Store(now.UnixNano())
		}
	}
}

// settle gives the claim back if its message is done with.
func (d *direction) settle() {
	if d.claim != nil && (d.messages > d.claimed || d.stream != nil || d.closed.Load() || d.relay.closing.Load()) {
		d.repay()
	}
}

// repay gives the claim back.
func (d *direction) repay() {
	if d.claim != nil {
		d.evicted = d.relay.proxy.held.give(d.claim) || d.evicted
		d.claim = nil
	}
}

// stalled is why a WebSocket is ended that keeps memory from others.
const stalled = "stands still within a message while others wait for memory"

// evict ends the WebSocket, whose direction d stands still. Its own goroutine
// records that.
func (d *direction) evict() {
	d.relay.offend(d.dir, ending{
		code: frames.TryAgainLater, reason: stalled, action: policy.Close.String(), state: audit.StateFailed,
	}, "out of memory for messages")
}

// recordEviction notes the record of evict.
func (d *direction) recordEviction() {
	p := d.newPass(time.Now())
	defer p.free()
	e := p.event(audit.WSViolation)
	*e.Msg = audit.Message{Dir: d.dir.String()}
	e.Action, e.Code, e.Reason = policy.Close.String(), int(frames.TryAgainLater), stalled
	p.keep(e)
	p.record()
}

// read reads from the sender.
func (d *direction) read(b []byte) (n int, err error) {
	d.claim.awaits()
	n, err = d.src.Read(b)
	d.claim.came(n)
	return n, err
}

// write writes to the receiver, as far as a claim is concerned in pieces, whose
// progress can be seen.
func (d *direction) write(b []byte) (err error) {
	if d.claim == nil {
		_, err = d.dst.Write(b)
		return err
	}
	for len(b) > 0 && err == nil {
		n := min(len(b), chunk)
		d.claim.awaits()
		_, err = d.dst.Write(b[:n])
		d.claim.came(n)
		b = b[n:]
	}
	return err
}
