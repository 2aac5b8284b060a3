// Package intercept brings connections to the gateway: the redirect rules of
// the kernel, the listeners, the destination that the client believed it
// dialled, the sockets towards the servers, and the explicit proxy port.
//
// # Capture
//
// [Rules] says what to capture. It is data: rendering it to the input of
// iptables-restore is apart from running that ([Runner]), so that the text is
// tested without root and [Show] can print it. [Up], [Down] and [Status] apply,
// remove and compare it. Everything lives in two chains of our own, reached by
// one jump each:
//
//	nat     PREROUTING -> FRAMEGATE       REDIRECT of TCP to the listen port
//	filter  FORWARD    -> FRAMEGATE-QUIC  REJECT of UDP/443
//
// Only PREROUTING is hooked, so only traffic that arrives from elsewhere is
// captured; what the gateway itself sends passes OUTPUT. The exemption by mark
// covers our own packets that come back in over a link of this machine, and
// whatever else an administrator marks.
//
// A table changes in one transaction of the kernel. The two tables of a family
// are two transactions of one iptables-restore, and the families are two
// commands; [Up] undoes whatever was done before the step that failed.
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
