package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"framegate/audit"
	"framegate/audit/capture"
)

// log judges the messages of a log that are there with their payload.
func (in *inspection) log(dir string) error {
	in.name = dir
	log, err := audit.NewReader(dir, audit.Filter{Event: "ws.*"})
	if err != nil {
		return err
	}
	payloads, err := openPayloads(dir, in.identities)
	if err != nil {
		return err
	}
	conns := map[string]*inspected{}
	var damaged error
	for r, err := range log.Records() {
		var damage *audit.DamageError
		if errors.As(err, &damage) {
			damaged = errors.Join(damaged, err)
			continue
		} else if err != nil {
			return err
		}
		var m messageRecord
		if err := json.Unmarshal(r.Raw, &m); err != nil {
			return fmt.Errorf("record %d: %w", r.Seq, err)
		}
		switch r.Event {
		case audit.WSOpen:
			conns[m.Conn] = in.open(connOf(&m), in.name)
		case audit.WSClose:
			delete(conns, m.Conn)
		case audit.WSMessage, audit.WSControl:
			c := conns[m.Conn]
			if c == nil { // opened before the log begins
				c = in.open(connOf(&m), in.name)
				conns[m.Conn] = c
			}
			data, err := payloads.Of(&r)
			if err != nil || !m.is(data) {
				c.messages++
				in.Messages++
				damaged = errors.Join(damaged, in.unknown(err))
				continue
			}
			var q question
			if err := q.from(&m); err != nil {
				return err
			}
			if err := c.judge(q.dir, q.opcode, data, r.Time); err != nil {
				return err
			}
		}
	}
	return damaged
}

// unknown counts a message that cannot be judged: err is why its payload is not
// there, nil if it is not the message as it was sent. It returns an error that
// tells of damage.
func (in *inspection) unknown(err error) error {
	in.Unknown++
	switch {
	case err == nil:
		in.Masked++
	case errors.Is(err, audit.ErrSealed):
		in.Sealed++
	case errors.Is(err, audit.ErrErased):
		in.Erased++
	case !errors.Is(err, audit.ErrNoPayload):
		return err
	}
	return nil
}

// connOf is the connection of a record.
func connOf(m *messageRecord) *capture.Conn {
	c := &capture.Conn{Host: m.Host, Path: m.Path, Subprotocol: m.Subprotocol}
	if c.Host == "" {
		c.Host = m.SNI
	}
	c.Client, _ = netip.ParseAddrPort(m.Client)
	c.Server, _ = netip.ParseAddrPort(m.Server)
	return c
}
