// Package capture reads recorded traffic: pcap and pcapng files, HTTP Archives
// and recordings of messages. It writes pcapng and HTTP Archives. [Unwrap] and [Detect] tell which of them a file
// is, by its content; gzip around any of them is taken off.
//
// # Two kinds of file
//
// Packets hold byte streams. [ReadPackets] puts the TCP segments of each
// connection in order and hands both directions to a [Stream]; what the bytes
// mean is the caller's to find out. An archive or a recording holds messages,
// which [ReadHAR] and [ReadRecording] hand out one by one. This package knows
// neither frames nor rules, as the rest of audit does not.
//
// # Packets
//
// Formats: libpcap with micro- or nanoseconds in either byte order, read by
// gopacket's pcapgo; pcapng (draft-ietf-opsawg-pcapng) by a reader of our own,
// because that of gopacket v1.1.19 divides by zero for a time resolution of
// 10^-64, allocates whatever length a packet declares, and keeps eight bits of
// a link type that has sixteen.
//
// Link types: Ethernet with any number of VLAN tags, Linux cooked capture 1 and
// 2, raw IP, BSD null and loopback. Then IPv4 or IPv6, whose fragments are put
// together, then TCP. Tunnels are not looked into. Checksums are not verified:
// on a machine that lets its network card compute them they are wrong in every
// capture.
//
// The client of a connection is who sent the SYN. Without one it is the side
// whose first data looks like an HTTP request (or the one that is answered with
// a response), else the side with the higher port. Connections are told apart
// by addresses and ports alone, not by VLAN; a SYN with another initial
// sequence number begins another connection.
//
// # Order
//
// A byte is handed out once, in order: what was sent or captured again is left
// out, and of two versions the one that came first counts. A capture may lack
// segments. Data behind a hole waits for it until the connection or the capture
// ends or a limit is reached; then [Stream].Gap says how much is missing and
// the rest follows. What a snap length has cut off the end of a packet is a gap
// as well, at once, unless another segment brought it.
//
// gopacket's reassembly is not used. It decides on the client by the first
// packet, has no bound on the number of connections, and does not say which
// bytes a snap length took.
//
// # Memory
//
// It is bounded, whatever the capture holds: connections (65,536 in the table;
// those without data or already over make room first), bytes that wait in one
// direction (8 MiB) and in all (128 MiB), fragments of IP (16 MiB), a packet
// (1 MiB). For a HAR, one JSON value (128 MiB) and the handshakes of all its
// WebSocket connections (64 MiB). Whatever a limit took is counted in [Stats]
// or is an error.
//
// # Errors
//
// An [*Error] says where: packet, or entry and message, or line, and the byte.
// What comes before that place has been delivered by then. A file that ends in
// the middle of a packet therefore gives its packets, its gaps and an error.
// What a file says is quoted in errors.
//
// # Writing
//
// A [PacketWriter] makes TCP connections of byte streams, a [HARWriter] entries
// of WebSockets; who calls them knows what the bytes are. A [Ring] keeps the
// packets of live connections in files of bounded size and never lets a caller
// wait. Each packet and each message bears the ids that it is given. What is
// written is read back by this package, which the fuzz tests hold it to.
//
// # Sources
//
// https://www.tcpdump.org/linktypes.html; draft-ietf-opsawg-pcap;
// draft-ietf-opsawg-pcapng; RFC 791, 8200 (IP); RFC 9293 (TCP); RFC 7323
// (window); HTTP Archive 1.2 (http://www.softwareishard.com/blog/har-12-spec/);
// _webSocketMessages as Chrome's developer tools write and import it
// (front_end/models/har of devtools-frontend).
package capture
