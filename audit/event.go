package audit

import (
	"net/netip"
	"time"
)

// The names of the events. "admin." names belong to the admin port and are
// free-form behind the prefix.
const (
	GatewayStart = "gateway.start"
	GatewayStop  = "gateway.stop"

	// GatewayHandover: another process goes on with the log, or could not.
	GatewayHandover = "gateway.handover"

	// GatewayOverload: something has run short, or no longer is.
	GatewayOverload = "gateway.overload"

	ConfigLoad   = "config.load"
	ConfigReject = "config.reject"
	PolicyLoad   = "policy.load"
	PolicyReject = "policy.reject"
	TrustLoad    = "trust.load"
	TrustReject  = "trust.reject"
	CALoad       = "ca.load"
	CAReject     = "ca.reject"
	CAIssue      = "ca.issue"
	ConnOpen     = "conn.open"
	ConnBypass   = "conn.bypass"
	ConnBlock    = "conn.block"
	TLSFail      = "tls.fail"
	HTTPRequest  = "http.request"
	WSOpen       = "ws.open"
	WSMessage    = "ws.message"
	WSControl    = "ws.control"
	WSViolation  = "ws.violation"
	WSClose      = "ws.close"
	ConnClose    = "conn.close"
	AuditGap     = "audit.gap"

	// AuditUnshipped: the log has records that a target of shipping has not.
	AuditUnshipped = "audit.unshipped"
	AuditExpire    = "audit.expire"
)

// The states of the connection ledger. A connection ends in exactly one.
const (
	StateInspected = "inspected"
	StateBypassed  = "bypassed"
	StateBlocked   = "blocked"
	StateOpaque    = "opaque" // neither TLS nor HTTP, carried unread
	StateFailed    = "failed"
)

// An Event is one thing that happened, as plain values. A zero field is not
// applicable and does not appear in the record.
type Event struct {
	Time  time.Time // zero: the moment of Record
	Event string    // one of the names above
	Conn  string    // id of the connection, the same in all its events

	Msg *Message // the message or control frame that the event is about

	Rules  []string // ids of the rules that matched, connection rules included
	Shadow []string // ids of the rules in shadow mode that would have matched
	Action string   // what was done: "allow", "log", "redact", "drop", "close", "bypass", "block"
	Policy string   // version of the policy that decided

	Client netip.AddrPort
	Server netip.AddrPort // original destination

	SNI         string
	Host        string // on every event of a connection that has one, so that a query by host finds them all
	Path        string
	Subprotocol string
	Method      string

	Code   int    // HTTP status or WebSocket close code
	Reason string // why, in words: a peer's close reason, an error, what was loaded

	State    string   // ledger state, on conn.close
	Evidence []byte   // the offending frame's header, on ws.violation
	Totals   *Totals  // on conn.close
	Gap      *Gap     // on audit.gap
	Expired  *Expired // on audit.expire

	Unshipped *Unshipped // on audit.unshipped
}

// A Message is what is recorded of a WebSocket message or control frame.
type Message struct {
	Dir    string // "to-server" or "to-client"
	Opcode string // "text", "binary", "ping", "pong" or "close"

	// Size is that of the inflated message, WireSize that of its frames with
	// their headers. When Size, WireSize and Frames are all zero (a violation
	// in the middle of a frame) none of the four is recorded.
	Size       int64
	WireSize   int64
	Frames     int
	Compressed bool

	SHA256 [32]byte // of the inflated message; zero: not taken

	// At most one of these is set; none: payloads are not recorded.
	Payload []byte // the message, or what of it may be in the clear
	Sealed  []byte // as [PayloadKey.Seal] makes it
	Omitted string // why neither is there, one of the reasons Omitted...
}

// Totals are what crossed a connection.
type Totals struct {
	ToServer, ToClient Tally
}

// A Tally counts one direction of a connection. Bytes are those of the inflated
// messages or, where nothing was inspected, those that were carried.
type Tally struct {
	Messages int64
	Bytes    int64
	// SHA256 is rolled on by each message: SHA-256 over the value before, at
	// first 32 zero bytes, and the message's SHA-256. Zero: not taken.
	SHA256 [32]byte
}

// A Gap says what is missing from the log before its record.
type Gap struct {
	Count int64     // records lost; zero: not known
	Bytes int64     // bytes cut from a torn tail
	Since time.Time // when the failure began; zero: not known
}
