// Package ship takes what the audit log has written off the machine: signed
// checkpoints, without which whoever has key and disk could rewrite the log, and
// copies of the records, for those who watch them live. docs/AUDIT-SHIPPING.md
// says for operators what this proves and what it delivers.
//
// # Where to
//
//	checkpoints  file:///PATH            appended, each behind the others
//	             syslog+tcp://HOST:PORT  RFC 5424, framed as RFC 6587 section 3.4.1
//	             syslog+tls://HOST       RFC 5424 over TLS, RFC 5425
//	             https://HOST/PREFIX     add-checkpoint of https://c2sp.org/tlog-witness
//	records      syslog+tcp, syslog+tls  likewise
//	             otlp+https://HOST       OTLP/HTTP logs, protobuf
//
// http and otlp+http reach loopback only. What speaks TLS verifies the server by
// the host of the URL; no field turns that off.
//
// # How it stays out of the way
//
// A [Shipper] is the follower of one log. [Shipper.Block] and
// [Shipper.Checkpoint] copy, hand on and return: they are called on the
// goroutines that write the log. Each target has a goroutine and a connection of
// its own, and what waits for it is bounded: records by bytes, checkpoints to the
// newest. A target that is slow, dead or lying costs memory up to that bound and
// nothing else.
//
// # What is lost
//
// A block that finds the queue full is left out whole and counted, as is what a
// collector refuses. The log gets an audit.unshipped record with target, count
// and the range of numbers once the target takes records again, each hour while
// it does not, and at stop. The log itself has everything.
//
// OTLP is delivered at least once: a batch is sent until it is answered. Syslog
// has no answers: what a connection had taken when it broke may be lost without
// a count, and the batch under way is sent again, so that both are possible. The
// number of each record shows either to the receiver.
//
// # Ownership
//
// [New] starts nothing and is there for [audit.Open]; [Shipper.Start] begins,
// [Shipper.Stop] ends, in a bounded time. A goroutine that the kernel holds in a
// write to a dead file system is left behind.
package ship
