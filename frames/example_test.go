package frames_test

import (
	"errors"
	"fmt"

	"framegate/frames"
)

func ExampleReader() {
	// A text message in two fragments with a ping between them, as a server
	// sends them, and the beginning of a further frame.
	received := []byte("\x01\x03Hel" + "\x89\x00" + "\x80\x02lo" + "\x82\x7e")

	r := frames.NewReader(frames.ToClient, 1<<20)
	for {
		m, n, err := r.Next(received)
		if err != nil {
			fmt.Println(err)
			return
		}
		if n == 0 {
			break // read more before the next call
		}
		received = received[n:]
		if m.Opcode == frames.Continuation {
			continue // held until its message is complete
		}
		fmt.Printf("%v %q in %d frames, forwards % x\n", m.Opcode, m.Data, m.Frames, m.Wire)
	}
	fmt.Printf("has %d bytes, needs %d\n", len(received), r.Need())
	// Output:
	// ping "" in 1 frames, forwards 89 00
	// text "Hello" in 2 frames, forwards 01 03 48 65 6c 80 02 6c 6f
	// has 2 bytes, needs 4
}

func ExampleReader_UseDeflate() {
	// What the Sec-WebSocket-Extensions headers of the handshake said.
	deflate, err := frames.Agree(
		[]string{"permessage-deflate; client_max_window_bits"},
		[]string{"permessage-deflate; client_no_context_takeover"})
	if err != nil {
		fmt.Println(err) // unknown extension, or a failed handshake
		return
	}

	const dir = frames.ToClient
	r := frames.NewReader(dir, 1<<20)
	if deflate != nil { // nil: no extension was agreed on
		r.UseDeflate(deflate[dir])
	}
	// Two compressed messages, of which the second is a reference to the first,
	// and one that is not compressed.
	received := []byte("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00" + "\xc1\x05\xf2\x00\x11\x00\x00" + "\x81\x02Hi")
	for len(received) > 0 {
		m, n, err := r.Next(received)
		if n == 0 || err != nil {
			fmt.Println(n, err)
			return
		}
		received = received[n:]
		fmt.Printf("%q, compressed %v, forwards % x\n", m.Data, m.Compressed, m.Wire)
	}
	r.Release() // while nothing comes, only the window is held
	// Output:
	// "Hello", compressed true, forwards c1 07 f2 48 cd c9 c9 07 00
	// "Hello", compressed true, forwards c1 05 f2 00 11 00 00
	// "Hi", compressed false, forwards 81 02 48 69
}

func ExampleProtocolError() {
	r := frames.NewReader(frames.ToServer, 1<<20)
	_, _, err := r.Next([]byte("\x81\x05Hello")) // a client has to mask

	var violation *frames.ProtocolError
	if errors.As(err, &violation) {
		fmt.Println(violation)
		fmt.Printf("evidence % x\n", violation.Header)
		answer := frames.AppendClose(nil, violation.Code, violation.Reason)
		fmt.Printf("%q\n", frames.AppendFrame(nil, frames.Header{Fin: true, Opcode: frames.Close}, answer))
	}
	// Output:
	// protocol error 1002: frame from the client is not masked (RFC 6455, Section 5.1)
	// evidence 81 05
	// "\x88%\x03\xeaframe from the client is not masked"
}

func ExampleConsumeHeader() {
	b := []byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
	h, n, err := frames.ConsumeHeader(b)
	if err != nil || n == 0 {
		fmt.Println("incomplete or wrong", err)
		return
	}
	payload := make([]byte, h.Length)
	frames.Mask(payload, b[n:], h.Mask, 0)
	fmt.Printf("%v, %d bytes after a header of %d: %s\n", h.Opcode, h.Length, n, payload)
	// Output: text, 5 bytes after a header of 6: Hello
}

func ExampleAppendFrame() {
	h := frames.Header{Fin: true, Opcode: frames.Text, Masked: true, Mask: [4]byte{0x37, 0xfa, 0x21, 0x3d}}
	fmt.Printf("% x\n", frames.AppendFrame(nil, h, []byte("Hello")))
	// Output: 81 85 37 fa 21 3d 7f 9f 4d 51 58
}

func ExampleParseClose() {
	code, reason, err := frames.ParseClose([]byte("\x03\xf0no cards"))
	fmt.Println(code, reason, err)

	_, _, err = frames.ParseClose([]byte{0x03, 0xed}) // 1005
	fmt.Println(err)
	// Output:
	// 1008 no cards <nil>
	// protocol error 1002: close code 1005 may not be sent (RFC 6455, Section 7.4)
}
