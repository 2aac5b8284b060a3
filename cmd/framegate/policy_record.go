package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"framegate/audit"
)

// A messageRecord is what the log has of one message and of its connection.
type messageRecord struct {
	Seq         uint64   `json:"seq"`
	Event       string   `json:"event"`
	Conn        string   `json:"conn"`
	Dir         string   `json:"dir"`
	Opcode      string   `json:"opcode"`
	Size        int64    `json:"size"`
	SHA256      string   `json:"sha256"` // in hex, "" if the log does not have it
	Rules       []string `json:"rules"`
	Shadow      []string `json:"shadow"`
	Action      string   `json:"action"`
	Policy      string   `json:"policy"`
	Client      string   `json:"client"`
	Server      string   `json:"server"`
	SNI         string   `json:"sni"`
	Host        string   `json:"host"`
	Path        string   `json:"path"`
	Subprotocol string   `json:"subprotocol"`
	Payload     *string  `json:"payload"`
	PayloadB64  string   `json:"payload_b64"`
	Sealed      string   `json:"payload_sealed"`
	Omitted     string   `json:"payload_omitted"`
}

// find looks up the record that --record names.
func (m *messageFlags) find(g *globals, cmd *cobra.Command) (*messageRecord, error) {
	log, err := g.log(cmd, m.dir, audit.Filter{})
	if err != nil {
		return nil, err
	}
	line, err := find(log, func(r audit.Record) bool { return r.Seq == m.record })
	if err != nil {
		return nil, err
	}
	if line == nil {
		return nil, failed(fmt.Errorf("the log has no record %d", m.record)).hint("framegate audit query prints those that it has")
	}
	r := new(messageRecord)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("record %d: %w", m.record, err)
	}
	if r.Event != audit.WSMessage && r.Event != audit.WSControl {
		return nil, failed(fmt.Errorf("record %d is about %s, expected %s or %s", r.Seq, r.Event, audit.WSMessage, audit.WSControl))
	}
	// What the server chose is only in the record of the opening.
	if log, err = g.log(cmd, m.dir, audit.Filter{Conn: r.Conn, Event: audit.WSOpen}); err != nil {
		return nil, err
	}
	line, err = find(log, func(open audit.Record) bool { return open.Seq < r.Seq })
	if err != nil {
		return nil, err
	}
	if line == nil {
		say(cmd.ErrOrStderr(), "the log has no %s of connection %s, so its subprotocol is not known", audit.WSOpen, r.Conn)
		return r, nil
	}
	var open messageRecord
	if err := json.Unmarshal(line, &open); err != nil {
		return nil, fmt.Errorf("%s of connection %s: %w", audit.WSOpen, r.Conn, err)
	}
	r.Subprotocol = open.Subprotocol
	return r, nil
}

// find returns the first record that is wanted, nil if there is none. What is
// damaged elsewhere does not matter, unless it is where that may have been.
func find(log *audit.Reader, want func(audit.Record) bool) (line []byte, err error) {
	var damaged error
	for r, err := range log.Records() {
		var damage *audit.DamageError
		switch {
		case errors.As(err, &damage):
			damaged = err
		case err != nil:
			return nil, err
		case want(r):
			return r.Raw, nil
		}
	}
	return nil, damaged
}

// from takes over what the log says of the message, except for its payload.
func (q *question) from(r *messageRecord) error {
	q.record = r
	u := &q.upgrade
	u.Host, u.Path, u.Subprotocol, u.Conn = r.Host, r.Path, r.Subprotocol, r.Conn
	if u.Host == "" {
		u.Host = r.SNI
	}
	var okDir, okOpcode bool
	q.dir, okDir = parseDirection(r.Dir)
	q.opcode, okOpcode = parseOpcode(r.Opcode)
	if !okDir || !okOpcode {
		return fmt.Errorf("record %d: got direction %q and opcode %q, expected those of a message", r.Seq, r.Dir, r.Opcode)
	}
	if client, err := netip.ParseAddrPort(r.Client); err == nil {
		u.Client = client.Addr()
	}
	if server, err := netip.ParseAddrPort(r.Server); err == nil {
		q.server = server
	}
	return nil
}

// is reports whether data is the message of the record.
func (r *messageRecord) is(data []byte) bool {
	sum := sha256.Sum256(data)
	return int64(len(data)) == r.Size && (r.SHA256 == "" || r.SHA256 == hex.EncodeToString(sum[:]))
}

// payload returns the message, if the log has it as it was sent.
func (r *messageRecord) payload(p *audit.Payloads) ([]byte, error) {
	data, err := p.Of(&audit.Record{
		Seq: r.Seq, Conn: r.Conn, Dir: r.Dir, Opcode: r.Opcode, SHA256: r.SHA256,
		Payload: r.Payload, PayloadB64: r.PayloadB64, PayloadSealed: r.Sealed,
	})
	if err == nil && r.is(data) {
		return data, nil
	}
	var why string
	switch {
	case err == nil:
		why = "with a payload that is not the message as it was sent"
	case r.Omitted != "":
		why = fmt.Sprintf("without its payload, which was omitted: %s", r.Omitted)
	case errors.Is(err, audit.ErrSealed):
		why = "with a payload that is sealed, and no --identity opens its key"
	case errors.Is(err, audit.ErrErased):
		why = "with a payload that was erased"
	case errors.Is(err, audit.ErrNoPayload):
		why = "without its payload, which the log does not have unless audit.payload says so"
	default:
		return nil, err
	}
	return nil, failed(fmt.Errorf("record %d is %s", r.Seq, why)).
		hint("pass the message with --message or --message-file: %s", r.fingerprint())
}

func (r *messageRecord) fingerprint() string {
	s := counted(int(r.Size), "byte")
	if r.SHA256 != "" {
		s += ", SHA-256 " + r.SHA256
	}
	return s
}

func fingerprint(data []byte) string {
	return fmt.Sprintf("%s, SHA-256 %x", counted(len(data), "byte"), sha256.Sum256(data))
}
