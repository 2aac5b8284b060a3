package intercept

import (
	"fmt"
	"slices"
)

// What the kernel knows only by number, and is ours by it. The rules come
// before whatever a VPN has put between the local table, of preference 0, and
// the main one, of 32766.
const (
	// CaptureMark is the mark of packets for our transparent sockets: "FGTP".
	CaptureMark = 0x46475450

	captureTable   = 17991 // 0x4647, "FG": routes for them
	capturePref    = 100   // preference of the rule that leads there, and one less
	connectionZone = 17991 // conntrack zone of the connections with clients
	mainTable      = 254   // RT_TABLE_MAIN in linux/rtnetlink.h
)

// lowestEphemeral is the lowest port that the kernel picks for a connection:
// ip_local_port_range lies above the privileged ports (ip-sysctl.rst).
const lowestEphemeral = 1024

func (r Rules) transparent() bool { return r.Mode == "tproxy" }

// tproxy renders the chain that gives packets to our sockets, as in the
// kernel's Documentation/networking/tproxy.rst: those of a connection by the
// socket that it has, the first of a connection to the listener. The former
// are also what servers answer, and the ICMP errors on what we sent, such as
// those that path MTU discovery lives by. Unlike there a SYN goes to the
// listener even if it has a socket: the one of an earlier connection from the
// same port, in TIME_WAIT, which TPROXY replaces and nobody else would.
func (r Rules) tproxy(f family) chain {
	divert := fmt.Sprintf("-m socket --transparent -j MARK --set-xmark %#x/0xffffffff", CaptureMark)
	to := "-j " + ours[mangle].chain
	return chain{
		present: true,
		rules: append([]string{
			"-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN " + divert,
			"-p " + f.icmp + " " + divert,
			// No rule after us may change the mark.
			fmt.Sprintf("-m mark --mark %#x -j ACCEPT", CaptureMark),
		}, r.capture(f, fmt.Sprintf("TPROXY --on-port %d --on-ip %s --tproxy-mark %#x/0xffffffff", r.ListenPort, f.anyAddr, CaptureMark))...),
		jumps: []jump{
			{from: "PREROUTING", at: 1, spec: "-p tcp " + to},
			{from: "PREROUTING", at: 2, spec: "-p " + f.icmp + " " + to},
		},
	}
}

// zone renders the chain that keeps connection tracking from taking the two
// connections, the client's with us and ours with the server, for one. They
// run between the same addresses and the same port of the server, and the port
// that the kernel picks for ours may be one that the client takes for its next.
// The client's are therefore tracked in a zone of their own.
func (r Rules) zone(f family) chain {
	rules := r.capture(f, fmt.Sprintf("CT --zone %d", connectionZone))
	if r.Mark != 0 && slices.Max(r.ports()) >= lowestEphemeral {
		// A captured port may be our own on a connection to a server. This
		// gives the answers to it the mark of our socket, which is exempt.
		rules = slices.Insert(rules, 0, "-m socket --transparent --restore-skmark")
	}
	return chain{
		present: true,
		rules:   rules,
		jumps:   []jump{{from: "PREROUTING", at: 1, spec: "-p tcp -j " + ours[raw].chain}},
	}
}

// replyZone renders the chain that does the same for our answers to clients,
// which nothing else on this machine sends from a foreign address.
func (r Rules) replyZone() chain {
	rules := append(r.own(), "-m addrtype --src-type LOCAL -j RETURN")
	for ports := range slices.Chunk(r.ports(), portsPerRule) {
		rules = append(rules, fmt.Sprintf("-p tcp -m multiport --sports %s -j CT --zone %d", list(ports), connectionZone))
	}
	return chain{
		present: true,
		rules:   rules,
		jumps:   []jump{{from: "OUTPUT", at: 1, spec: "-p tcp -j " + ours[reply].chain}},
	}
}

// routing renders what makes the kernel take captured packets, which are for
// addresses of others, as its own. The first rule spares what the kernel asks
// about by itself: the way back to the sender, for which it uses the mark where
// src_valid_mark is set, as WireGuard does, and would drop the packet; and the
// way for a reset that bears the mark of what it answers, under fwmark_reflect
// (ip-sysctl.rst).
func (r Rules) routing() routing {
	if !r.transparent() {
		return routing{}
	}
	return routing{
		rules: []string{
			fmt.Sprintf("pref %d from all fwmark %#x iif lo lookup %d", capturePref-1, CaptureMark, mainTable),
			fmt.Sprintf("pref %d from all fwmark %#x lookup %d", capturePref, CaptureMark, captureTable),
		},
		routes: []string{"local default dev lo"},
	}
}
