package ca

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Bounds of what is mirrored from an origin certificate, so that a cached leaf has a largest
// size. Public authorities stop at 100 names; the largest certificates of content networks seen
// have 150, in 3 KiB.
const (
	maxMirrored      = 256
	maxMirroredBytes = 8 << 10
)

// names is the content of a subject alternative name.
type names struct {
	dns []string
	ips []net.IP
}

// commonName is the first DNS name that fits, or "": then the subject is empty and the SAN
// critical. RFC 5280 appendix A.1: ub-common-name INTEGER ::= 64.
func (n names) commonName() string {
	for _, name := range n.dns {
		if len(name) <= 64 {
			return name
		}
	}
	return ""
}

// String is for errors: the first name, and how many more there are.
func (n names) String() string {
	first := ""
	switch {
	case len(n.dns) > 0:
		first = n.dns[0]
	case len(n.ips) > 0:
		first = n.ips[0].String()
	}
	if more := len(n.dns) + len(n.ips) - 1; more > 0 {
		return fmt.Sprintf("%q and %d more", first, more)
	}
	return fmt.Sprintf("%q", first)
}

// parseName returns the DNS name or IP address that a client asked for, as the one name of a
// certificate, and its canonical spelling.
func parseName(s string) (n names, canonical string, err error) {
	s = strings.TrimSuffix(s, ".")
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return n, "", fmt.Errorf("ca: %w: %.300q: an address with a zone", ErrName, s)
		}
		addr = addr.Unmap()
		return names{ips: []net.IP{addr.AsSlice()}}, addr.String(), nil
	}
	if problem := checkDNS(s); problem != "" {
		return n, "", fmt.Errorf("ca: %w: %.300q: %s", ErrName, s, problem)
	}
	s = strings.ToLower(s)
	return names{dns: []string{s}}, s, nil
}

// mirror returns the DNS names and addresses of an origin certificate, in its order, up to the
// bounds. Other kinds of name mean nothing to a TLS client that verifies a server.
func mirror(origin *x509.Certificate) (n names, err error) {
	size := 0
	room := func(more int) bool {
		size += more
		return size <= maxMirroredBytes && len(n.dns)+len(n.ips) < maxMirrored
	}
	for _, ip := range origin.IPAddresses {
		if !room(len(ip)) {
			break
		}
		n.ips = append(n.ips, ip)
	}
	for _, name := range origin.DNSNames {
		if checkDNS(strings.TrimPrefix(name, "*.")) != "" {
			continue
		}
		if !room(len(name)) {
			break
		}
		n.dns = append(n.dns, strings.ToLower(name))
	}
	if len(n.dns)+len(n.ips) == 0 {
		return n, fmt.Errorf("ca: %w: it has no usable name to mirror", ErrOrigin)
	}
	return n, nil
}

// checkDNS returns what is wrong with s as a DNS name in ASCII, or "". The alphabet is the one
// that crypto/x509 matches: a name outside it cannot have been verified upstream. International
// names arrive as A-labels (RFC 6066 section 3).
func checkDNS(s string) string {
	// RFC 1035 section 2.3.4: labels 63 octets or less, names 255 octets or less, which is 253
	// characters.
	if len(s) > 253 {
		return "longer than 253 characters"
	}
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case label == "":
			return "empty label"
		case len(label) > 63:
			return "label longer than 63 characters"
		case label[0] == '-':
			return "label begins with a hyphen"
		}
		for _, c := range []byte(label) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return "character outside letters, digits, hyphen and underscore"
			}
		}
	}
	return ""
}
