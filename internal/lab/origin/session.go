package origin

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"

	"framegate/examples/traffic"
	"framegate/frames"
	"framegate/internal/lab/wire"
)

// A Session is a connection on which an upgrade was asked for. It checks next
// to nothing: what arrives is what the test wants to see.
type Session struct {
	*Conn
	Request *http.Request
	Head    []byte // the request's head as received
	Reply   []byte // what Switch sent

	r *bufio.Reader
}

// Accept returns the right value of Sec-WebSocket-Accept (RFC 6455, Section
// 4.2.2).
func (s *Session) Accept() string {
	sum := sha1.Sum([]byte(s.Request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Switch sends a 101 that is right, but not as a library would write it: order,
// case, spacing and a doubled header have to survive on the way to the client.
// The first subprotocol that the client offered is chosen. more are further
// header lines.
func (s *Session) Switch(more ...string) error {
	lines := []string{
		"HTTP/1.1 101 Switching Protocols",
		"date:  Sun, 06 Nov 1994 08:49:37 GMT ",
		"Upgrade:WebSocket",
		"set-cookie: first=1; Path=/",
		"X-Lab: \todd\t spacing",
		"CONNECTION: upgrade",
		"Set-Cookie: second=2; Path=/",
		"sec-websocket-ACCEPT: " + s.Accept(),
	}
	if offered, _, _ := strings.Cut(s.Request.Header.Get("Sec-WebSocket-Protocol"), ","); offered != "" {
		lines = append(lines, "Sec-WebSocket-Protocol: "+strings.TrimSpace(offered))
	}
	s.Reply = []byte(strings.Join(append(lines, more...), "\r\n") + "\r\n\r\n")
	_, err := s.Write(s.Reply)
	return err
}

// Frame reads one frame and returns its payload unmasked.
func (s *Session) Frame() (frames.Header, []byte, error) { return wire.ReadFrame(s.r) }

// Send sends one frame, not masked.
func (s *Session) Send(fin bool, op frames.Opcode, payload []byte) error {
	_, err := s.Write(frames.AppendFrame(nil, frames.Header{Fin: fin, Opcode: op}, payload))
	return err
}

// Echo upgrades the connection and sends every frame back with the fragmentation
// that it came with. It answers Ping and Close as Sections 5.5.1 and 5.5.2 of
// RFC 6455 demand.
func Echo(s *Session) error {
	if err := s.Switch(); err != nil {
		return err
	}
	return s.echo()
}

func (s *Session) echo() error {
	for {
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
		h.Masked, h.Mask = false, [4]byte{}
		if _, err := s.Write(frames.AppendFrame(nil, h, payload)); err != nil {
			return err
		}
	}
}

// control answers a Ping and a Close. After a Close all is said.
func (s *Session) control(op frames.Opcode, payload []byte) (done bool, err error) {
	switch op {
	case frames.Close:
		return true, s.Send(true, frames.Close, payload)
	case frames.Ping:
		return false, s.Send(true, frames.Pong, payload)
	}
	return false, nil
}

// head sends back both heads, as they were on the connection.
func head(s *Session) error {
	if err := s.Switch(); err != nil {
		return err
	}
	for _, b := range [][]byte{s.Head, s.Reply} {
		if err := s.Send(true, frames.Binary, b); err != nil {
			return err
		}
	}
	return s.echo()
}

// replay plays the server's part of a recorded connection without a pause, and
// takes whatever the client sends meanwhile. A recorded Close waits for the
// client's, if the client was the first to close.
func replay(s *Session) error {
	messages, err := traffic.Load(s.Request.URL.Query().Get("set"))
	if err != nil {
		return s.say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}
	var script [][]byte
	var goodbye []byte
	for _, m := range messages {
		if m.Direction == frames.ToClient && m.Opcode == frames.Close {
			goodbye = m.Append(nil, nil)
		} else if m.Direction == frames.ToClient {
			script = append(script, m.Append(nil, nil))
		}
	}
	first := slices.IndexFunc(messages, func(m traffic.Message) bool { return m.Opcode == frames.Close })
	weClose := first >= 0 && messages[first].Direction == frames.ToClient
	if weClose {
		script = append(script, goodbye)
	}
	if err := s.Switch(); err != nil {
		return err
	}

	var playing sync.WaitGroup
	defer playing.Wait()
	playing.Go(func() {
		for _, b := range script {
			if _, err := s.Write(b); err != nil {
				return
			}
		}
	})
	for {
		h, payload, err := s.Frame()
		if err != nil || h.Opcode == frames.Close && weClose {
			return err
		}
		if h.Opcode != frames.Close {
			continue
		}
		playing.Wait()
		if goodbye != nil {
			_, err = s.Write(goodbye)
			return err
		}
		return s.Send(true, frames.Close, payload)
	}
}
