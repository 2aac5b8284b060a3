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
