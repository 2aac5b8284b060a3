package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"framegate/intercept"
)

// sysctlFile is where the fixes keep what they set over the next boot.
const sysctlFile = "/etc/sysctl.d/60-framegate.conf"

// setSysctl is the command that sets a key, by its path below /proc/sys, now and
// for good. With slashes a key may have dots in it, as names of interfaces do
// (sysctl(8)).
func setSysctl(key, value string) string {
	word := shellWord(key + "=" + value)
	return fmt.Sprintf("sysctl -w %s && echo %[1]s >>%s", word, sysctlFile)
}

// sysctl reads a number of the kernel, of the network namespace of this process.
func sysctl(key string) (int, error) {
	text, err := readText(filepath.Join("/proc/sys", key))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// checkForwarding asks whether this machine routes. Redirected connections end
// here, but everything else that clients do has to get through.
func (d *doctor) checkForwarding(context.Context) []diagnosis {
	bad := fail
	if d.config.Intercept.Explicit != "" {
		bad = warn // who only uses the explicit proxy needs no route
	}
	const consequence = "what is not redirected does not get through"
	var list []diagnosis
	switch on, err := sysctl("net/ipv4/ip_forward"); {
	case err != nil:
		list = append(list, warn("sysctl net.ipv4.ip_forward", "ipv4: not checked: %v", err))
	case on == 0:
		list = append(list, bad(setSysctl("net/ipv4/ip_forward", "1"), "ipv4: forwarding is off: %s", consequence))
	default:
		list = append(list, pass("ipv4: on"))
	}
	on, err := sysctl("net/ipv6/conf/all/forwarding")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		list = append(list, pass("ipv6: not in this kernel"))
	case err != nil:
		list = append(list, warn("sysctl net.ipv6.conf.all.forwarding", "ipv6: not checked: %v", err))
	case on == 0 && hasGlobalIPv6():
		list = append(list, bad(setSysctl("net/ipv6/conf/all/forwarding", "1"), "ipv6: forwarding is off: %s", consequence))
	case on == 0:
		list = append(list, pass("ipv6: off, and no interface has an address that others could use"))
	default:
		list = append(list, pass("ipv6: on"))
	}
	return list
}

// hasGlobalIPv6 says whether IPv6 is in use at all: every interface has a
// link-local address by itself.
func hasGlobalIPv6() bool {
	addrs, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Is6() && p.Addr().IsGlobalUnicast()
	})
}

// checkReversePath looks at rp_filter (Documentation/networking/ip-sysctl.rst: "The
// max value from conf/{all,interface}/rp_filter is used"). Strict, 1, drops a
// packet that came in by another interface than the one that leads back to its
// sender; loose, 2, does not.
func (d *doctor) checkReversePath(context.Context) []diagnosis {
	names, err := d.ingress()
	if err != nil {
		return []diagnosis{warn("ip link", "not checked: %v", err)}
	}
	all, err := sysctl("net/ipv4/conf/all/rp_filter")
	if err != nil {
		return []diagnosis{warn("sysctl net.ipv4.conf.all.rp_filter", "not checked: %v", err)}
	}
	var list []diagnosis
	for _, name := range names {
		// Not filepath.Join of what is no file name: the kernel allows no slash in it.
		value, err := sysctl("net/ipv4/conf/" + name + "/rp_filter")
		if err != nil {
			continue // it has gone meanwhile
		}
		if max(all, value) == 1 {
			list = append(list, warn(setSysctl("net/ipv4/conf/"+name+"/rp_filter", "2"),
				"%s: strict: connections of clients to which another interface leads are dropped unseen", name))
		}
	}
	if len(names) == 0 {
		return []diagnosis{warn("ip -brief link  # then intercept.interfaces", "no interface is there on which traffic could come in")}
	}
	if list == nil {
		return []diagnosis{pass("loose or off on %s", counted(len(names), "interface"))}
	}
	return list
}

// ingress lists the interfaces on which traffic to capture may come in.
func (d *doctor) ingress() ([]string, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range interfaces {
		wanted := len(d.config.Intercept.Interfaces) == 0 && i.Flags&net.FlagLoopback == 0
		for _, pattern := range d.config.Intercept.Interfaces {
			prefix, open := strings.CutSuffix(pattern, "+")
			wanted = wanted || pattern == i.Name || open && strings.HasPrefix(i.Name, prefix)
		}
		if wanted {
			names = append(names, i.Name)
		}
	}
	return names, nil
}

