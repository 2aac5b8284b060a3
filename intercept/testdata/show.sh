#!/bin/sh
# framegate: TCP to ports 80,443 goes to port 8443 of this machine.
# Run as root; "framegate redirect down" takes it back.
(
set -eu

iptables-restore --noflush --wait=10 <<'EOF'
*nat
:FRAMEGATE - [0:0]
-A FRAMEGATE -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE -s 10.0.0.0/8 -j RETURN
-A FRAMEGATE -d 10.0.0.0/8 -j RETURN
-A FRAMEGATE -s 192.0.2.7/32 -j RETURN
-A FRAMEGATE -d 192.0.2.7/32 -j RETURN
-A FRAMEGATE -i lo -j RETURN
-A FRAMEGATE -m addrtype --dst-type LOCAL -j RETURN
-A FRAMEGATE -p tcp -m multiport --dports 80,443 -j REDIRECT --to-ports 8443
COMMIT
*filter
:FRAMEGATE-QUIC - [0:0]
-A FRAMEGATE-QUIC -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE-QUIC -s 10.0.0.0/8 -j RETURN
-A FRAMEGATE-QUIC -d 10.0.0.0/8 -j RETURN
-A FRAMEGATE-QUIC -s 192.0.2.7/32 -j RETURN
-A FRAMEGATE-QUIC -d 192.0.2.7/32 -j RETURN
-A FRAMEGATE-QUIC -p udp -m udp --dport 443 -j REJECT --reject-with icmp-port-unreachable
COMMIT
EOF
iptables -w 10 -t nat -C PREROUTING -p tcp -j FRAMEGATE 2>/dev/null ||
	iptables -w 10 -t nat -I PREROUTING 1 -p tcp -j FRAMEGATE
iptables -w 10 -t filter -C FORWARD -p udp -m udp --dport 443 -j FRAMEGATE-QUIC 2>/dev/null ||
	iptables -w 10 -t filter -I FORWARD 1 -p udp -m udp --dport 443 -j FRAMEGATE-QUIC

# a kernel without IPv6 needs no more
[ -e /proc/net/if_inet6 ] || exit 0

ip6tables-restore --noflush --wait=10 <<'EOF'
*nat
:FRAMEGATE - [0:0]
-A FRAMEGATE -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE -s 2001:db8::/32 -j RETURN
-A FRAMEGATE -d 2001:db8::/32 -j RETURN
-A FRAMEGATE -s fd00::/8 -j RETURN
-A FRAMEGATE -d fd00::/8 -j RETURN
-A FRAMEGATE -i lo -j RETURN
-A FRAMEGATE -m addrtype --dst-type LOCAL -j RETURN
-A FRAMEGATE -p tcp -m multiport --dports 80,443 -j REDIRECT --to-ports 8443
COMMIT
*filter
:FRAMEGATE-QUIC - [0:0]
-A FRAMEGATE-QUIC -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE-QUIC -s 2001:db8::/32 -j RETURN
-A FRAMEGATE-QUIC -d 2001:db8::/32 -j RETURN
-A FRAMEGATE-QUIC -s fd00::/8 -j RETURN
-A FRAMEGATE-QUIC -d fd00::/8 -j RETURN
-A FRAMEGATE-QUIC -p udp -m udp --dport 443 -j REJECT --reject-with icmp6-port-unreachable
COMMIT
EOF
ip6tables -w 10 -t nat -C PREROUTING -p tcp -j FRAMEGATE 2>/dev/null ||
	ip6tables -w 10 -t nat -I PREROUTING 1 -p tcp -j FRAMEGATE
ip6tables -w 10 -t filter -C FORWARD -p udp -m udp --dport 443 -j FRAMEGATE-QUIC 2>/dev/null ||
	ip6tables -w 10 -t filter -I FORWARD 1 -p udp -m udp --dport 443 -j FRAMEGATE-QUIC
)
