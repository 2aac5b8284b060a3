package origin

import (
	"strconv"

	"framegate/frames"
	"framegate/internal/lab/wire"
)

// Deflate answers the handshake with the extensions of ?answer=, offered or
// not, or else with permessage-deflate and no parameter. Then it sends every
// message back, in as many frames as it came in, always compressed, as far as
// the answer lets it with context takeover.
func Deflate(s *Session) error {
	answer := s.Request.URL.Query().Get("answer")
	if answer == "" {
		answer = "permessage-deflate"
	}
	if err := s.Switch("Sec-WebSocket-Extensions: " + answer); err != nil {
		return err
	}
	chosen, err := frames.ParseExtensions([]string{answer})
	if err != nil {
		return err
	}
	in, takeover, bits := wire.Inflater{}, true, 0
	for _, p := range chosen[0].Parameters {
		switch p.Name {
		case "client_no_context_takeover":
			in.NoTakeover = true
		case "server_no_context_takeover":
			takeover = false
		case "server_max_window_bits":
			if bits, err = strconv.Atoi(p.Value); err != nil {
				return err
			}
		}
	}
	return s.echoDeflated(&in, wire.NewDeflater(takeover, bits))
}

func (s *Session) echoDeflated(in *wire.Inflater, out *wire.Deflater) error {
	var first frames.Header // of the message that message is a part of
	var message []byte
	for parts := 0; ; {
		h, payload, err := s.Frame()
		if err != nil {
			return err
		}
		if h.Opcode.IsControl() {
			if done, err := s.control(h.Opcode, payload); done || err != nil {
				return err
			}
			continue
		}
		if parts == 0 {
			first = h
		}
		parts++
		message = append(message, payload...)
		if !h.Fin {
			continue
		}
		if first.RSV == rsv1 {
			if message, err = in.Inflate(message); err != nil {
				return err
			}
		}
		if err := s.sendParts(first.Opcode, out.Compress(message), parts); err != nil {
			return err
		}
		parts, message = 0, nil
	}
}

// rsv1 marks a compressed message on its first frame.
const rsv1 = 4

// sendParts sends the payload of a compressed message in so many frames.
func (s *Session) sendParts(op frames.Opcode, payload []byte, parts int) error {
	h := frames.Header{RSV: rsv1, Opcode: op}
	for ; parts > 0; parts-- {
		n := len(payload) / parts
		h.Fin = parts == 1
		if _, err := s.Write(frames.AppendFrame(nil, h, payload[:n])); err != nil {
			return err
		}
		payload = payload[n:]
		h = frames.Header{Opcode: frames.Continuation}
	}
	return nil
}
