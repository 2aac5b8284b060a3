package clients

import (
	"errors"
	"time"

	"framegate/examples/traffic"
	"framegate/frames"
)

// Replay plays the client's part of a recorded connection, without a pause,
// after an upgrade to the origin's /replay. When expect data messages have come
// it closes, as was recorded or with 1000. It returns the messages that came,
// a Close included, which ends it early.
func (c *Raw) Replay(messages []traffic.Message, expect int) ([]traffic.Message, error) {
	start := time.Now()
	goodbye := frames.AppendClose(nil, frames.NormalClosure, "")
	played := make(chan error, 1)
	go func() {
		var err error
		for _, m := range messages {
			if m.Direction == frames.ToServer && m.Opcode != frames.Close && err == nil {
				_, err = c.Write(m.Append(nil, newMask))
			}
		}
		played <- err
	}()
	for _, m := range messages {
		if m.Direction == frames.ToServer && m.Opcode == frames.Close {
			goodbye = m.Payload
		}
	}

	var got []traffic.Message
	var partial *traffic.Message // a message whose last frame has not come
	closing := false
	for {
		if expect <= 0 && !closing {
			closing = true
			if err := <-played; err != nil {
				return got, err
			}
			if err := c.Send(true, frames.Close, goodbye); err != nil {
				return got, err
			}
		}
		h, payload, err := c.Frame()
		if err != nil {
			return got, err
		}
		if h.Opcode == frames.Continuation && partial != nil {
			partial.Payload = append(partial.Payload, payload...)
			partial.Fragments = append(partial.Fragments, len(payload))
		} else {
			m := traffic.Message{Direction: frames.ToClient, Opcode: h.Opcode, Payload: payload, Time: time.Since(start)}
			if h.Opcode.IsControl() {
				got = append(got, m)
			} else {
				if !h.Fin {
					m.Fragments = []int{len(payload)}
				}
				partial = &m
			}
		}
		if partial != nil && h.Fin && !h.Opcode.IsControl() {
			got, partial = append(got, *partial), nil
			expect--
		}
		if h.Opcode == frames.Close {
			if !closing {
				err = c.Send(true, frames.Close, payload)
			}
			c.Rest()
			return got, errors.Join(err, c.Close())
		}
	}
}