// checkConntrack compares the table of connections with limits.max_connections: a
// redirected one has an entry, and ours to its server another.
func (d *doctor) checkConntrack(context.Context) []diagnosis {
	const dir = "net/netfilter/"
	most, err := sysctl(dir + "nf_conntrack_max")
	if errors.Is(err, fs.ErrNotExist) {
		return []diagnosis{warn("modprobe nf_conntrack", "the kernel tracks no connections yet: the redirect rules need it")}
	}
	if err != nil {
		return []diagnosis{warn("sysctl net.netfilter.nf_conntrack_max", "not checked: %v", err)}
	}
	used, err := sysctl(dir + "nf_conntrack_count")
	if err != nil {
		used = 0
	}
	want := 2 * d.config.Limits.MaxConnections
	// At a boot keys are set after modules-load.d(5), and this one is there with its module only.
	raise := func(n int) string {
		return setSysctl(dir+"nf_conntrack_max", strconv.Itoa(n)) + " && echo nf_conntrack >/etc/modules-load.d/60-framegate.conf"
	}
	switch {
	case want > most:
		return []diagnosis{fail(raise(want+want/4),
			"room for %d entries; limits.max_connections = %d takes %d", most, d.config.Limits.MaxConnections, want)}
	case used > most/10*9:
		return []diagnosis{fail(raise(2*most),
			"%d of %d entries are in use: new connections are about to be dropped", used, most)}
	}
	return []diagnosis{pass("%d of %d entries are in use", used, most)}
}

// checkOutgoing compares limits.max_connections with the source ports that this machine
// has towards one address of a server. In mode "tproxy" they are those of each client.
func (d *doctor) checkOutgoing(context.Context) []diagnosis {
	const key = "net/ipv4/ip_local_port_range" // of IPv6, too (ip-sysctl.rst)
	text, err := readText(filepath.Join("/proc/sys", key))
	var first, last int
	if err == nil {
		_, err = fmt.Sscan(text, &first, &last)
	}
	if err != nil {
		return []diagnosis{warn("sysctl net.ipv4.ip_local_port_range", "not checked: %v", err)}
	}
	room := last - first + 1
	if want := d.config.Limits.MaxConnections; want > room && !d.transparent() {
		// Above the ports that we listen on by default.
		const wide = "10240 65535"
		if room >= 65535-10240+1 {
			return []diagnosis{warn("# give the server, or this gateway, more addresses", "%d source ports towards one address of a server; limits.max_connections = %d", room, want)}
		}
		return []diagnosis{warn(setSysctl(key, wide), "%d source ports, and so no more connections to one address and port of a server; limits.max_connections = %d", room, want)}
	}
	return []diagnosis{pass("%d source ports towards each address and port of a server", room)}
}

// checkRules compares the redirect rules of each family with the configuration.
func (d *doctor) checkRules(ctx context.Context) []diagnosis {
	rules, err := d.config.rules()
	if err == nil {
		d.rules, err = intercept.Status(ctx, intercept.Exec{}, rules)
	}
	if d.rulesErr = err; err != nil {
		return []diagnosis{d.mistake(err)}
	}
	var list []diagnosis
	for _, f := range d.rules.Families {
		list = append(list, d.rulesOf(f, false, func() diagnosis {
			if d.gateway == nil && d.config.Intercept.Explicit == "" {
				return fail("systemctl start framegate  # or "+d.command("redirect down"),
					"%s: the rules are up and no gateway runs: what they capture %s", f.Family, d.unheard())
			}
			return pass("%s: up and in order, %s captured", f.Family, counted(int(f.Captured), "connection"))
		}))
	}
	return list
}

// checkQUIC is about the rules for UDP/443, by which HTTP/3 would pass unseen.
func (d *doctor) checkQUIC(context.Context) []diagnosis {
	if d.config.Intercept.QUIC == "allow" {
		return []diagnosis{warn(`# set intercept.quic = "block", then `+d.command("redirect up"), "UDP/443 is let through: HTTP/3 is not inspected")}
	}
	if d.rulesErr != nil {
		return []diagnosis{d.mistake(d.rulesErr)}
	}
	var list []diagnosis
	for _, f := range d.rules.Families {
		list = append(list, d.rulesOf(f, true, func() diagnosis {
			return pass("%s: UDP/443 is rejected, %s so far", f.Family, counted(int(f.Rejected), "packet"))
		}))
	}
	return list
}

// rulesOf judges the rules for UDP/443 (quic) or all others of a family. good is
// asked if nothing is wrong with them.
func (d *doctor) rulesOf(f intercept.FamilyReport, quic bool, good func() diagnosis) diagnosis {
	up := d.command("redirect up")
	if d.gateway == nil {
		up += "  # once the gateway runs: until then what is captured " + d.unheard()
	}
	if f.State == intercept.StateDown {
		if d.config.Intercept.Explicit != "" {
			return warn(up, "%s: no rules, only the explicit proxy is in use", f.Family)
		}
		return fail(up, "%s: no rules: nothing is captured", f.Family)
	}
	var lines []string
	for _, line := range f.Detail {
		if strings.HasPrefix(line, "filter: ") == quic {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return good()
	}
	return fail(up, "%s: %s", f.Family, strings.Join(lines, "; "))
}
