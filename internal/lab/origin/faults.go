package origin

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"slices"
	"strconv"

	"framegate/frames"
)

// Faults lists the names below /fault/, each with what the server does there.
// A fault happens on any request for its path, also without an upgrade.
func Faults() []string {
	var names []string
	for name := range faults {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var faults = map[string]func(*Session) error{
	// 101 with the Sec-WebSocket-Accept of another key.
	"accept": func(s *Session) error {
		s.Request.Header.Set("Sec-WebSocket-Key", "another key")
		return Echo(s)
	},
	// 101 without Sec-WebSocket-Accept.
	"no-accept": func(s *Session) error {
		return s.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	},
	// A right 101, also to a request that did not ask for one.
	"unasked": Echo,
	// 101 to another protocol than the one that was asked for.
	"protocol": func(s *Session) error {
		return s.say(s.plain101("h2c"))
	},
	// 101 with an extension, offered or not.
	"extension": func(s *Session) error {
		if err := s.Switch("Sec-WebSocket-Extensions: x-lab-unknown; level=3"); err != nil {
			return err
		}
		return s.echo()
	},
	// 101 with a subprotocol that was not offered.
	"subprotocol": func(s *Session) error {
		s.Request.Header.Del("Sec-WebSocket-Protocol")
		if err := s.Switch("Sec-WebSocket-Protocol: lab.not.offered"); err != nil {
			return err
		}
		return s.echo()
	},
	// An ordinary refusal: 403 with a body.
	"refuse": func(s *Session) error {
		return s.say("HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\nno.\n")
	},
	// 101 one byte at a time.
	"drip": func(s *Session) error {
		for _, b := range []byte(s.plain101("websocket")) {
			if _, err := s.Write([]byte{b}); err != nil {
				return err
			}
		}
		return s.echo()
	},
	// 101 and the bytes of ?hex= in one write, or those of a text message
	// "early", then as /echo. Legal, as long as the bytes are.
	"early": func(s *Session) error {
		early := frames.AppendFrame(nil, frames.Header{Fin: true, Opcode: frames.Text}, []byte("early"))
		if bytes, err := hex.DecodeString(s.Request.URL.Query().Get("hex")); err == nil && len(bytes) > 0 {
			early = bytes
		}
		if err := s.say(s.plain101("websocket") + string(early)); err != nil {
			return err
		}
		return s.echo()
	},
	// After the first message from the client: the bytes of ?hex=, then as
	// /echo.
	"bytes": afterFirst(func(s *Session) error {
		bytes, err := hex.DecodeString(s.Request.URL.Query().Get("hex"))
		if err != nil {
			return err
		}
		if _, err := s.Write(bytes); err != nil {
			return err
		}
		return s.echo()
	}),
	// After the first message: a masked frame, which Section 5.1 forbids.
	"masked": afterFirst(func(s *Session) error {
		h := frames.Header{Fin: true, Opcode: frames.Text, Masked: true, Mask: [4]byte{1, 2, 3, 4}}
		if _, err := s.Write(frames.AppendFrame(nil, h, []byte("masked"))); err != nil {
			return err
		}
		return s.echo()
	}),
	// After the first message: Close with ?code= and ?reason=, whatever they are.
	"close": afterFirst(func(s *Session) error {
		query := s.Request.URL.Query()
		code, err := strconv.ParseUint(query.Get("code"), 10, 16)
		if err != nil {
			return err
		}
		payload := append(binary.BigEndian.AppendUint16(nil, uint16(code)), query.Get("reason")...)
		if err := s.Send(true, frames.Close, payload); err != nil {
			return err
		}
		for {
			if h, _, err := s.Frame(); err != nil || h.Opcode == frames.Close {
				return err
			}
		}
	}),
	// After the first message: a TCP RST.
	"reset": afterFirst((*Session).Reset),
	// After the first message: the end of the stream without a Close.
	"eof": afterFirst(func(*Session) error { return nil }),
	// After the client has ended its direction without a Close: a text message
	// "late".
	"half-close": func(s *Session) error {
		if err := s.Switch(); err != nil {
			return err
		}
		if err := s.echo(); err != io.EOF {
			return err
		}
		return s.Send(true, frames.Text, []byte("late"))
	},
}

// afterFirst upgrades, waits for one frame and goes on with f.
func afterFirst(f func(*Session) error) func(*Session) error {
	return func(s *Session) error {
		if err := s.Switch(); err != nil {
			return err
		}
		if _, _, err := s.Frame(); err != nil {
			return err
		}
		return f(s)
	}
}

// plain101 is a 101 as a library writes it.
func (s *Session) plain101(protocol string) string {
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: " + protocol +
		"\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + s.Accept() + "\r\n\r\n"
}

func (s *Session) say(text string) error {
	_, err := io.WriteString(s, text)
	return err
}
