package mitm

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// A leg is one of the two sides of a connection: the socket, and TLS on it
// unless the connection is plain. One goroutine reads; writers hold mu.
type leg struct {
	wire *wire
	tls  *tls.Conn // nil on a plain connection
	back []byte    // plaintext that was read and put back
	dry  bool      // all that was received has been read; belongs to who reads

	mu     sync.Mutex
	closed bool // a Close frame was sent; nothing may follow (RFC 6455, Section 5.5.1)
	cut    bool // what was sent ends within a frame; only the rest of it may follow
}

// conn is what carries plaintext: TLS, or the socket itself.
func (l *leg) conn() net.Conn {
	if l.tls != nil {
		return l.tls
	}
	return l.wire
}

// Read implements io.Reader.
func (l *leg) Read(p []byte) (int, error) {
	if len(l.back) > 0 {
		n := copy(p, l.back)
		if l.back = l.back[n:]; len(l.back) == 0 {
			l.back = nil
		}
		return n, nil
	}
	if l.dry && !l.wire.nowait {
		// Wait here, and not below crypto/tls: the collector halves the stack of an
		// idle goroutine only if less than a quarter of it is in use.
		l.dry = false
		l.wire.wait()
	}
	return l.conn().Read(p)
}

// unread puts b, which came from this leg, in front of what is still to read.
func (l *leg) unread(b []byte) {
	if len(b) > 0 {
		l.back = append(append(make([]byte, 0, len(b)+len(l.back)), b...), l.back...)
	}
}

// drain reads into b what has been received already, and does not wait.
func (l *leg) drain(b []byte) (n int, err error) {
	l.wire.nowait = true
	defer func() { l.wire.nowait = false }()
	for n < len(b) && err == nil {
		var k int
		k, err = l.Read(b[n:])
		n += k
	}
	if err == error(errWouldBlock{}) {
		l.dry, err = true, nil
	}
	return n, err
}

// Write implements io.Writer.
func (l *leg) Write(p []byte) (int, error) { return l.conn().Write(p) }

// copyTo copies what is read to dst until an error, io.EOF for the end of the
// stream. It holds no buffer while nothing comes.
func (l *leg) copyTo(dst io.Writer) (sum int64, err error) {
	var first [1]byte
	for {
		n, err := l.Read(first[:])
		if n == 0 {
			return sum, err
		}
		b := append(takeBuffer(chunk), first[0])
		if err == nil {
			n, err = l.drain(b[1:cap(b)])
			b = b[:1+n]
		}
		n, werr := dst.Write(b)
		giveBuffer(b)
		if sum += int64(n); werr != nil {
			err = werr
		}
		if err != nil {
			return sum, err
		}
	}
}

// closeWrite ends our direction: close_notify on TLS, then a FIN. A direction
// that ended without a close_notify is carried over without one.
func (l *leg) closeWrite(clean bool) {
	if l.tls != nil && clean {
		l.tls.CloseWrite()
	}
	l.wire.CloseWrite()
}

// close ends the leg. With reset, the peer sees a TCP RST.
func (l *leg) close(reset bool) {
	if reset {
		l.wire.SetLinger(0)
	}
	l.wire.Close()
}

// tlsEnd is how long a client may take to read why it was refused.
const tlsEnd = time.Second

// end closes a leg in good order, with a close_notify, for which crypto/tls
// gives a peer that does not read 5 s.
func (l *leg) end() {
	if l.tls != nil {
		l.tls.CloseWrite()
	}
	l.wire.Close()
}

// wasReset reports whether err means that the peer broke the connection off,
// which is carried over to the other side as such.
func wasReset(err error) bool {
	return wasLost(err) || errors.Is(err, syscall.EPIPE)
}

// wasLost reports whether err means that the connection was broken off without a
// FIN: by the peer, or because nothing reaches it.
func wasLost(err error) bool {
	for _, e := range []error{syscall.ECONNRESET, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isEOF reports whether err, from Read, is the end of the stream, and whether
// it was a clean one: a close_notify under TLS, a FIN without.
func (l *leg) isEOF(err error) (eof, clean bool) {
	if errors.Is(err, io.EOF) {
		return true, l.tls == nil || !l.wire.ended // to crypto/tls a FIN between records is an EOF, too
	}
	return errors.Is(err, io.ErrUnexpectedEOF), false
}

// endWrites ends our direction in good order.
func (l *leg) endWrites() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeWrite(true)
}
