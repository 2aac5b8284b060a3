package wire

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
)

// A Tape is a connection that keeps every byte it carried. Put below TLS it
// records ciphertext, above TLS plaintext. It is safe for concurrent use like
// the connection itself; only concurrent writers have to agree among themselves.
type Tape struct {
	net.Conn

	mu       sync.Mutex
	received []byte
	sent     []byte
	ended    error
}

// Record returns a recording connection over c, which it then owns.
func Record(c net.Conn) *Tape { return &Tape{Conn: c} }

// Read reads and records.
func (t *Tape) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received = append(t.received, b[:n]...)
	if err != nil && t.ended == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.ended = err
	}
	return n, err
}

// Write records and writes. The record comes first, so that whoever has read
// the bytes at the other end finds them in it.
func (t *Tape) Write(b []byte) (int, error) {
	t.mu.Lock()
	start := len(t.sent)
	t.sent = append(t.sent, b...)
	t.mu.Unlock()
	n, err := t.Conn.Write(b)
	if n < len(b) {
		t.mu.Lock()
		t.sent = slices.Delete(t.sent, start+n, start+len(b))
		t.mu.Unlock()
	}
	return n, err
}

// Received returns a copy of what was read so far.
func (t *Tape) Received() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.received)
}

// Sent returns a copy of what was written so far.
func (t *Tape) Sent() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.sent)
}

// Ended returns the first error of a Read, io.EOF for an orderly end, or nil.
// A deadline ends nothing.
func (t *Tape) Ended() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}
