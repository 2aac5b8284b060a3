package mitm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"framegate/frames"
)

// What is gathered leaves with flush, in order and in few writes, and what is
// too much to gather does not overtake it.
func TestWireGather(t *testing.T) {
	client, _, gw := pipe(t)
	w := gw[0]
	write := func(s string) {
		if n, err := io.WriteString(w, s); n != len(s) || err != nil {
			t.Fatalf("wrote %d of %d bytes: %v", n, len(s), err)
		}
	}
	write("now")
	client.expect("now")
	w.hold()
	write("a")
	write("b")
	if string(w.out) != "ab" {
		t.Fatalf("gathered %q", w.out)
	}
	big := strings.Repeat("c", chunk)
	write(big) // sends what was gathered, then itself
	if w.outBuf != nil {
		t.Fatal("a buffer is held with nothing in it")
	}
	client.expect("ab" + big)
	most := big[:chunk-1]
	write(most)
	write("d")
	if len(w.out) != chunk {
		t.Fatalf("%d bytes are gathered, want a full buffer", len(w.out))
	}
	write("e")
	client.expect(most + "d")
	if err := w.flush(); err != nil || w.outBuf != nil {
		t.Fatalf("after flush: %v, buffer held: %v", err, w.outBuf != nil)
	}
	client.expect("e")
	write("at once again")
	client.expect("at once again")
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
}

// What wait has found is what Read hands out next, without waiting: bytes, the end
// of the stream, or an error, which is said once.
func TestWireWait(t *testing.T) {
	client, _, gw := pipe(t)
	w := gw[0]
	read := func(want string, wantErr error) {
		t.Helper()
		var b [8]byte
		n, err := w.Read(b[:])
		if string(b[:n]) != want || !errors.Is(err, wantErr) {
			t.Fatalf("read %q (%v), want %q (%v)", b[:n], err, want, wantErr)
		}
	}
	w.SetReadDeadline(time.Unix(1, 0))
	w.wait()
	w.SetReadDeadline(time.Time{})
	w.nowait = true
	read("", os.ErrDeadlineExceeded)
	read("", errWouldBlock{})
	client.send("here")
	w.wait()
	w.wait() // no more is taken while that is unread
	read("here", nil)
	if w.store != nil {
		t.Fatal("a buffer is held with nothing in it")
	}
	client.closeWrite()
	w.wait()
	if w.ended {
		t.Fatal("the end counts before it is read")
	}
	read("", io.EOF)
	if !w.ended || w.store != nil {
		t.Fatalf("ended %v, buffer held %v", w.ended, w.store != nil)
	}
}

// The system says once how a connection broke. If a write was told, to a read it is
// no end of the stream all the same; a FIN that came before is one.
func TestWireLost(t *testing.T) {
	for _, c := range []struct {
		name string
		fin  bool
		want error
	}{{"reset", false, syscall.ECONNRESET}, {"closed, then reset", true, io.EOF}} {
		t.Run(c.name, func(t *testing.T) {
			client, _, gw := pipe(t)
			w := gw[0]
			if c.fin {
				client.closeWrite() // and what it gets unread after that resets
			} else {
				client.tcp.SetLinger(0)
			}
			client.Close()
			var wrote error
			if !settles(func() bool { _, wrote = w.Write([]byte("x")); return wrote != nil }) {
				t.Fatal("writes go on")
			}
			if _, err := w.Read(make([]byte, 1)); !errors.Is(err, c.want) {
				t.Errorf("after %v, read fails with %v, want %v", wrote, err, c.want)
			}
		})
	}
}

