package frames

import (
	"errors"
	"math"
	"testing"
)

func TestHeaderRoundTrip(t *testing.T) {
	key := [4]byte{0xde, 0xad, 0xbe, 0xef}
	tests := []struct {
		h    Header
		wire string
	}{
		// The examples of Section 5.7, then the edges of the length.
		{Header{Fin: true, Opcode: Text, Length: 5}, "\x81\x05"},
		{Header{Fin: true, Opcode: Text, Masked: true, Mask: [4]byte{0x37, 0xfa, 0x21, 0x3d}, Length: 5}, "\x81\x85\x37\xfa\x21\x3d"},
		{Header{Opcode: Text, Length: 3}, "\x01\x03"},
		{Header{Fin: true, Opcode: Continuation, Length: 2}, "\x80\x02"},
		{Header{Fin: true, Opcode: Binary, Length: 256}, "\x82\x7e\x01\x00"},
		{Header{Fin: true, Opcode: Binary, Length: 65536}, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
		{Header{}, "\x00\x00"},
		{Header{Fin: true, RSV: 7, Opcode: 15, Masked: true, Length: 125}, "\xff\xfd\x00\x00\x00\x00"},
		{Header{RSV: 4, Opcode: Text, Length: 126}, "\x41\x7e\x00\x7e"},
		{Header{RSV: 2, Opcode: Text, Length: 65535}, "\x21\x7e\xff\xff"},
		{Header{RSV: 1, Opcode: Text, Masked: true, Mask: key, Length: 65535}, "\x11\xfe\xff\xff\xde\xad\xbe\xef"},
		{Header{Opcode: Ping, Masked: true, Mask: key, Length: math.MaxInt64}, "\x09\xff\x7f\xff\xff\xff\xff\xff\xff\xff\xde\xad\xbe\xef"},
	}
	for _, tt := range tests {
		if got := tt.h.Append([]byte("before")); string(got) != "before"+tt.wire {
			t.Errorf("%+v appended % x, want % x", tt.h, got, tt.wire)
		}
		b := []byte(tt.wire + "payload")
		if h, n, err := ConsumeHeader(b); h != tt.h || n != len(tt.wire) || err != nil {
			t.Errorf("% x gave %+v, %d, %v", tt.wire, h, n, err)
		}
		for i := range tt.wire {
			if h, n, err := ConsumeHeader(b[:i]); h != (Header{}) || n != 0 || err != nil {
				t.Errorf("% x gave %+v, %d, %v", b[:i], h, n, err)
			}
		}
	}
}

func TestHeaderBadLength(t *testing.T) {
	for _, wire := range []string{
		"\x81\x7e\x00\x00", "\x81\x7e\x00\x7d", "\x81\xfe\x00\x7d\x01\x02\x03\x04",
		"\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x00", "\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
		"\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04",
	} {
		_, n, err := ConsumeHeader([]byte(wire + "more"))
		var e *ProtocolError
		if n != 0 || !errors.As(err, &e) || e.Code != ProtocolErrorCode || e.Section != "RFC 6455, Section 5.2" || string(e.Header) != wire {
			t.Errorf("% x gave %d, %+v", wire, n, err)
		}
	}
}

func TestAppendFrame(t *testing.T) {
	payload := []byte("Hello")
	h := Header{Fin: true, Opcode: Text, Masked: true, Mask: [4]byte{0x37, 0xfa, 0x21, 0x3d}, Length: 99}
	// The masked text message of Section 5.7.
	want := []byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
	if got := AppendFrame([]byte("ab"), h, payload); string(got) != "ab"+string(want) || string(payload) != "Hello" {
		t.Errorf("got % x, payload %q", got, payload)
	}
	h.Masked = false
	if got := AppendFrame(nil, h, payload); string(got) != "\x81\x05Hello" {
		t.Errorf("got % x", got)
	}
}

func TestProtocolErrorText(t *testing.T) {
	_, _, err := NewReader(ToServer, 10).Next([]byte{0x81, 0x02, 'h', 'i'})
	if want := "protocol error 1002: frame from the client is not masked (RFC 6455, Section 5.1)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
