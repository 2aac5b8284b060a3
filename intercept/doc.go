// Package intercept brings connections to the gateway: the redirect rules of
// the kernel, the listeners, the destination that the client believed it
// dialled, the sockets towards the servers, and the explicit proxy port.
//
// # Capture
//
// [Rules] says what to capture. It is data: rendering it to the input of
// iptables-restore is apart from running that ([Runner]), so that the text is
// tested without root and [Show] can print it. [Up], [Down] and [Status] apply,
// remove and compare it. Everything lives in chains of our own, reached by
// jumps:
//
//	filter  FORWARD    -> FRAMEGATE-QUIC   REJECT of UDP/443
//	mode "redirect":
//	nat     PREROUTING -> FRAMEGATE        REDIRECT of TCP to the listen port
//	mode "tproxy":
//	mangle  PREROUTING -> FRAMEGATE        TPROXY of TCP to the listen port
//	raw     PREROUTING -> FRAMEGATE        a conntrack zone for what clients send
//	raw     OUTPUT     -> FRAMEGATE-REPLY  and for what they are answered
//
// In mode "tproxy" a routing table of our own, and two rules about it, make the
// kernel take captured packets as its own.
//
// Only PREROUTING is hooked, so only traffic that arrives from elsewhere is
// captured; what the gateway itself sends passes OUTPUT. The exemption by mark
// covers our own packets that come back in over a link of this machine, and
// whatever else an administrator marks.
//
// A table changes in one transaction of the kernel. The tables of a family are
// as many transactions of one iptables-restore, its routing changes line by
// line, and each family has commands of its own; [Up] undoes whatever was done
// before the step that failed.
//
// # Original destination
//
// REDIRECT rewrites the destination to an address of the gateway; connection
// tracking keeps what was there before. [OriginalDst] asks for it with
// SO_ORIGINAL_DST (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h).
// The answers need no mark on accepted sockets: the packets that we send on a
// redirected connection belong to its conntrack entry, which translates them
// back, and the nat table is consulted for the first packet of a connection
// only.
//
// TPROXY rewrites nothing: it gives the packets to a listener that accepts them
// under the address that they bear ([Transparent]), which is the destination
// ([LocalDst]). The same option lets the sockets towards the servers bear the
// address of the client ([KeepSource]).
//
// # Lifetimes
//
// [Serve] and [Explicit.Serve] close their listener, give each connection to a
// handler that owns it and closes it, and return when all handlers have. A
// dead peer goes by TCP: see the values at keepAlive and userTimeout. Nothing
// here sets a deadline on a connection that a handler has taken over; the
// deadlines of the phases before the upgrade are the handler's.
//
// The package is for Linux.
package intercept
