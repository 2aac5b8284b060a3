package intercept

import (
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// talk runs clients of the witness and checks that it saw them where and from
// where it should.
func (l *lab) talk(a talkArg, from string) talked {
	l.t.Helper()
	out := l.run(l.client, "talk", a)
	var all talked
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		l.t.Fatalf("%+v: %s", a, out)
	}
	for _, seen := range all.Seen {
		at, remote, _ := strings.Cut(seen, " ")
		client, err := netip.ParseAddrPort(remote)
		if at != a.Addr || err != nil || client.Addr().String() != from {
			l.t.Errorf("%+v: the server says %q, want %s from %s", a, seen, a.Addr, from)
		}
	}
	return all
}

const (
	client4 = "10.99.0.2"
	client6 = "fd99::2"
)

// firewall is what many gateways have: what connection tracking cannot make
// sense of is dropped, in and out.
const firewall = `set -e; for i in iptables ip6tables; do
	$i -A INPUT -m conntrack --ctstate INVALID -j DROP
	$i -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	$i -A INPUT -p tcp -m multiport --dports 80,443,9443,40000 -m mark --mark 0x46475450 -j ACCEPT
	$i -A INPUT -p tcp -m addrtype --dst-type LOCAL -j ACCEPT
	$i -A INPUT -p ipv6-icmp -j ACCEPT 2>/dev/null || :
	$i -P INPUT DROP
	$i -A OUTPUT -m conntrack --ctstate INVALID -j DROP
done`

func TestTransparent(t *testing.T) {
	l := newLab(t)
	l.start(l.server, "witness", nil)
	l.start(l.gateway, "origin", []string{}) // the gateway's own web server
	stop := l.start(l.gateway, "relay", ":8443")
	rules := Rules{Mode: "tproxy", ListenPort: 8443, Mark: mark, Ports: []uint16{80, 443, 9443, 40000}, Exclude: prefixes(other4+"/32", "2001:db8:99::20/128")}
	l.in(l.gateway, firewall)
	for name, dir := range variants(t, l) {
		t.Run(name, func(t *testing.T) {
			l := &lab{t, l.client, l.gateway, l.server}
			if out := l.run(l.gateway, "redirect", redirectArg{"up", rules}, "FGI_DIR="+dir); out != "ok" {
				t.Fatalf("up: %s", out)
			}
			defer l.run(l.gateway, "redirect", redirectArg{Op: "down"}, "FGI_DIR="+dir)
			for server, client := range map[string]string{server4: client4, server6: client6} {
				l.talk(talkArg{Addr: server + ":443"}, client)
				l.talk(talkArg{Addr: server + ":8080"}, client) // forwarded
				// A refusal of the server reaches the client as such.
				if got := l.dial(l.client, server+":80"); !strings.Contains(got, "connection refused") {
					t.Errorf("closed port: %s", got)
				}

				many := l.talk(talkArg{Addr: server + ":443", Conns: 200}, client)
				seen := map[string]bool{}
				for _, s := range many.Seen {
					seen[s] = true
				}
				if len(seen) != 200 {
					t.Errorf("%d connections to the server at once, want 200", len(seen))
				}
				for _, abort := range []bool{false, true} {
					if again := l.talk(talkArg{Addr: server + ":443", Again: 5, Abort: abort}, client); again.Resent > 0 {
						t.Errorf("from one port again, abort %v: %d segments sent again", abort, again.Resent)
					}
				}
				if clash := l.talk(talkArg{Addr: server + ":443", Clash: true}, client); clash.Resent > 0 {
					t.Errorf("from the gateway's port: %d segments sent again", clash.Resent)
				}
			}
			for server, client := range map[string]string{other4: client4, "[2001:db8:99::20]": client6} {
				l.talk(talkArg{Addr: server + ":443"}, client) // excluded
			}
			for _, addr := range []string{"10.99.0.1:443", "[fd99::1]:443"} {
				if got := l.dial(l.client, addr); got != origin(addr) {
					t.Errorf("the gateway itself: got %q", got)
				}
			}
			for _, addr := range []string{"10.99.0.1:8443", "[fd99::1]:8443"} {
				if got := l.dial(l.client, addr); !strings.Contains(got, "connection reset by peer") {
					t.Errorf("straight to the port: got %q", got)
				}
			}
			rep := Report{}
			out := l.run(l.gateway, "redirect", redirectArg{"status", rules}, "FGI_DIR="+dir)
			if err := json.Unmarshal([]byte(out), &rep); err != nil || rep.State != StateUp || rep.Families[0].Captured < 200 || rep.Families[1].Captured < 200 {
				t.Errorf("status %s", out)
			}
		})
	}
	log := stop()
	for _, want := range []string{"client=10.99.0.2:", "local=10.99.0.1:8443", "client=[fd99::2]:", ErrNotRedirected.Error()} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
}

