package mitm

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/policy"
)

// A pass is the work on one batch: the records that have to be written before
// what they speak of may leave.
type pass struct {
	direction *direction
	now       time.Time
	settings  *Settings      // in force at its begin: Level and Payload
	verdict   policy.Verdict // on the last message
	held      bool           // the destination gathers
	cut       bool           // what is forwarded ends within a frame
	err       error
	n         int
	carried   carried // for the counts
	events    [passSize]audit.Event
	messages  [passSize]audit.Message
	room      []byte // payloads in them
}

const passSize = 64

var passes = sync.Pool{New: func() any { return new(pass) }}

func (p *pass) free() {
	p.direction.relay.shard.add(p.direction.dir, &p.carried)
	p.carried = carried{}
	p.direction.pass = nil
	p.direction, p.settings, p.verdict, p.err, p.n, p.held, p.cut = nil, nil, policy.Verdict{}, nil, 0, false, false
	passes.Put(p)
}

// judge asks the policy about m and notes the record. It returns how the
// WebSocket is to end if a rule closes it.
func (p *pass) judge(m *frames.Message) *ending {
	d := p.direction
	v := d.scope.Message(d.dir, m.Opcode, m.Data)
	sum := sha256.Sum256(m.Data)
	name := audit.WSControl
	if !m.Opcode.IsControl() {
		name = audit.WSMessage
		d.messages++
		d.bytes += int64(len(m.Data))
		d.roll(&sum)
		p.carried.add(v.Action, int64(len(m.Data)))
	}
	d.relay.proxy.Stats.hit(&v)
	p.verdict = v
	e := p.event(name)
	e.Rules, e.Shadow, e.Action = v.Rules, v.Shadow, v.Action.String()
	*e.Msg = audit.Message{
		Dir: d.dir.String(), Opcode: m.Opcode.String(), Size: int64(len(m.Data)), WireSize: int64(len(m.Wire)),
		Frames: m.Frames, Compressed: m.Compressed, SHA256: sum,
	}
	if v.Action == policy.Close {
		e.Code, e.Reason = int(v.Code), v.Reason
	}
	if p.keep(e) {
		p.payload(e.Msg, m, &v)
	}
	if v.Action != policy.Close {
		return nil
	}
	return &ending{code: v.Code, reason: v.Reason, action: v.Action.String(), state: audit.StateBlocked, rules: v.Rules}
}

// event begins the next record.
func (p *pass) event(name string) *audit.Event {
	if p.n == passSize {
		p.record()
	}
	r := p.direction.relay
	e := &p.events[p.n]
	*e = audit.Event{
		Time: p.now, Event: name, Conn: r.id, Client: r.client, Server: r.server, Host: r.host,
		Path: r.ws.Path, Policy: p.direction.policy.Version(), Msg: &p.messages[p.n],
	}
	return e
}

// keep makes e, the last one begun, part of the batch if the level wants it.
func (p *pass) keep(e *audit.Event) bool {
	wanted := p.settings.Level.Wants(e)
	if wanted {
		p.n++
	}
	return wanted
}

// violation records what the peer did wrong and ends the WebSocket.
func (p *pass) violation(err error) error {
	d := p.direction
	var v *frames.ProtocolError
	if !errors.As(err, &v) {
		v = &frames.ProtocolError{Code: frames.InternalError, Reason: err.Error()}
	}
	p.unfinished()
	e := p.event(audit.WSViolation)
	*e.Msg = audit.Message{Dir: d.dir.String()}
	e.Action, e.Code, e.Evidence = policy.Close.String(), int(v.Code), v.Header
	e.Reason = v.Section + ": " + v.Reason
	end := ending{code: v.Code, reason: e.Reason, action: "close", state: audit.StateFailed}
	p.keep(e)
	err = p.flush()
	d.relay.offend(d.dir, end, v.Reason)
	return err
}

// record hands the records of the batch to the log. If the log does not take
// them, nothing of what they speak of is forwarded, and the WebSocket ends.
func (p *pass) record() {
	events := p.events[:p.n]
	p.n = 0
	defer p.forget(events)
	if len(events) == 0 || p.err != nil {
		return
	}
	r := p.direction.relay
	if p.err = r.record(events...); p.err != nil {
		r.shut(ending{code: frames.InternalError, reason: p.err.Error(), action: "close", state: audit.StateFailed},
			frames.InternalError, frames.InternalError, "")
	}
}

// forward sends b on, after the records of it. It leaves with flush.
func (p *pass) forward(b []byte) {
	if p.record(); len(b) == 0 || p.err != nil {
		return
	}
	dst := p.direction.dst
	dst.mu.Lock()
	defer dst.mu.Unlock()
	if dst.closed {
		return
	}
	if !p.held {
		dst.wire.hold()
		p.held = true
	}
	p.err = p.direction.write(b)
	dst.cut = p.cut
	if p.direction.closed.Load() {
		dst.closed = true // b ends in a Close frame
	}
}

// flush sends what was forwarded, and returns the first error of the batch.
func (p *pass) flush() error {
	p.record()
	if !p.held {
		return p.err
	}
	p.held = false
	dst := p.direction.dst
	dst.mu.Lock()
	defer dst.mu.Unlock()
	c := p.direction.claim
	c.awaits()
	if err := dst.wire.flush(); p.err == nil {
		p.err = err
	}
	c.came(0)
	return p.err
}
