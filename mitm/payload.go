package mitm

import (
	"framegate/audit"
	"framegate/frames"
	"framegate/policy"
)

// A KeySource makes the keys of sealed payloads.
type KeySource interface {
	// PayloadKey makes the key of a connection and stores it for those who may
	// read its payloads; nil if that failed and the log says to go on without.
	PayloadKey(conn string) (*audit.PayloadKey, error)
}

const (
	// payloadRoom is how much of payloads a pass gathers before it hands its
	// records over.
	payloadRoom = 64 << 10
	// payloadAlone is from when on a payload is handed over at once, from where
	// it is, rather than copied.
	payloadAlone = 16 << 10
)

// payload puts into msg, the last record kept, what the log may have of m.
func (p *pass) payload(msg *audit.Message, m *frames.Message, v *policy.Verdict) {
	d := p.direction
	mode := p.settings.Payload
	switch {
	case mode == audit.PayloadNone:
		return
	case len(m.Data) > audit.MaxPayload:
		msg.Omitted = audit.OmittedLength
		return
	case mode == audit.PayloadFull && d.relay.ws.key == nil:
		msg.Omitted = audit.OmittedKey
		return
	case mode == audit.PayloadFull:
		start := len(p.room)
		p.room = d.relay.ws.key.Seal(p.room, msg, m.Data, p.now)
		msg.Sealed = p.room[start:len(p.room):len(p.room)]
	default:
		masked, ok := d.scope.Mask(m.Data, v)
		if !ok {
			msg.Omitted = audit.OmittedRule
			return
		}
		if len(masked) > payloadAlone {
			msg.Payload = masked
			p.record() // m is good until the next one
			return
		}
		if p.room == nil { // or an empty message had none
			p.room = make([]byte, 0, payloadAlone)
		}
		start := len(p.room)
		p.room = append(p.room, masked...)
		msg.Payload = p.room[start:len(p.room):len(p.room)]
	}
	if len(p.room) > payloadRoom {
		p.record()
	}
}

// forget forgets the payloads of records that have been handed over.
func (p *pass) forget(events []audit.Event) {
	if p.settings.Payload == audit.PayloadNone {
		return
	}
	for i := range events {
		if m := events[i].Msg; m != nil {
			m.Payload, m.Sealed = nil, nil
		}
	}
	if p.room = p.room[:0]; cap(p.room) > 4*payloadRoom {
		p.room = nil
	}
}