// What others set on gateways does not keep packets from us: the strict filter
// of reverse paths, marks in its look-ups and in resets, and no forwarding.
func TestTransparentSettings(t *testing.T) {
	l := newLab(t)
	l.start(l.server, "witness", nil)
	l.start(l.gateway, "relay", ":8443")
	l.up(Rules{Mode: "tproxy", ListenPort: 8443, Mark: mark})
	for _, setting := range []string{
		"ipv4/conf/all/rp_filter 1", "ipv4/conf/all/src_valid_mark 1", "ipv4/fwmark_reflect 1", "ipv6/fwmark_reflect 1",
		"ipv4/ip_forward 0", "ipv6/conf/all/forwarding 0",
	} {
		name, value, _ := strings.Cut(setting, " ")
		l.in(l.gateway, "echo "+value+" >/proc/sys/net/"+name)
	}
	l.talk(talkArg{Addr: server4 + ":443"}, client4)
	l.talk(talkArg{Addr: server6 + ":443"}, client6)

	// Where addresses are translated afterwards, the server sees that of the
	// gateway, and is reached all the same.
	l.in(l.gateway, "iptables -t nat -A POSTROUTING -o srv -j MASQUERADE; ip6tables -t nat -A POSTROUTING -o srv -j MASQUERADE")
	l.talk(talkArg{Addr: server4 + ":443"}, "203.0.113.1")
	l.talk(talkArg{Addr: server6 + ":443"}, "2001:db8:99::1")
}

// What passed by before the rules came is not left to pass by. What came by
// them stays when they change.
func TestTransparentLive(t *testing.T) {
	l := newLab(t)
	l.start(l.server, "witness", nil)
	l.start(l.gateway, "relay", ":8443")
	rules := Rules{Mode: "tproxy", ListenPort: 8443, Mark: mark}
	for _, server := range []string{server4, server6} {
		before := l.start(l.client, "hold", server+":443")
		l.up(rules)
		if got := before(); !strings.Contains(got, "connection reset by peer") {
			t.Errorf("a connection from before the rules: %s", got)
		}
		within := l.start(l.client, "hold", server+":443")
		changed := rules
		changed.Exclude = prefixes("203.0.113.0/24", "2001:db8:99::/64")
		l.up(changed)
		after := l.start(l.client, "hold", server+":443")
		for what, stop := range map[string]func() string{"excluded since": within, "excluded": after} {
			if got := stop(); got != "said: <nil>\n" {
				t.Errorf("a connection %s: %s", what, got)
			}
		}
		l.down()
	}
}

// A client's ports may run out towards one server, which does not concern the
// others.
func TestTransparentPorts(t *testing.T) {
	l := newLab(t)
	l.start(l.server, "witness", nil)
	l.start(l.gateway, "relay", ":8443")
	l.in(l.gateway, "echo 50000 50001 >/proc/sys/net/ipv4/ip_local_port_range")
	l.up(Rules{Mode: "tproxy", ListenPort: 8443, Mark: mark})
	for server, other := range map[string]string{server4: other4, server6: other6} {
		for range 2 {
			l.start(l.client, "hold", server+":443")
		}
		if got := l.dial(l.client, server+":443"); !strings.HasSuffix(got, "connect: cannot assign requested address") {
			t.Errorf("the third connection to %s: %s", server, got)
		}
		if got := l.dial(l.client, other+":443"); !strings.HasPrefix(got, other+":443 ") {
			t.Errorf("a connection to another server: %s", got)
		}
	}
}

// An ICMP error on what we sent from a client's address is for us.
func TestTransparentICMP(t *testing.T) {
	l := newLab(t)
	l.start(l.gateway, "relay", ":8443")
	l.up(Rules{Mode: "tproxy", ListenPort: 8443, Mark: mark})
	l.in(l.server, "iptables -A INPUT -p tcp --dport 443 -j REJECT --reject-with icmp-host-prohibited")
	l.in(l.server, "ip6tables -A INPUT -p tcp --dport 443 -j REJECT --reject-with icmp6-addr-unreachable")
	var wg sync.WaitGroup
	for _, addr := range []string{server4 + ":443", server6 + ":443"} {
		wg.Go(func() {
			if got := l.dial(l.client, addr); !strings.Contains(got, "no route to host") {
				t.Errorf("%s: %q", addr, got)
			}
		})
	}
	wg.Wait()
}
