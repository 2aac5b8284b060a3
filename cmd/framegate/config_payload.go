package main

import (
	"errors"
	"fmt"

	"framegate/audit"
)

// recipient accepts an age recipient or the name of a file with some, which is
// read at the start.
func recipient(v any) (string, error) {
	s, err := path(v)
	if err == nil && audit.IsRecipient(s) {
		_, err = audit.ParseRecipients([]string{s})
	}
	if err != nil {
		return "", mismatch(v, `an age recipient ("age1...") or the path of a file with some`)
	}
	return s, nil
}

// checkRecipients returns the key and the mistake if audit.payload and
// audit.payload_recipients do not go together.
func (c *config) checkRecipients() (key string, err error) {
	switch full := c.Audit.Payload == "full"; {
	case full && len(c.Audit.Recipients) == 0:
		return "audit.payload", errors.New(`"full" needs audit.payload_recipients, those who may read what is sealed`)
	case !full && len(c.Audit.Recipients) > 0:
		return "audit.payload_recipients", fmt.Errorf(`payloads are sealed with audit.payload = "full", got %q`, c.Audit.Payload)
	}
	return "", nil
}

// payloads returns what the log needs to know of payloads.
func (c *config) payloads() (audit.PayloadMode, *audit.Recipients, error) {
	mode, err := audit.ParsePayloadMode(c.Audit.Payload)
	if err != nil {
		return 0, nil, usage(err)
	}
	if mode != audit.PayloadFull {
		return mode, nil, nil
	}
	recipients, err := audit.ParseRecipients(c.Audit.Recipients)
	if err != nil {
		return 0, nil, usage(fmt.Errorf("audit.payload_recipients: %w", err)).
			hint("age-keygen makes an identity and prints its recipient; the identity is not for this machine")
	}
	return mode, recipients, nil
}
