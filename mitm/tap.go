package mitm

import (
	"net/netip"
	"time"

	"framegate/frames"
)

// A Tap sees the decrypted bytes of the WebSockets that are inspected, as they
// were received and before any rule has changed them: what a capture of the
// same connections would show if there were no TLS.
type Tap interface {
	// Open is called once a WebSocket is open, with the two heads as they
	// crossed. It may return nil: not wanted. The heads are the caller's, and
	// good until Open is back.
	Open(conn string, client, server netip.AddrPort, request, response []byte) TapStream
}

// A TapStream sees one WebSocket. Its methods must not block, for they are
// called on the goroutines that carry the messages: Bytes by either direction
// at the same time as by the other, and in order for each; Close once, after
// the last Bytes.
type TapStream interface {
	// Bytes takes what was received in one go and has been judged: whole frames
	// but for those that are longer than what is held. b is the caller's, and
	// good until Bytes is back.
	Bytes(dir frames.Direction, at time.Time, b []byte)
	Close()
}

// tap shows the first n bytes of what has been received to the tap.
func (d *direction) tap(at time.Time, n int) {
	if n > 0 {
		d.relay.ws.tap.Bytes(d.dir, at, d.in[:n])
	}
}