// After a write that broke off, which may have sent a part of a record,
// nothing else is sent.
func TestWireBroken(t *testing.T) {
	client, _, gw := pipe(t)
	w := gw[0]
	w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	part, err := io.Copy(w, io.LimitReader(repeat('x'), 1<<30))
	if !isTimeout(err) {
		t.Fatalf("%v, want a timeout", err)
	}
	w.SetWriteDeadline(time.Time{})
	for range 2 {
		if n, err := io.WriteString(w, "y"); n != 0 || !isTimeout(err) {
			t.Fatalf("wrote %d bytes (%v)", n, err)
		}
		w.hold()
		io.WriteString(w, "y")
		if err := w.flush(); !isTimeout(err) {
			t.Fatalf("flush: %v", err)
		}
	}
	w.CloseWrite()
	got, err := io.ReadAll(client)
	if err != nil || int64(len(got)) < part || bytes.ContainsRune(got, 'y') {
		t.Errorf("read %d bytes of at least %d (%v)", len(got), part, err)
	}
}

type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

// With nowait, reading gives out what was taken before, and then fails in a
// way that it can go on after.
func TestWireNowait(t *testing.T) {
	client, _, gw := pipe(t)
	w := gw[0]
	for _, size := range []int{1, 2, 100, chunk / 2, chunk} {
		client.send("abcdef")
		b := make([]byte, size)
		n, err := w.Read(b) // waits for the first bytes
		got := string(b[:n])
		if err != nil || n == 0 {
			t.Fatalf("%d: %v", n, err)
		}
		w.nowait = true
		for err == nil {
			n, err = w.Read(b)
			got += string(b[:n])
		}
		if n != 0 || err != (errWouldBlock{}) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		w.nowait = false
		if w.store != nil || w.ahead != nil || w.into != nil {
			t.Fatal("a buffer is held")
		}
		w.unread([]byte("def"))
		w.unread([]byte("abc"))
		w.unread(nil)
		w.nowait = true
		if n, err := io.ReadFull(w, make([]byte, 6)); n != 6 || err != nil {
			t.Fatalf("read %d bytes of what was put back: %v", n, err)
		}
		w.nowait = false
		if rest := 6 - len(got); rest > 0 { // if the six came in pieces
			io.ReadFull(w, make([]byte, rest))
		}
	}
	if n, err := w.Read(nil); n != 0 || err != nil {
		t.Errorf("empty read: %d, %v", n, err)
	}
}

// What is put back comes before what was received, and takes no pooled buffer.
func TestWireUnread(t *testing.T) {
	client, _, gw := pipe(t)
	w := gw[0]
	client.send("defghi")
	b := make([]byte, 2)
	if _, err := io.ReadFull(w, b); err != nil {
		t.Fatal(err)
	}
	w.unread(append([]byte("abc"), b...))
	if w.store != nil {
		t.Error("a buffer is held")
	}
	client.tcp.CloseWrite()
	var all bytes.Buffer
	if n, err := w.WriteTo(&all); err != nil || n != 9 || all.String() != "abcdefghi" {
		t.Errorf("read %q (%v)", all.String(), err)
	}
}

// A deadline that ends a read into the caller's buffer leaves nothing of it
// behind.
func TestWireDeadline(t *testing.T) {
	client, _, gw := pipe(t)
	w := gw[0]
	for _, size := range []int{1, chunk} {
		w.SetReadDeadline(time.Unix(1, 0))
		if _, err := w.Read(make([]byte, size)); !isTimeout(err) {
			t.Fatalf("%v, want a timeout", err)
		}
		if w.into != nil || w.store != nil || w.ended {
			t.Error("a buffer is held")
		}
	}
	w.SetReadDeadline(time.Time{})
	client.send("after")
	client.tcp.CloseWrite()
	var all bytes.Buffer
	if _, err := w.WriteTo(&all); err != nil || all.String() != "after" {
		t.Errorf("read %q (%v)", all.String(), err)
	}
	if _, err := w.Read(make([]byte, 1)); err != io.EOF || !w.ended {
		t.Errorf("%v, want the end", err)
	}
}

