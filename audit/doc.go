// Package audit writes and reads the gateway's log: one JSON object a line, in
// compressed blocks, in segments, in one directory. docs/AUDIT-FORMAT.md is the
// specification; this package is one implementation of it.
//
// # What a record is
//
// An [Event] holds plain values; this package knows neither policy nor frames,
// so that an auditor's tool needs nothing else. Its encoding is JSON (RFC 8259)
// with a fixed order of keys. Whatever an outsider controls is escaped until a
// record is one line of printable characters and nothing else: a newline in a
// close reason cannot forge a record, an escape sequence in a path cannot reach
// the terminal of the person who runs cat.
//
// # How a record travels
//
//	Record    the caller's goroutine: level, JSON, one chunk, one channel send
//	writer    one goroutine: seq, block, zstd (RFC 8878), one write(2)
//	segment   an append-only file; fdatasync at least each second while written to
//	notary    one goroutine: Merkle tree (RFC 6962), tiles, signed checkpoint
//
// Connections share nothing but the channel. It is bounded: when the disk is
// slower than the traffic for longer than the queue lasts, Record waits.
// Record keeps nothing of the events that it is given.
//
// # When it cannot be written
//
// A write that fails starts a failure: [Log.Failed] says so, records that were
// already accepted wait in memory, new ones are refused and counted. With
// on_failure "block" Record says [ErrUnwritable] meanwhile, with "gap" it says
// nothing. A retry each second ends the failure, and an audit.gap record then
// carries the count. A crash leaves whole blocks and at most a torn tail, which
// the next [Open] cuts off; what it cut is an audit.gap record too.
//
// # How it changes hands
//
// [Log.Reopen] opens the log anew under the records that come, with other options.
// When a gateway is replaced, the old process gives the directory up ([Log.Yield])
// and sends what its connections still leave ([Log.Forward]) to the new one
// ([Log.Accept]), which numbers and writes it: at each time one process writes.
// What is not in a file yet stays with the old one, which takes the directory back
// when the new one ends.
//
// # What it proves
//
// Each block bears the root over its records, the headers of the blocks are the
// leaves of a tree in the form of C2SP tlog-tiles, and checkpoints of that tree
// are signed with Ed25519 (C2SP tlog-checkpoint, signed-note): at most each
// second, over what is on the disk. [Verify] says how much of a log is what was
// written, [Prove] shows it for one record. Who holds key and directory can
// rewrite what is behind the last checkpoint that was kept elsewhere.
//
// # Payloads
//
// A record may have the message itself: in the clear, as far as the caller says,
// or sealed by a [PayloadKey], of which the file in keys is all that is left once
// the connection has ended. It is encrypted by age to [Recipients], so that the
// gateway cannot read back what it has written. [Payloads] reads, [Erase] removes
// keys, and no byte of the log changes with them.
//
// # Ownership
//
// [Open] returns a Log that owns the directory (an exclusive flock) and the
// writer's goroutine, which owns the notary's; [Log.Close] ends both after
// everything accepted is on the disk and signed. Whoever takes from the queue (see
// handover.go) owns the chunks that it took.
// A [Reader] takes no lock, writes nothing, and may read a log that is being
// written.
package audit

// A Sink takes the events of the gateway.
//
// Record takes them in order, in one hand-over, and retains nothing of them:
// the caller may reuse the slice and all it refers to once Record is back.
// A caller on the hot path keeps one []Event and passes it with "...".
type Sink interface {
	Record(events ...Event) error
	Close() error
}
