package intercept

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Rules says what the kernel brings to the gateway. It holds nothing of the
// kernel's state.
type Rules struct {
	// Mode is how: "redirect" or "tproxy". Empty means "redirect".
	Mode string
	// ListenPort is the gateway's TCP port. It has no default.
	ListenPort uint16
	// Ports are the TCP destination ports to capture. Empty means 80 and 443.
	Ports []uint16
	// Interfaces are those on which captured traffic arrives; a name that ends
	// in "+" stands for all that begin so. Empty means all but lo.
	Interfaces []string
	// Exclude are the networks left alone, as source and as destination.
	Exclude []netip.Prefix
	// Mark is the SO_MARK of the gateway's own sockets, whose packets are left
	// alone. 0 means no such exemption.
	Mark uint32
	// QUIC is what happens to UDP/443, through which HTTP/3 would pass unseen:
	// "block" rejects it so that clients fall back to TCP, "allow" forwards it.
	// Empty means "block".
	QUIC string
}

var defaultPorts = []uint16{80, 443}

// portsPerRule is XT_MULTI_PORTS in linux/netfilter/xt_multiport.h.
const portsPerRule = 15

// A name fits in IFNAMSIZ with its final NUL (dev_valid_name in the kernel's
// net/core/dev.c). Of the characters that the kernel would take, those that
// mean something to a shell or to iptables are left out.
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,13}[A-Za-z0-9_.+-]?$`)

// Validate reports every problem of r.
func (r Rules) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if r.Mode != "" && r.Mode != "redirect" && r.Mode != "tproxy" {
		bad(`mode %q is unknown, expected "redirect" or "tproxy"`, r.Mode)
	}
	if r.Mark == CaptureMark {
		bad("mark %#x is that of packets for the gateway, in mode tproxy, and cannot be that of its sockets", r.Mark)
	}
	if r.QUIC != "" && r.QUIC != "block" && r.QUIC != "allow" {
		bad(`quic %q is unknown, expected "block" or "allow"`, r.QUIC)
	}
	if r.ListenPort == 0 {
		bad("listen port 0: rules need the port that the gateway listens on")
	}
	for _, p := range r.Ports {
		switch p {
		case 0:
			bad("port 0 cannot be captured, expected 1 to 65535")
		case r.ListenPort:
			bad("port %d is the gateway's own listen port and cannot be captured", p)
		}
	}
	for _, name := range r.Interfaces {
		switch {
		case name == "lo":
			bad("interface lo carries only the gateway's own traffic and cannot be captured")
		case !interfaceName.MatchString(name):
			bad(`interface %q: expected a name of up to 15 letters, digits, "_", "." and "-", or a beginning and "+"`, name)
		}
	}
	for _, p := range r.Exclude {
		switch {
		case !p.IsValid():
			bad("exclude: invalid network, expected a CIDR such as 10.0.0.0/8")
		case p.Addr().Is4In6():
			bad("exclude %s: write an IPv4 network as such, %s/n", p, p.Addr().Unmap())
		}
	}
	return errors.Join(errs...)
}

// A family is what the rules of IPv4 and IPv6 do not share.
type family struct {
	name            string
	command         string // and with -save and -restore
	portUnreachable string // ICMP type of the QUIC rejection
	has             func(netip.Addr) bool
	ip              string // option of ip that selects it
	icmp            string // its ICMP, as a protocol of rules
	anyAddr         string // its unspecified address
}

var (
	ipv4 = family{"ipv4", "iptables", "icmp-port-unreachable", netip.Addr.Is4, "-4", "icmp", "0.0.0.0"}
	ipv6 = family{"ipv6", "ip6tables", "icmp6-port-unreachable", netip.Addr.Is6, "-6", "ipv6-icmp", "::"}
)

// ruleset renders r for one family, each rule exactly as iptables-save prints
// it, so that what is installed can be compared.
func (r Rules) ruleset(f family) ruleset {
	var s ruleset
	if r.transparent() {
		s[raw], s[reply], s[mangle] = r.zone(f), r.replyZone(), r.tproxy(f)
	} else {
		s[nat] = chain{
			present: true,
			rules:   r.capture(f, fmt.Sprintf("REDIRECT --to-ports %d", r.ListenPort)),
			jumps:   []jump{{from: "PREROUTING", at: 1, spec: "-p tcp -j " + ours[nat].chain}},
		}
	}
	if r.QUIC != "allow" {
		s[filter] = chain{
			present: true,
			rules:   r.exempt(f),
			jumps:   []jump{{from: "FORWARD", at: 1, spec: "-p udp -m udp --dport 443 -j " + ours[filter].chain}},
		}
		for _, in := range r.ingress() {
			s[filter].rules = append(s[filter].rules, in+"-p udp -m udp --dport 443 -j REJECT --reject-with "+f.portUnreachable)
		}
	}
	return s
}

// capture renders rules that lead what is to be captured to target.
func (r Rules) capture(f family, target string) []string {
	// Connections to the gateway itself, its ssh and its own port, stay what
	// they are.
	specs := append(r.exempt(f), "-i lo -j RETURN", "-m addrtype --dst-type LOCAL -j RETURN")
	for _, in := range r.ingress() {
		for ports := range slices.Chunk(r.ports(), portsPerRule) {
			specs = append(specs, fmt.Sprintf("%s-p tcp -m multiport --dports %s -j %s", in, list(ports), target))
		}
	}
	return specs
}

// exempt renders what no chain touches.
func (r Rules) exempt(f family) []string {
	specs := r.own()
	for _, p := range r.Exclude {
		switch {
		case !f.has(p.Addr()):
		case p.Bits() == 0: // a network of everything is no match at all
			specs = append(specs, "-j RETURN")
		default:
			specs = append(specs, fmt.Sprintf("-s %s -j RETURN", p.Masked()), fmt.Sprintf("-d %s -j RETURN", p.Masked()))
		}
	}
	return specs
}

// own renders what exempts the packets of our own sockets.
func (r Rules) own() []string {
	if r.Mark == 0 {
		return nil
	}
	return []string{fmt.Sprintf("-m mark --mark %#x -j RETURN", r.Mark)}
}

// ingress renders the interfaces as the beginnings of rules.
func (r Rules) ingress() []string {
	if len(r.Interfaces) == 0 {
		return []string{""}
	}
	var in []string
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.Interfaces))) {
		in = append(in, "-i "+name+" ")
	}
	return in
}

// ports returns the captured ports in order, each once.
func (r Rules) ports() []uint16 {
	ports := r.Ports
	if len(ports) == 0 {
		ports = defaultPorts
	}
	return slices.Compact(slices.Sorted(slices.Values(ports)))
}

func list(ports []uint16) string {
	s := make([]string, len(ports))
	for i, p := range ports {
		s[i] = strconv.Itoa(int(p))
	}
	return strings.Join(s, ",")
}
