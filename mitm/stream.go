package mitm

import (
	"crypto/sha256"
	"hash"

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
	// One byte stays back: the last must not leave before the verdict.
	rebuilt bool
	op      frames.Opcode // of the next of these
	last    []byte
}

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

// look judges a piece of a streamed message, before the part leaves that it came
// with.
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
	v, ok := s.judge.Write(m.Data)
	if !ok {
		s.verdict, s.refused = v, true
		return
	}
	if s.rebuilt && len(m.Data) > 0 {
		data := append(s.last, m.Data...)
		end := len(data) - 1
		d.pass.forward(d.fragment(s.op, false, data[:end]))
		s.op, s.last = frames.Continuation, append(s.last[:0], data[end])
	}
}

// part forwards a part of a streamed message, unless the verdict is that the
// WebSocket has to end.
func (p *pass) part(m *frames.Message) *ending {
	d := p.direction
	s := d.long(m)
	s.message.WireSize += int64(len(m.Wire))
	s.message.Frames = m.Frames
	last := m.Part == frames.LastPart
	if last && !s.refused {
		s.verdict = s.judge.End()
		s.refused = s.verdict.Action == policy.Close
	}
	if last || s.refused {
		v := s.verdict
		p.ended(v, "")
		if s.refused {
			return &ending{code: v.Code, reason: v.Reason, action: v.Action.String(), state: audit.StateBlocked, rules: v.Rules}
		}
	}
	switch {
	case !s.rebuilt:
		p.cut = d.reader.Midframe()
		p.forward(m.Wire)
	case last:
		p.forward(d.fragment(s.op, true, s.last))
	}
	return nil
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
	d.roll(&sum)
	e := p.event(audit.WSMessage)
	*e.Msg = s.message
	e.Msg.SHA256 = sum
	e.Rules, e.Shadow, e.Action = v.Rules, v.Shadow, v.Action.String()
	e.Code, e.Reason = int(v.Code), v.Reason
	if reason != "" {
		e.Reason = reason
	}
	p.keep(e)
}

// abandon records a streamed message of which the rest will not come. What there
// was of it has left.
func (d *direction) abandon() {
	if d.stream == nil {
		return
	}
	p := d.newPass()
	defer p.free()
	p.ended(policy.Verdict{}, "ended within the message")
	p.flush()
}
