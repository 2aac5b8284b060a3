package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// ErrConstraint: a name is outside those that the authority may certify.
var ErrConstraint = errors.New("outside the name constraints of the authority")

// limits are the name constraints (RFC 5280 section 4.2.1.10) of every certificate of a chain: a
// name has to satisfy each. Clients check them too, if they know how; here no leaf outside is
// minted in the first place.
type limits []limit

type limit struct {
	permitDNS, excludeDNS []string
	permitIP, excludeIP   []*net.IPNet
}

func limitsOf(c *x509.Certificate) limits {
	l := limit{c.PermittedDNSDomains, c.ExcludedDNSDomains, c.PermittedIPRanges, c.ExcludedIPRanges}
	if len(l.permitDNS)+len(l.excludeDNS)+len(l.permitIP)+len(l.excludeIP) == 0 {
		return nil
	}
	return limits{l}
}

// dns reports whether a DNS name, in lower case, or a wildcard is inside.
func (ls limits) dns(name string) bool {
	for _, l := range ls {
		for _, domain := range l.excludeDNS {
			// A wildcard would also stand for what is excluded below it.
			if base, ok := strings.CutPrefix(name, "*."); ok && within(strings.TrimPrefix(domain, "."), base) {
				return false
			}
			if within(name, domain) {
				return false
			}
		}
		if len(l.permitDNS) > 0 && !slices.ContainsFunc(l.permitDNS, func(domain string) bool { return within(name, domain) }) {
			return false
		}
	}
	return true
}

// ip reports whether an address is inside.
func (ls limits) ip(ip net.IP) bool {
	for _, l := range ls {
		contains := func(n *net.IPNet) bool { return n.Contains(ip) }
		if slices.ContainsFunc(l.excludeIP, contains) || len(l.permitIP) > 0 && !slices.ContainsFunc(l.permitIP, contains) {
			return false
		}
	}
	return true
}

// within: "Any DNS name that can be constructed by simply adding zero or more labels to the
// left-hand side of the name satisfies the name constraint." One that begins with a period wants
// at least one label more, as crypto/x509 and OpenSSL read it.
func within(name, domain string) bool {
	domain = strings.ToLower(domain)
	if domain == "" || name == domain {
		return true
	}
	if !strings.HasPrefix(domain, ".") {
		domain = "." + domain
	}
	return strings.HasSuffix(name, domain)
}

// names returns those of n that are inside, and whether that is all of them.
func (ls limits) names(n names) (inside names, all bool) {
	if len(ls) == 0 {
		return n, true
	}
	for _, name := range n.dns {
		if ls.dns(name) {
			inside.dns = append(inside.dns, name)
		}
	}
	for _, ip := range n.ips {
		if ls.ip(ip) {
			inside.ips = append(inside.ips, ip)
		}
	}
	return inside, len(inside.dns) == len(n.dns) && len(inside.ips) == len(n.ips)
}

// everyAddress: who permits DNS names alone means no addresses, but a constraint on one kind of
// name says nothing about another.
var everyAddress = []*net.IPNet{
	{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
	{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
}

// limitNames writes name constraints into the template of a CA certificate. "Conforming CAs MUST
// mark this extension as critical".
func limitNames(tmpl *x509.Certificate, permit, exclude []string) {
	tmpl.PermittedDNSDomains, tmpl.ExcludedDNSDomains = permit, exclude
	tmpl.PermittedDNSDomainsCritical = len(permit)+len(exclude) > 0
	if len(permit) > 0 {
		tmpl.ExcludedIPRanges = everyAddress
	}
}

// checkDomains returns list in lower case, if each is a domain as a constraint names it.
func checkDomains(what string, list []string) ([]string, error) {
	if list == nil {
		return nil, nil
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		if problem := checkDNS(strings.TrimPrefix(s, ".")); problem != "" {
			return nil, fmt.Errorf("ca: %s %.300q: %s; expected a domain such as example.com, which stands for all below it too", what, s, problem)
		}
		out = append(out, strings.ToLower(s))
	}
	return out, nil
}
