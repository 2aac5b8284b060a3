// Package lab makes a whole network on one machine: three network namespaces
// in a row, client - gateway - server, joined by veth pairs, with IPv4 and
// IPv6, forwarding in the gateway and names that resolve to the server.
//
//	client 10.88.1.2  --  10.88.1.1 gateway 10.88.2.1  --  10.88.2.2 server
//	       fd88:1::2  --  fd88:1::1         fd88:2::1  --  fd88:2::2
//
// Every name of [DefaultHosts] and [Options] has an address of each family of
// its own on the server, so that what a client dialled can be told from any
// other; "v4.NAME" and "v6.NAME" are the same host with one family only.
//
// The network is real: programs run in it by [Net.Command] (ip netns exec, see
// ip-netns(8)), iptables rules set in the gateway hold there and nowhere else,
// and sockets of this process are opened in it by [Net.Listen] and [Net.Dial].
//
// # Ownership
//
// A Net belongs to the process that made it. [Net.Down] removes the
// namespaces, their files below /etc/netns and every process inside them;
// sockets from Listen and Dial are the caller's to close. A file
// /run/framegate-lab-ID, locked for as long as the owner lives, lets [Sweep]
// tell the network of a dead owner from one that is in use. Several networks can be
// up at once: names differ, and equal addresses in different namespaces do not
// meet.
//
// It needs root and the ip command of iproute2.
package lab
