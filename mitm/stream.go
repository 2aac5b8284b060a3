package mitm

import (
	"crypto/sha256"
	"hash"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/policy"
)

// A streamed message is one over Hold that is judged and forwarded in parts. It
// has one record, which is written before its last byte leaves.
type streamed struct {
	judge   *policy.Stream
	verdict policy.Verdict
	refused bool // by the verdict, on what has come so far
	sum     hash.Hash
	message audit.Message

	// A receiver that is behind gets frames of our own, with the data inflated.
	// Of the data one byte stays back: the last must not leave before the verdict.
	rebuilt bool
	op      frames.Opcode // of the next of these
	data    []byte        // not yet sent
}

// rebuiltPart is how much data goes into one frame of our own.
const rebuiltPart = 32 << 10

// long returns the streamed message that is being received.
func (d *direction) long(m *frames.Message) *streamed {
	if d.stream == nil {
		d.stream = &streamed{
			judge: d.scope.Stream(d.dir, m.Opcode), sum: sha256.New(),
			rebuilt: m.Compressed && d.behind, op: m.Opcode,
			message: audit.Message{Dir: d.dir.String(), Opcode: m.Opcode.String(), Compressed: m.Compressed},
		}
	}
	return d.stream
}

// look takes a piece of a streamed message, to be judged before the part leaves
// that it came with.
func (d *direction) look(m frames.Message) {
	if d.pass == nil { // the rest of a message, after the end
		return
	}
	s := d.long(&m)
	if s.refused {
		return
	}
	s.sum.Write(m.Data)
	s.message.Size += int64(len(m.Data))
	s.heard(s.judge.Write(m.Data))
	if s.rebuilt {
		if s.data = append(s.data, m.Data...); len(s.data) > rebuiltPart {
			d.pass.rebuild()
		}
	}
}

// heard keeps a verdict that refuses the message.
func (s *streamed) heard(v policy.Verdict, pass bool) {
	if !pass && !s.refused {
		s.verdict, s.refused = v, true
	}
}

// part counts a part of a streamed message, and reports whether it is the first.
func (p *pass) part(m *frames.Message) (first bool) {
	s := p.direction.long(m)
	first = s.message.Frames == 0
	s.message.WireSize += int64(len(m.Wire))
	s.message.Frames = m.Frames
	p.cut = !s.rebuilt && p.direction.reader.Midframe()
	return first
}

// check judges what has come of a streamed message, if there is one: what has
// not left yet may do so, unless the WebSocket has to end. That is once for all
// the parts of a batch, since it costs as much for few bytes as for some
// thousand.
func (p *pass) check() *ending {
	s := p.direction.stream
	if s == nil {
		return nil
	}
	if s.rebuilt {
		p.rebuild()
	} else if !s.refused {
		s.heard(s.judge.Check())
	}
	if s.refused {
		return p.refuse()
	}
	return nil
}

// rebuild sends the data of a message in a frame of our own, but for the last
// byte.
func (p *pass) rebuild() {
	d := p.direction
	s := d.stream
	if !s.refused {
		s.heard(s.judge.Check())
	}
	if end := len(s.data) - 1; end > 0 && !s.refused {
		p.forward(d.fragment(s.op, false, s.data[:end]))
		s.op, s.data = frames.Continuation, append(s.data[:0], s.data[end])
	}
}

// release forwards what of a streamed message has been waiting for m: wire, or
// all of m if that has more because fragments had been held. The last part goes
// by the verdict on the whole.
func (p *pass) release(m *frames.Message, wire []byte) *ending {
	d := p.direction
	s := d.stream
	if m.Part != frames.LastPart {
		if end := p.check(); end != nil {
			return end
		}
	} else {
		if !s.refused {
			v := s.judge.End()
			s.heard(v, v.Action != policy.Close)
			s.verdict = v
		}
		if s.refused {
			return p.refuse()
		}
		p.ended(s.verdict, "")
	}
	switch {
	case s.rebuilt && m.Part == frames.LastPart:
		p.forward(d.fragment(s.op, true, s.data))
	case s.rebuilt:
	case len(m.Wire) > len(wire):
		p.forward(m.Wire)
	default:
		p.forward(wire)
	}
	return nil
}

// refuse records the streamed message as refused, and says how the WebSocket ends.
func (p *pass) refuse() *ending {
	v := p.direction.stream.verdict
	p.ended(v, "")
	return &ending{code: v.Code, reason: v.Reason, action: v.Action.String(), state: audit.StateBlocked, rules: v.Rules}
}

// ended notes the record of the streamed message.
func (p *pass) ended(v policy.Verdict, reason string) {
	d := p.direction
	s := d.stream
	d.stream = nil
	s.judge.Discard()
	sum := [sha256.Size]byte(s.sum.Sum(nil))
	d.messages++
	d.bytes += s.message.Size
	p.carried.add(v.Action, s.message.Size)
	d.relay.proxy.Stats.hit(&v)
	d.roll(&sum)
	e := p.event(audit.WSMessage)
	*e.Msg = s.message
	e.Msg.SHA256 = sum
	if p.settings.Payload != audit.PayloadNone {
		e.Msg.Omitted = audit.OmittedStreamed
	}
	e.Rules, e.Shadow, e.Action = v.Rules, v.Shadow, v.Action.String()
	e.Code, e.Reason = int(v.Code), v.Reason
	if reason != "" {
		e.Reason = reason
	}
	p.keep(e)
}

// unfinished notes the record of the streamed message if there is one, of which
// the rest will not come.
func (p *pass) unfinished() {
	s := p.direction.stream
	if s == nil {
		return
	}
	v := s.verdict
	if !s.refused {
		// What there was of it has left, whatever its end would have decided.
		v = s.judge.End()
		v.Action, v.Code = policy.Allow, 0
		if len(v.Rules) > 0 {
			v.Action = policy.Log
		}
	}
	p.ended(v, "ended within the message")
}

// abandon records a streamed message within which the direction has ended.
func (d *direction) abandon() {
	if d.stream == nil {
		return
	}
	p := d.newPass(time.Now())
	defer p.free()
	p.unfinished()
	p.flush()
}
