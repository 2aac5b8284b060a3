#!/bin/sh
# framegate: TCP to ports 80,443 goes to port 8443 of this machine.
# Run as root; "framegate redirect down" takes it back.
(
set -eu

ip -4 route replace local default dev lo table 17991
ip -4 -N rule show | grep -q '^99:[[:space:]]*from all fwmark 0x46475450 iif lo lookup 254 *$' ||
	ip -4 rule add pref 99 from all fwmark 0x46475450 iif lo lookup 254
ip -4 -N rule show | grep -q '^100:[[:space:]]*from all fwmark 0x46475450 lookup 17991 *$' ||
	ip -4 rule add pref 100 from all fwmark 0x46475450 lookup 17991

iptables-restore --noflush --wait=10 <<'EOF'
*filter
:FRAMEGATE-QUIC - [0:0]
-A FRAMEGATE-QUIC -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE-QUIC -p udp -m udp --dport 443 -j REJECT --reject-with icmp-port-unreachable
COMMIT
*raw
:FRAMEGATE - [0:0]
-A FRAMEGATE -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE -i lo -j RETURN
-A FRAMEGATE -m addrtype --dst-type LOCAL -j RETURN
-A FRAMEGATE -p tcp -m multiport --dports 80,443 -j CT --zone 17991
:FRAMEGATE-REPLY - [0:0]
-A FRAMEGATE-REPLY -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE-REPLY -m addrtype --src-type LOCAL -j RETURN
-A FRAMEGATE-REPLY -p tcp -m multiport --sports 80,443 -j CT --zone 17991
COMMIT
*mangle
:FRAMEGATE - [0:0]
-A FRAMEGATE -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m socket --transparent -j MARK --set-xmark 0x46475450/0xffffffff
-A FRAMEGATE -p icmp -m socket --transparent -j MARK --set-xmark 0x46475450/0xffffffff
-A FRAMEGATE -m mark --mark 0x46475450 -j ACCEPT
-A FRAMEGATE -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE -i lo -j RETURN
-A FRAMEGATE -m addrtype --dst-type LOCAL -j RETURN
-A FRAMEGATE -p tcp -m multiport --dports 80,443 -j TPROXY --on-port 8443 --on-ip 0.0.0.0 --tproxy-mark 0x46475450/0xffffffff
COMMIT
EOF
iptables -w 10 -t filter -C FORWARD -p udp -m udp --dport 443 -j FRAMEGATE-QUIC 2>/dev/null ||
	iptables -w 10 -t filter -I FORWARD 1 -p udp -m udp --dport 443 -j FRAMEGATE-QUIC
iptables -w 10 -t raw -C PREROUTING -p tcp -j FRAMEGATE 2>/dev/null ||
	iptables -w 10 -t raw -I PREROUTING 1 -p tcp -j FRAMEGATE
iptables -w 10 -t raw -C OUTPUT -p tcp -j FRAMEGATE-REPLY 2>/dev/null ||
	iptables -w 10 -t raw -I OUTPUT 1 -p tcp -j FRAMEGATE-REPLY
iptables -w 10 -t mangle -C PREROUTING -p tcp -j FRAMEGATE 2>/dev/null ||
	iptables -w 10 -t mangle -I PREROUTING 1 -p tcp -j FRAMEGATE
iptables -w 10 -t mangle -C PREROUTING -p icmp -j FRAMEGATE 2>/dev/null ||
	iptables -w 10 -t mangle -I PREROUTING 2 -p icmp -j FRAMEGATE

# a kernel without IPv6 needs no more
[ -e /proc/net/if_inet6 ] || exit 0

ip -6 route replace local default dev lo table 17991
ip -6 -N rule show | grep -q '^99:[[:space:]]*from all fwmark 0x46475450 iif lo lookup 254 *$' ||
	ip -6 rule add pref 99 from all fwmark 0x46475450 iif lo lookup 254
ip -6 -N rule show | grep -q '^100:[[:space:]]*from all fwmark 0x46475450 lookup 17991 *$' ||
	ip -6 rule add pref 100 from all fwmark 0x46475450 lookup 17991

ip6tables-restore --noflush --wait=10 <<'EOF'
*filter
:FRAMEGATE-QUIC - [0:0]
-A FRAMEGATE-QUIC -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE-QUIC -p udp -m udp --dport 443 -j REJECT --reject-with icmp6-port-unreachable
COMMIT
*raw
:FRAMEGATE - [0:0]
-A FRAMEGATE -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE -i lo -j RETURN
-A FRAMEGATE -m addrtype --dst-type LOCAL -j RETURN
-A FRAMEGATE -p tcp -m multiport --dports 80,443 -j CT --zone 17991
:FRAMEGATE-REPLY - [0:0]
-A FRAMEGATE-REPLY -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE-REPLY -m addrtype --src-type LOCAL -j RETURN
-A FRAMEGATE-REPLY -p tcp -m multiport --sports 80,443 -j CT --zone 17991
COMMIT
*mangle
:FRAMEGATE - [0:0]
-A FRAMEGATE -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m socket --transparent -j MARK --set-xmark 0x46475450/0xffffffff
-A FRAMEGATE -p ipv6-icmp -m socket --transparent -j MARK --set-xmark 0x46475450/0xffffffff
-A FRAMEGATE -m mark --mark 0x46475450 -j ACCEPT
-A FRAMEGATE -m mark --mark 0x4647 -j RETURN
-A FRAMEGATE -i lo -j RETURN
-A FRAMEGATE -m addrtype --dst-type LOCAL -j RETURN
-A FRAMEGATE -p tcp -m multiport --dports 80,443 -j TPROXY --on-port 8443 --on-ip :: --tproxy-mark 0x46475450/0xffffffff
COMMIT
EOF
ip6tables -w 10 -t filter -C FORWARD -p udp -m udp --dport 443 -j FRAMEGATE-QUIC 2>/dev/null ||
	ip6tables -w 10 -t filter -I FORWARD 1 -p udp -m udp --dport 443 -j FRAMEGATE-QUIC
ip6tables -w 10 -t raw -C PREROUTING -p tcp -j FRAMEGATE 2>/dev/null ||
	ip6tables -w 10 -t raw -I PREROUTING 1 -p tcp -j FRAMEGATE
ip6tables -w 10 -t raw -C OUTPUT -p tcp -j FRAMEGATE-REPLY 2>/dev/null ||
	ip6tables -w 10 -t raw -I OUTPUT 1 -p tcp -j FRAMEGATE-REPLY
ip6tables -w 10 -t mangle -C PREROUTING -p tcp -j FRAMEGATE 2>/dev/null ||
	ip6tables -w 10 -t mangle -I PREROUTING 1 -p tcp -j FRAMEGATE
ip6tables -w 10 -t mangle -C PREROUTING -p ipv6-icmp -j FRAMEGATE 2>/dev/null ||
	ip6tables -w 10 -t mangle -I PREROUTING 2 -p ipv6-icmp -j FRAMEGATE
)
