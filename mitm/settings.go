package mitm

import (
	"net"
	"time"

	"framegate/audit"
)

// Settings are what of a [Proxy] may change while it serves. They are not
// changed themselves: [Proxy.Settings] returns others. A connection keeps those
// that were in force at its accept, and the exceptions are said here.
type Settings struct {
	// Level is the least that is recorded; events below it are not made. It
	// holds from the next batch of messages, on live WebSockets, too.
	Level audit.Level
	// Payload says what is recorded of the messages themselves. The zero value
	// is nothing. It holds from the next batch of messages, too; a WebSocket that
	// was opened without a key has none to seal payloads with, and its records say so.
	Payload audit.PayloadMode
	// Dialer opens connections to servers; it marks their sockets, so that they
	// are not captured themselves. If nil, a zero net.Dialer. It
	// holds for the next dial, of whatever connection.
	Dialer *net.Dialer
	// BlockClientCert refuses servers that ask for a client certificate; by
	// default their connections are bypassed, since nobody but the client can
	// answer them.
	BlockClientCert bool
	// BypassPinned bypasses a name for a client that has rejected our certificate
	// for it three times within an hour and never accepted it, while it accepts
	// those for others; for an hour, or until the policy or what is trusted
	// changes. It does not where a connection rule says inspect or block. By
	// default such connections fail.
	BypassPinned bool
	// PassUnknownExtensions passes a WebSocket through unseen, as opaque, on
	// which an extension other than permessage-deflate was agreed. By default
	// its upgrade is refused.
	PassUnknownExtensions bool
	// HandshakeTimeout bounds each phase before the upgrade: the first bytes,
	// either TLS handshake, a request head, the 101. If zero, 10 s.
	HandshakeTimeout time.Duration
	// MaxHalfOpen is how many connections may be waited for at once that have not
	// sent their first request yet. One more ends the oldest of them. If zero, any
	// number.
	MaxHalfOpen int
	// IdleTimeout ends upgraded connections on which no byte passed for so
	// long. If zero, never. A connection that has one is spared by a longer one
	// that is in force when it would end; a shorter one is for new connections, so
	// that no change by itself ends any.
	IdleTimeout time.Duration
	// Hold is the size of the largest message that is held whole, in bytes of
	// inflated payload. If zero, 1 MiB. A larger one ends the connection with
	// 1009, unless Stream is set.
	Hold int64
	// Stream lets messages over Hold pass in parts, as they are judged: a match
	// of up to 4 KiB is found wherever it is, and the last byte of a message
	// leaves after the verdict on all of it. A message that must not pass ends
	// the connection, since a part of it has.
	Stream bool
	// MaxMessage is the size of the largest message that may pass with Stream,
	// in bytes of inflated payload. A larger one ends the connection with 1009.
	// If zero, 64 MiB.
	MaxMessage int64
	// MaxRatio is how many bytes a message over Hold and 1 MiB may inflate to for
	// each byte of its payload. More end the connection with 1009. If zero, any
	// number, which the format limits to 1032.
	MaxRatio int64
	// HeldMemory is how many bytes of messages may be held at once, of all
	// connections together: as they were received, unmasked and inflated. Who would
	// hold more does not read on until there is room. What each connection may hold
	// beside it, and the rounding up of buffers, is not counted: the memory in use may
	// come to three times as much. If zero, there is no limit. It
	// holds at once, for the next that would hold more.
	HeldMemory int64
	// Local is a host that is the gateway itself. If nil, there is none.
	Local *Local
}

// settings returns those in force.
func (p *Proxy) settings() *Settings {
	if p.Settings != nil {
		if s := p.Settings(); s != nil {
			return s
		}
	}
	return &noSettings
}

var noSettings Settings

func (s *Settings) handshakeTimeout() time.Duration {
	if s.HandshakeTimeout > 0 {
		return s.HandshakeTimeout
	}
	return 10 * time.Second
}

func (s *Settings) hold() int64 {
	if s.Hold > 0 {
		return s.Hold
	}
	return 1 << 20
}

func (s *Settings) maxMessage() int64 {
	if s.MaxMessage > 0 {
		return s.MaxMessage
	}
	return 64 << 20
}
