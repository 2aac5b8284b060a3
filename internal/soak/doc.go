// Package soak holds a gateway under load and faults for as long as one likes
// (make soak SOAK=30m) and then asks whether everything adds up.
//
// The gateway is the real program between network namespaces, under the rules
// of iptables. Clients and two servers, each a process of its own, keep hundreds
// of WebSockets moving or idle and hurt some of them: resets, half-closes,
// readers and writers that stall, slow handshakes, floods of pings, messages
// that the policy refuses. Meanwhile one server is killed and comes back, the
// disk of the log fills up for some seconds, and the policy changes each second.
//
// Both sides write down what they sent, before they send it, and what they
// received. At the end that ledger, the log and the metrics are compared:
//
//   - of each direction of each connection, what was delivered is the beginning
//     of what was recorded, which is the beginning of what was sent, in order;
//     where the end was an orderly one, all three are the same;
//   - with on_failure = "gap", what was delivered without a record is in the
//     count of an audit.gap;
//   - each end of a connection has a cause that the soak gave it;
//   - descriptors, goroutines and memory are back where they were after the
//     warm-up;
//   - framegate audit verify finds the log intact.
//
// All of it is done three times, for a third of the time each: with on_failure =
// "block", where a full disk ends the WebSockets that would have had to be
// recorded; with "gap", where it must end none; and with a disk that is never full
// and a program that is replaced every few minutes, which must end none either.
package soak
