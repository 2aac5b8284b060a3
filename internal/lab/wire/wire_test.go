package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"framegate/frames"
)

// A shortConn writes at most three bytes and then fails.
type shortConn struct{ net.Conn }

func (shortConn) Write(b []byte) (int, error) { return min(len(b), 3), io.ErrShortWrite }

func TestTapeHoldsWhatCrossed(t *testing.T) {
	a, b := net.Pipe()
	left, right := Record(a), Record(b)
	go func() {
		io.WriteString(left, "one")
		io.WriteString(left, "two")
		left.Close()
	}()
	right.SetReadDeadline(time.Unix(1, 0))
	if _, err := right.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || right.Ended() != nil {
		t.Errorf("deadline: %v, ended %v", err, right.Ended())
	}
	right.SetReadDeadline(time.Time{})
	if got, err := io.ReadAll(right); string(got) != "onetwo" || err != nil {
		t.Errorf("read %q (%v)", got, err)
	}
	if got := right.Received(); string(got) != "onetwo" || right.Ended() != io.EOF {
		t.Errorf("received %q, ended %v", got, right.Ended())
	}
	if got := left.Sent(); string(got) != "onetwo" {
		t.Errorf("sent %q", got)
	}
	short := Record(shortConn{a})
	if n, err := io.WriteString(short, "abcdef"); n != 3 || err == nil || string(short.Sent()) != "abc" {
		t.Errorf("wrote %d (%v), record %q", n, err, short.Sent())
	}
}

func TestReadFrame(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 70000)
	b := frames.AppendFrame(nil, frames.Header{Fin: true, Opcode: frames.Text, Masked: true, Mask: [4]byte{1, 2, 3, 4}}, []byte("masked"))
	b = frames.AppendFrame(b, frames.Header{RSV: 7, Opcode: 0xf}, long)
	r := bufio.NewReader(bytes.NewReader(b))
	if h, payload, err := ReadFrame(r); !h.Masked || string(payload) != "masked" || err != nil {
		t.Errorf("%+v %q (%v)", h, payload, err)
	}
	if h, payload, err := ReadFrame(r); h.RSV != 7 || h.Fin || !bytes.Equal(payload, long) || err != nil {
		t.Errorf("%+v, %d bytes (%v)", h, len(payload), err)
	}
	if _, _, err := ReadFrame(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for _, bad := range []string{"\x81", "\x81\x02a", "\x81\x7e\x00\x01a", "\x82\x7f\x00\x00\xff\x00\x00\x00\x00\x00"} {
		if h, _, err := ReadFrame(bufio.NewReader(strings.NewReader(bad))); err == nil {
			t.Errorf("%q: %+v", bad, h)
		}
	}
}
