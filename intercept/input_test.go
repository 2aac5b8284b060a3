package intercept

import (
	"strings"
	"testing"
)

// What captured connections meet in INPUT. In each table the last word is the policy's.
func TestInput(t *testing.T) {
	for _, tt := range []struct {
		name, mode, saved string
		dropped, some     string
		meant             bool
	}{
		{name: "no firewall", saved: ":INPUT ACCEPT [0:0]"},
		{name: "no table", saved: ""},
		{name: "policy", saved: ":INPUT DROP [0:0]", dropped: "-P INPUT DROP"},
		{name: "others only", saved: `:INPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p udp -m udp --dport 8443 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -m comment --comment "ssh -j ACCEPT" -j ACCEPT
-A INPUT -p tcp -m tcp ! --dport 8000:9000 -j ACCEPT
-A INPUT -m addrtype --dst-type MULTICAST -j ACCEPT
-A INPUT -j LOG`, dropped: "-P INPUT DROP"},
		{name: "the port", saved: ":INPUT DROP [0:0]\n-A INPUT -p tcp -m multiport --dports 22,8000:9000 -j ACCEPT"},
		{name: "what was redirected", saved: ":INPUT DROP [0:0]\n-A INPUT -p tcp -m conntrack --ctstate DNAT -j ACCEPT"},
		{name: "the captured port is not the one that arrives", saved: ":INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT", dropped: "-P INPUT DROP"},
		{name: "the port, for some", saved: ":INPUT DROP [0:0]\n-A INPUT -s 192.0.2.0/24 -j ACCEPT\n-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 8443 -j ACCEPT",
			dropped: "-P INPUT DROP", some: "-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 8443 -j ACCEPT", meant: true},
		{name: "some", saved: ":INPUT DROP [0:0]\n-A INPUT -s 192.0.2.7/32 -j ACCEPT", dropped: "-P INPUT DROP", some: "-A INPUT -s 192.0.2.7/32 -j ACCEPT"},
		{name: "a last rule", saved: ":INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-port-unreachable",
			dropped: "-A INPUT -j REJECT --reject-with icmp-port-unreachable"},
		{name: "who comes too often", saved: ":INPUT ACCEPT [0:0]\n-A INPUT -s 192.0.2.7/32 -j DROP\n-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m limit --limit 9/sec -j DROP"},
		{name: "no SYN", saved: ":INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP"},
		{name: "chains", saved: `:INPUT DROP [0:0]
:a - [0:0]
:b - [0:0]
-A INPUT -p udp -j b
-A INPUT -j a
-A a -p tcp -j RETURN
-A a -j DROP
-A INPUT -p tcp -m tcp --dport 8443 -j b
-A b -j ACCEPT`},
		{name: "a chain for some", saved: ":INPUT ACCEPT [0:0]\n-A INPUT -s 192.0.2.7/32 -j a\n-A a -j DROP"},
		{name: "left by some", saved: ":INPUT ACCEPT [0:0]\n-A INPUT -j a\n-A a -s 10.0.0.0/8 -j RETURN\n-A a -j DROP"},
		{name: "interface", saved: ":INPUT DROP [0:0]\n-A INPUT -i lan0 -j ACCEPT"},
		{name: "another interface", saved: ":INPUT DROP [0:0]\n-A INPUT -i wan0 -j ACCEPT", dropped: "-P INPUT DROP", some: "-A INPUT -i wan0 -j ACCEPT"},
		{name: "transparent: the captured ports", mode: "tproxy", saved: ":INPUT DROP [0:0]\n-A INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT"},
		{name: "transparent: one of them", mode: "tproxy", saved: ":INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT",
			dropped: "-P INPUT DROP", some: "-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT", meant: true},
		{name: "transparent: the mark", mode: "tproxy", saved: ":INPUT DROP [0:0]\n-A INPUT -m mark --mark 0x46475450 -j ACCEPT"},
		{name: "transparent: another mark", mode: "tproxy", saved: ":INPUT DROP [0:0]\n-A INPUT -m mark --mark 0x1/0xff -j ACCEPT", dropped: "-P INPUT DROP"},
		{name: "transparent: the listener's port", mode: "tproxy", saved: ":INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 8443 -j ACCEPT", dropped: "-P INPUT DROP"},
		{name: "transparent: by socket", mode: "tproxy", saved: ":INPUT DROP [0:0]\n-A INPUT -m socket --transparent -j ACCEPT"},
		{name: "no end", saved: ":INPUT DROP [0:0]\n-A INPUT -j a\n-A a -j a\n-A INPUT !", dropped: "-P INPUT DROP"},
	} {
		rules := Rules{Mode: tt.mode, ListenPort: 8443, Interfaces: []string{"lan0"}}
		got := rules.input(ipv4, "*filter\n"+tt.saved+"\nCOMMIT\n")
		if got.Dropped != tt.dropped || got.Dropped != "" && (got.Some != tt.some || got.Meant != tt.meant) {
			t.Errorf("%s: %+v", tt.name, got)
		}
		// What mends it does.
		if got.Dropped != "" {
			mend := strings.Replace(got.Mend, "iptables -I", "-A", 1)
			if again := rules.input(ipv4, "*filter\n"+strings.Replace(tt.saved, "\n", "\n"+mend+"\n", 1)+"\n"+mend+"\n"); strings.Contains(tt.saved, "\n") && again.Dropped != "" {
				t.Errorf("%s: after %s %+v", tt.name, got.Mend, again)
			}
		}
	}
}
