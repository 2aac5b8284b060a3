package mitm

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// chunk is what one read takes from a socket and one write gives to it: four
// full TLS records, which is where larger reads stop paying.
const chunk = 64 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// A wire is a TCP socket as crypto/tls sees it, with system calls in bulk.
//
// Reading waits without holding a buffer, then takes all that the socket has;
// with nowait, Read hands out only what was taken already and then fails with
// errWouldBlock, which crypto/tls does not make sticky because it is temporary.
// Writing with gather keeps what is written until flush.
//
// The reading fields belong to the goroutine that reads.
type wire struct {
	tcpConn
	raw   syscall.RawConn
	ready func(fd uintptr) bool // fillOnce, bound once

	nowait bool
	ahead  []byte       // received, not yet read
	store  *[chunk]byte // what ahead lies in, unless it was unread
	into   []byte       // where fillOnce reads to; nil: a chunk from the pool
	n      int
	err    error
	fault  error  // what wait had in place of bytes; not yet read
	ended  bool   // a FIN was read
	tail   []byte // the last bytes read, of a handshake; nil: they are not kept

	mu     sync.Mutex // crypto/tls writes on its own account, too: a KeyUpdate is answered while reading
	gather bool
	out    []byte // written, not yet sent; lies in outBuf
	outBuf *[chunk]byte
	broken error // of a write, of which a part may have been sent: nothing can follow it
}

// A tcpConn is a *net.TCPConn, or in a test something that waits in virtual time.
type tcpConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
	SetLinger(sec int) error
}

func newWire(c tcpConn) (*wire, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &wire{tcpConn: c, raw: raw}
	w.ready = w.fillOnce
	return w, nil
}

// fillOnce makes one read(2) and reports whether it had an outcome.
func (w *wire) fillOnce(fd uintptr) bool {
	b := w.into
	if b == nil {
		if w.store == nil {
			w.store = chunks.Get().(*[chunk]byte)
		}
		b = w.store[:]
	}
	for {
		w.n, w.err = syscall.Read(int(fd), b)
		if w.err != syscall.EINTR {
			break
		}
	}
	if w.err == syscall.EAGAIN {
		w.release()
		return false
	}
	return true
}

func (w *wire) release() {
	if w.store != nil {
		chunks.Put(w.store)
		w.store = nil
	}
}

// wait waits until Read has something to hand out, bytes or an error.
func (w *wire) wait() {
	if len(w.ahead) > 0 || w.fault != nil {
		return
	}
	if w.fault = w.receive(); w.fault == nil {
		w.ahead = w.store[:w.n]
	}
}

// receive waits for one read that has an outcome; the end of the stream is io.EOF.
func (w *wire) receive() error {
	if err := w.raw.Read(w.ready); err != nil {
		w.release()
		return err
	}
	if w.err != nil || w.n == 0 {
		w.release()
		return w.ending()
	}
	return nil
}

// ending is what the last read says when it had no bytes.
func (w *wire) ending() error {
	if w.err != nil {
		return &net.OpError{Op: "read", Net: "tcp", Source: w.LocalAddr(), Addr: w.RemoteAddr(), Err: w.err}
	}
	if err := w.lost(); err != nil {
		return err
	}
	return io.EOF
}

// lost returns how the connection broke, if it was a write that the system told of
// it: it does so once, and to whoever reads afterwards the stream has ended.
func (w *wire) lost() error {
	gone := false
	w.raw.Control(func(fd uintptr) {
		_, err := syscall.Getpeername(int(fd))
		gone = err == syscall.ENOTCONN
	})
	if !gone {
		return nil
	}
	w.mu.Lock() // of a write that is about to say it
	defer w.mu.Unlock()
	if wasLost(w.broken) {
		return w.broken
	}
	return nil
}

// Read implements io.Reader.
func (w *wire) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(w.ahead) == 0 && w.fault == nil {
		if w.nowait {
			return 0, errWouldBlock{}
		}
		if len(p) >= chunk/2 {
			w.into = p
			w.fault = w.receive()
			w.into = nil
			if w.fault == nil {
				w.keepTail(p[:w.n])
				return w.n, nil
			}
		}
		w.wait()
	}
	if len(w.ahead) == 0 {
		err := w.fault
		w.fault = nil
		w.ended = w.ended || err == io.EOF
		return 0, err
	}
	n := copy(p, w.ahead)
	w.keepTail(p[:n])
	if w.ahead = w.ahead[n:]; len(w.ahead) == 0 {
		w.ahead = nil
		w.release()
	}
	return n, nil
}

// unread puts b, which came from this wire, in front of what is still to read.
func (w *wire) unread(b []byte) {
	if len(b) == 0 {
		return
	}
	w.ahead = append(append(make([]byte, 0, len(b)+len(w.ahead)), b...), w.ahead...)
	w.release()
}

// Write implements io.Writer.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.gather {
		return w.write(p)
	}
	if len(w.out)+len(p) > chunk {
		if err := w.send(); err != nil {
			return 0, err
		}
		if len(p) >= chunk {
			return w.write(p)
		}
	}
	if w.outBuf == nil {
		w.outBuf = chunks.Get().(*[chunk]byte)
		w.out = w.outBuf[:0]
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// hold makes Write gather until flush.
func (w *wire) hold() {
	w.mu.Lock()
	w.gather = true
	w.mu.Unlock()
}

// flush sends what was gathered, and ends the gathering.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gather = false
	return w.send()
}

func (w *wire) send() error {
	if w.outBuf == nil {
		return nil
	}
	_, err := w.write(w.out)
	chunks.Put(w.outBuf)
	w.out, w.outBuf = nil, nil
	return err
}

func (w *wire) write(p []byte) (n int, err error) {
	if w.broken == nil {
		n, w.broken = w.tcpConn.Write(p)
	}
	return n, w.broken
}

// ReadFrom and WriteTo hide those of a TCPConn, which would pass by what was
// read ahead and gathered.
func (w *wire) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, r)
}

// WriteTo implements io.WriterTo.
func (w *wire) WriteTo(dst io.Writer) (int64, error) {
	return io.Copy(dst, struct{ io.Reader }{w})
}

// errWouldBlock says that nothing more was received yet.
type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "nothing more was received yet" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }
