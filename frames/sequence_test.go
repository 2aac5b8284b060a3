package frames

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// Every MUST of Sections 5.1 to 5.6 and 7.4 that a receiver can see, with the
// stream that breaks it and its lawful neighbour.
func TestMusts(t *testing.T) {
	join := func(frames ...[]byte) []byte { return slices.Concat(frames...) }
	key := [4]byte{1, 2, 3, 4}
	tests := []struct {
		must    string
		dir     Direction
		good    []byte // read without an error
		bad     []byte // read with one, in its last frame
		code    Code
		section string
		reason  string
	}{{
		must: "a client masks", dir: ToServer,
		good: AppendFrame(nil, Header{Fin: true, Opcode: Text, Masked: true, Mask: key}, []byte("hi")),
		bad:  AppendFrame(nil, Header{Fin: true, Opcode: Text}, []byte("hi")),
		code: 1002, section: "5.1", reason: "frame from the client is not masked",
	}, {
		must: "a client masks control frames", dir: ToServer,
		good: AppendFrame(nil, Header{Fin: true, Opcode: Ping, Masked: true, Mask: key}, nil),
		bad:  AppendFrame(nil, Header{Fin: true, Opcode: Ping}, nil),
		code: 1002, section: "5.1", reason: "frame from the client is not masked",
	}, {
		must: "a key of zero is a mask", dir: ToServer,
		good: AppendFrame(nil, Header{Fin: true, Opcode: Text, Masked: true}, []byte("hi")),
		bad:  AppendFrame(nil, Header{Fin: true, Opcode: Text}, []byte("hi")),
		code: 1002, section: "5.1", reason: "frame from the client is not masked",
	}, {
		must: "a server does not mask", dir: ToClient,
		good: AppendFrame(nil, Header{Fin: true, Opcode: Text}, []byte("hi")),
		bad:  AppendFrame(nil, Header{Fin: true, Opcode: Text, Masked: true, Mask: key}, []byte("hi")),
		code: 1002, section: "5.1", reason: "frame from the server is masked",
	}, {
		must: "RSV1 is 0", dir: ToClient,
		good: []byte{0x81, 0},
		bad:  []byte{0xc1, 0},
		code: 1002, section: "5.2", reason: "reserved bits 100 without an extension",
	}, {
		must: "RSV2 is 0", dir: ToClient,
		good: []byte{0x89, 0},
		bad:  []byte{0xa9, 0},
		code: 1002, section: "5.2", reason: "reserved bits 010 without an extension",
	}, {
		must: "RSV3 is 0", dir: ToClient,
		good: join([]byte{0x01, 0}, []byte{0x80, 0}),
		bad:  join([]byte{0x01, 0}, []byte{0x90, 0}),
		code: 1002, section: "5.2", reason: "reserved bits 001 without an extension",
	}, {
		must: "opcode 0x3 is reserved", dir: ToClient,
		good: []byte{0x82, 0},
		bad:  []byte{0x83, 0},
		code: 1002, section: "5.2", reason: "reserved opcode 0x3",
	}, {
		must: "opcode 0x7 is reserved, also inside a message", dir: ToClient,
		good: join([]byte{0x01, 0}, []byte{0x80, 0}),
		bad:  join([]byte{0x01, 0}, []byte{0x87, 0}),
		code: 1002, section: "5.2", reason: "reserved opcode 0x7",
	}, {
		must: "opcode 0xb is reserved", dir: ToClient,
		good: []byte{0x8a, 0},
		bad:  []byte{0x8b, 0},
		code: 1002, section: "5.2", reason: "reserved opcode 0xb",
	}, {
		must: "opcode 0xf is reserved", dir: ToClient,
		good: []byte{0x88, 0},
		bad:  []byte{0x8f, 0},
		code: 1002, section: "5.2", reason: "reserved opcode 0xf",
	}, {
		must: "16-bit length is minimal", dir: ToClient,
		good: append([]byte{0x82, 126, 0, 126}, make([]byte, 126)...),
		bad:  []byte{0x82, 126, 0, 125},
		code: 1002, section: "5.2", reason: "length 125 not encoded in the minimal number of bytes",
	}, {
		must: "64-bit length is minimal", dir: ToClient,
		good: append([]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}, make([]byte, 1<<16)...),
		bad:  []byte{0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff},
		code: 1002, section: "5.2", reason: "length 65535 not encoded in the minimal number of bytes",
	}, {
		must: "top bit of a 64-bit length is 0", dir: ToClient,
		good: append([]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}, make([]byte, 1<<16)...),
		bad:  []byte{0x82, 127, 0x80, 0, 0, 0, 0, 1, 0, 0},
		code: 1002, section: "5.2", reason: "most significant bit of a 64-bit length is set",
	}, {
		must: "no continuation outside a message", dir: ToServer,
		good: join(frame(ToServer, Text, false, "a"), frame(ToServer, Continuation, true, "b")),
		bad:  frame(ToServer, Continuation, true, "b"),
		code: 1002, section: "5.4", reason: "continuation frame outside a fragmented message",
	}, {
		must: "no continuation after the last fragment", dir: ToServer,
		good: join(frame(ToServer, Text, false, "a"), frame(ToServer, Continuation, true, "b"), frame(ToServer, Text, true, "")),
		bad:  join(frame(ToServer, Text, false, "a"), frame(ToServer, Continuation, true, "b"), frame(ToServer, Continuation, true, "")),
		code: 1002, section: "5.4", reason: "continuation frame outside a fragmented message",
	}, {
		must: "no message inside another", dir: ToServer,
		good: join(frame(ToServer, Text, false, "a"), frame(ToServer, Continuation, false, "b"), frame(ToServer, Continuation, true, "")),
		bad:  join(frame(ToServer, Text, false, "a"), frame(ToServer, Continuation, false, "b"), frame(ToServer, Binary, true, "")),
		code: 1002, section: "5.4", reason: "binary frame inside a fragmented message",
	}, {
		must: "control frames do not end a fragmented message", dir: ToServer,
		good: join(frame(ToServer, Text, false, "a"), frame(ToServer, Pong, true, ""), frame(ToServer, Continuation, true, "b")),
		bad:  join(frame(ToServer, Text, false, "a"), frame(ToServer, Pong, true, ""), frame(ToServer, Text, false, "b")),
		code: 1002, section: "5.4", reason: "text frame inside a fragmented message",
	}, {
		must: "control payload of 125 bytes", dir: ToServer,
		good: frame(ToServer, Ping, true, strings.Repeat("p", 125)),
		bad:  frame(ToServer, Ping, true, strings.Repeat("p", 126)),
		code: 1002, section: "5.5", reason: "ping frame with a payload of 126 bytes, over 125",
	}, {
		must: "control frames are not fragmented", dir: ToServer,
		good: frame(ToServer, Pong, true, ""),
		bad:  frame(ToServer, Pong, false, ""),
		code: 1002, section: "5.5", reason: "fragmented pong frame",
	}, {
		must: "no data after Close", dir: ToServer,
		good: join(frame(ToServer, Text, true, ""), frame(ToServer, Close, true, "\x03\xe8bye")),
		bad:  join(frame(ToServer, Close, true, "\x03\xe8bye"), frame(ToServer, Text, true, "")),
		code: 1002, section: "5.5.1", reason: "text frame after a close frame",
	}, {
		must: "nothing after Close", dir: ToClient,
		good: join(frame(ToClient, Pong, true, ""), frame(ToClient, Close, true, "")),
		bad:  join(frame(ToClient, Close, true, ""), frame(ToClient, Close, true, "")),
		code: 1002, section: "5.5.1", reason: "close frame after a close frame",
	}, {
		must: "no rest of a message after Close", dir: ToClient,
		good: join(frame(ToClient, Text, false, "a"), frame(ToClient, Close, true, "")),
		bad:  join(frame(ToClient, Text, false, "a"), frame(ToClient, Close, true, ""), frame(ToClient, Continuation, true, "")),
		code: 1002, section: "5.5.1", reason: "continuation frame after a close frame",
	}, {
		must: "a close payload has two bytes or none", dir: ToServer,
		good: frame(ToServer, Close, true, "\x03\xe8"),
		bad:  frame(ToServer, Close, true, "\x03"),
		code: 1002, section: "5.5.1", reason: "close frame with a payload of 1 byte",
	}, {
		must: "a close code is one that may be sent", dir: ToServer,
		good: frame(ToServer, Close, true, "\x03\xef"),
		bad:  frame(ToServer, Close, true, "\x03\xee"),
		code: 1002, section: "7.4", reason: "close code 1006 may not be sent",
	}, {
		must: "a close reason is UTF-8", dir: ToServer,
		good: frame(ToServer, Close, true, "\x03\xe8\xc3\xa9"),
		bad:  frame(ToServer, Close, true, "\x03\xe8\xc3"),
		code: 1007, section: "8.1", reason: "close reason is not UTF-8",
	}, {
		must: "text is UTF-8", dir: ToServer,
		good: frame(ToServer, Binary, true, "\xff"),
		bad:  frame(ToServer, Text, true, "\xff"),
		code: 1007, section: "5.6", reason: "text message is not UTF-8",
	}, {
		must: "fragmented text is UTF-8", dir: ToServer,
		good: join(frame(ToServer, Text, false, "\xc3"), frame(ToServer, Continuation, true, "\xa9")),
		bad:  join(frame(ToServer, Text, false, "\xc3"), frame(ToServer, Continuation, true, "")),
		code: 1007, section: "5.6", reason: "text message is not UTF-8",
	}}
	for _, tt := range tests {
		t.Run(tt.must, func(t *testing.T) {
			for name, step := range map[string]func() int{"at once": atOnce, "byte by byte": one} {
				if o := read(t, NewReader(tt.dir, 1<<20), tt.good, step); o.err != nil || o.rest != 0 || len(o.messages) == 0 {
					t.Errorf("%s, good: %d messages, %d bytes left, %v", name, len(o.messages), o.rest, o.err)
				}
				o := read(t, NewReader(tt.dir, 1<<20), tt.bad, step)
				if o.err == nil {
					t.Fatalf("%s, bad: no error", name)
				}
				if o.err.Code != tt.code || o.err.Section != "RFC 6455, Section "+tt.section || o.err.Reason != tt.reason {
					t.Errorf("%s, bad: got %d, %q, %q", name, o.err.Code, o.err.Section, o.err.Reason)
				}
				last := tt.bad[len(tt.bad)-o.rest:]
				if !bytes.Equal(o.err.Header, last[:headerLength(last)]) {
					t.Errorf("%s, bad: evidence % x of % x", name, o.err.Header, last)
				}
				if &o.err.Header[0] == &last[0] {
					t.Error("the evidence is not a copy")
				}
			}
		})
	}
}

// A violation shows with the header: nobody waits for its payload.
func TestMustsEarly(t *testing.T) {
	for _, h := range []Header{
		{Fin: true, Opcode: Binary, Length: 1 << 40, RSV: 4},
		{Fin: true, Opcode: Ping, Length: 126},
		{Fin: true, Opcode: 5, Length: 70000},
		{Fin: true, Opcode: Continuation, Length: 1},
		{Fin: true, Opcode: Text, Length: 1, Masked: true},
	} {
		if _, _, err := NewReader(ToClient, 1<<50).Next(h.Append(nil)); err == nil {
			t.Errorf("%+v: no error before the payload", h)
		}
	}
}

// What is not WebSocket at all ends at its first bytes.
func TestForeignProtocols(t *testing.T) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"SSH-2.0-OpenSSH_9.9\r\n",
	} {
		for _, dir := range []Direction{ToServer, ToClient} {
			if o := read(t, NewReader(dir, 1<<20), []byte(s), one); o.err == nil || o.err.Code != ProtocolErrorCode {
				t.Errorf("%q %v: %v", s, dir, o.err)
			}
		}
	}
}

func TestDirectionString(t *testing.T) {
	for d, want := range map[Direction]string{ToServer: "to-server", ToClient: "to-client", 7: "direction(7)"} {
		if got := d.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestOpcode(t *testing.T) {
	names := map[Opcode]string{0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
	for o := range Opcode(16) {
		want, known := names[o]
		if !known {
			want = map[Opcode]string{3: "reserved(0x3)", 15: "reserved(0xf)"}[o]
		}
		if want != "" && o.String() != want {
			t.Errorf("opcode %d: %q, want %q", byte(o), o, want)
		}
		if o.isReserved() == known || o.IsControl() != (o >= 8) {
			t.Errorf("opcode %d: reserved %v, control %v", byte(o), o.isReserved(), o.IsControl())
		}
	}
}
