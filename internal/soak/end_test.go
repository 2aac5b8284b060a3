package soak

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"framegate/frames"
	"framegate/internal/lab/wire"
)

// A sum stands for a message in the ledgers.
type sum string

func sumOf(message []byte) sum {
	s := sha256.Sum256(message)
	return sum(hex.EncodeToString(s[:]))
}

// An end is one of the two ends of a WebSocket. One goroutine receives; sending
// is for all.
type end struct {
	*tls.Conn
	tcp  *net.TCPConn
	in   *bufio.Reader
	mask bool // it is a client's

	deflate  *wire.Deflater // nil: messages are not compressed
	inflate  wire.Inflater
	noteSent func(sum) // before a message leaves

	mu sync.Mutex
}

// compress is what either side says of compression.
const compress = "permessage-deflate"

// send sends a message in so many frames. In the middle of its bytes it waits
// for the pause.
func (e *end) send(op frames.Opcode, payload []byte, parts int, pause time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := frames.Header{Opcode: op, Masked: e.mask}
	if !op.IsControl() {
		e.noteSent(sumOf(payload))
		if e.deflate != nil {
			payload, h.RSV = e.deflate.Compress(payload), 4
		}
	}
	var b []byte
	for ; parts > 0; parts-- {
		n := len(payload) / parts
		h.Fin = parts == 1
		if e.mask {
			rand.Read(h.Mask[:])
		}
		b = frames.AppendFrame(b, h, payload[:n])
		payload, h.Opcode, h.RSV = payload[n:], frames.Continuation, 0
	}
	if pause > 0 {
		half := len(b) / 2
		if _, err := e.Write(b[:half]); err != nil {
			return err
		}
		time.Sleep(pause)
		b = b[half:]
	}
	_, err := e.Write(b)
	return err
}

// receive returns the next message or control frame.
func (e *end) receive() (op frames.Opcode, payload []byte, err error) {
	var message []byte
	var first frames.Header
	for begun := false; ; {
		h, b, err := wire.ReadFrame(e.in)
		if err != nil || h.Opcode.IsControl() {
			return h.Opcode, b, err
		}
		if !begun {
			first, begun = h, true
		}
		message = append(message, b...)
		if !h.Fin {
			// A control frame between two fragments is answered here.
			if err := e.between(); err != nil {
				return first.Opcode, nil, err
			}
			continue
		}
		if first.RSV != 0 {
			message, err = e.inflate.Inflate(message)
		}
		return first.Opcode, message, err
	}
}

// errControl: nobody here interrupts a message by anything but a ping.
var errControl = errors.New("a control frame other than a ping within a message")

// between answers the pings in front of the next fragment.
func (e *end) between() error {
	for {
		b, err := e.in.Peek(1)
		if err != nil || b[0]&0x08 == 0 {
			return err
		}
		h, payload, err := wire.ReadFrame(e.in)
		if err != nil {
			return err
		}
		if h.Opcode != frames.Ping {
			return errControl
		}
		if err := e.send(frames.Pong, payload, 1, 0); err != nil {
			return err
		}
	}
}

// sendClose sends a Close frame.
func (e *end) sendClose(code frames.Code) {
	e.send(frames.Close, frames.AppendClose(nil, code, ""), 1, 0)
}

// halfClose ends our direction: a close_notify and a FIN.
func (e *end) halfClose() {
	e.CloseWrite()
	e.tcp.CloseWrite()
}

// bye ends our direction, takes what still comes, and closes.
func (e *end) bye() {
	e.halfClose()
	e.SetReadDeadline(time.Now().Add(patience))
	io.Copy(io.Discard, e.in)
	e.Close()
}

// reset breaks the connection off.
func (e *end) reset() {
	e.tcp.SetLinger(0)
	e.tcp.Close()
}

// How a connection ended, seen from one side.
const (
	endEOF     = "end of stream"
	endReset   = "reset"
	endTimeout = "no answer" // never expected

	handshake = "handshake: " // before the end of one that did not get as far as a WebSocket
)

func closedBy(code frames.Code) string { return "close " + strconv.Itoa(int(code)) }

// plain says in one of these words how a connection ended.
func plain(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return endEOF
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return endReset
	case errors.Is(err, os.ErrDeadlineExceeded):
		return endTimeout
	}
	return err.Error()
}
