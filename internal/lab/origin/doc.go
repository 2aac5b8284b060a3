// Package origin is the far end of a test: a certificate authority of its own
// and a TLS server that speaks HTTP and WebSocket, well or badly as asked, and
// keeps every byte that it received and sent.
//
// A [Server] takes its connections from any listener, a loopback one or one
// inside a [framegate/internal/lab.Net].
//
// # Paths
//
// WebSocket:
//
//	/echo            sends every frame back as it came, with its fragmentation, unmasked
//	/deflate         sends every message back, compressed; ?answer= are the extensions of the 101
//	/replay?set=NAME plays the to-client messages of a set of examples/traffic
//	/head            sends the request head as received, then the 101 head as sent, one message each
//	/fault/NAME      misbehaves, see [Faults]
//
// HTTP:
//
//	/plain           a short text with an entity tag
//	/chunked         a chunked reply with a trailer
//	/upload          sends the request's body back, after 100-continue if that was asked for
//	/events?n=N      N server-sent events, one in 200 ms
//	/big?size=N      N bytes
//	/result?run=ID   takes a JSON body for [Server.Result]
//
// Everything else is 404. Tests add paths with [Server.Handle] and
// [Server.HandleHTTP].
package origin
