package audit

import (
	"errors"
	"fmt"
)

// A PayloadMode says what the log has of the messages themselves. Whatever it
// is, size and sha256 of a record are those of the message as it was sent.
type PayloadMode uint8

const (
	// PayloadNone records no payload.
	PayloadNone PayloadMode = iota
	// PayloadRedacted records messages in the clear, without what the rules
	// found in them.
	PayloadRedacted
	// PayloadFull records messages sealed, each connection's with a key of its
	// own that the gateway itself cannot open again.
	PayloadFull
)

var payloadModes = [...]string{"none", "redacted", "full"}

// ParsePayloadMode parses the name of a mode as it is in the configuration.
func ParsePayloadMode(s string) (PayloadMode, error) {
	for m, name := range payloadModes {
		if name == s {
			return PayloadMode(m), nil
		}
	}
	return 0, fmt.Errorf("unknown audit payload %q: expected none, redacted or full", s)
}

// MaxPayload is the longest message of which the payload is recorded. Escaped,
// it is at most six times as long, and so a record never comes near its limit.
const MaxPayload = 16 << 20

// The values of payload_omitted: why a record of a message has no payload
// although payloads are recorded.
const (
	OmittedStreamed = "streamed" // it passed in parts and was never held whole
	OmittedLength   = "length"   // it is longer than MaxPayload
	OmittedRule     = "rule"     // a rule matched, and what it found cannot be masked
	OmittedKey      = "key"      // the connection has no key, since none could be stored
)

var (
	// ErrNoPayload: the record has no payload.
	ErrNoPayload = errors.New("no payload is recorded")
	// ErrErased: the payload is sealed and its key is gone.
	ErrErased = errors.New("the payload was erased: its key is gone")
	// ErrSealed: the payload is sealed, and no identity that was given opens its key.
	ErrSealed = errors.New("the payload is sealed: no identity that was given opens its key")
)