// A rekeyer writes the records of one peer of a TLS 1.3 connection and changes
// keys as it likes, which crypto/tls never does on its own account.
type rekeyer struct {
	io.Writer
	hash   func() hash.Hash
	size   int // of the key
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// newRekeyer takes over writing from a connection that has written nothing
// since its handshake, whose secrets are in log by this label.
func newRekeyer(t *testing.T, c *tls.Conn, log, label string) *rekeyer {
	t.Helper()
	r := &rekeyer{Writer: c.NetConn(), hash: sha256.New, size: 16}
	switch suite := c.ConnectionState().CipherSuite; suite {
	case tls.TLS_AES_128_GCM_SHA256:
	case tls.TLS_AES_256_GCM_SHA384:
		r.hash, r.size = sha512.New384, 32
	default:
		t.Skipf("no standard package has %s, which this machine prefers", tls.CipherSuiteName(suite))
	}
	for line := range strings.Lines(log) {
		if f := strings.Fields(line); f[0] == label {
			r.secret, _ = hex.DecodeString(f[2])
		}
	}
	if r.secret == nil {
		t.Fatalf("no %s", label)
	}
	r.rekey()
	return r
}

// expand is HKDF-Expand-Label (RFC 8446, Section 7.1).
func (r *rekeyer) expand(label string, n int) []byte {
	info := string(binary.BigEndian.AppendUint16(nil, uint16(n))) + string(rune(6+len(label))) + "tls13 " + label + "\x00"
	b, err := hkdf.Expand(r.hash, r.secret, info, n)
	if err != nil {
		panic(err)
	}
	return b
}

func (r *rekeyer) rekey() {
	block, err := aes.NewCipher(r.expand("key", r.size))
	if err == nil {
		r.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic(err)
	}
	r.iv, r.seq = r.expand("iv", 12), 0
}

// record writes one record (RFC 8446, Section 5.2).
func (r *rekeyer) record(kind byte, b string) error {
	head := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(b)+1+16))
	nonce := bytes.Clone(r.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(r.seq >> (56 - 8*i))
	}
	r.seq++
	_, err := r.Write(r.aead.Seal(head, nonce, append([]byte(b), kind), head))
	return err
}

// update changes the key, and asks the other side to do so (Section 4.6.3).
func (r *rekeyer) update() error {
	err := r.record(22, "\x18\x00\x00\x01\x01")
	r.secret = r.expand("traffic upd", r.hash().Size())
	r.rekey()
	return err
}

// Both peers change keys all the time, and each change is answered on the way
// on which the other's messages go out at that moment.
func TestWireKeyUpdate(t *testing.T) {
	h := newHop(t, false)
	var logs [2]bytes.Buffer
	client, server := serverSecrets()
	client, server = client.Clone(), server.Clone()
	server.SessionTicketsDisabled = true // or the server has written something
	peers := [2]*tls.Config{client.Clone(), server.Clone()}
	for i := range peers {
		peers[i].KeyLogWriter = &logs[i]
	}
	h.withTLS(t, client, server, peers)
	ended := h.start()
	// Either side is let get ahead by a few changes only: crypto/tls takes 16
	// without data between them.
	const messages, every, ahead = 2000, 7, 50
	windows := [2]chan bool{make(chan bool, ahead), make(chan bool, ahead)}
	var moving sync.WaitGroup
	for dir, p := range []*peer{h.client, h.server} {
		to := []*peer{h.server, h.client}[dir]
		label := []string{"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}[dir]
		w := newRekeyer(t, p.Conn.(*tls.Conn), logs[dir].String(), label)
		moving.Go(func() {
			for i := range messages {
				windows[dir] <- true
				err := w.record(23, p.frame(frames.Text, fmt.Sprint("message ", i)))
				if err == nil && i%every == 0 {
					err = w.update()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
		moving.Go(func() {
			for i := range messages {
				_, payload, _, err := readFrame(to)
				if err != nil || payload != fmt.Sprint("message ", i) {
					t.Errorf("%v: message %d is %q (%v)", p.dir, i, payload, err)
					to.reset()
				}
				<-windows[1-dir]
			}
		})
	}
	moving.Wait()
	h.client.reset()
	h.server.reset()
	<-ended
}
