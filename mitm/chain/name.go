package chain

import (
	"crypto/x509"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// checkName verifies that a certificate was issued for name. Without a name
// none of its names may be misused, since any of them may be what the client
// goes by.
func checkName(c *x509.Certificate, name string) *Error {
	if len(c.DNSNames)+len(c.IPAddresses) == 0 {
		// RFC 9525, Section 2: a name in the subject's common name is none.
		return fault(NoSAN, c, "its subjectAltName has no DNS name and no address")
	}
	if name == "" {
		if i := slices.IndexFunc(c.DNSNames, misused); i >= 0 {
			return fault(Wildcard, c, "its name %q has a wildcard where none may be", shorten(c.DNSNames[i]))
		}
		return nil
	}
	if Covers(c, name) {
		return nil
	}
	for _, pattern := range c.DNSNames {
		if misused(pattern) && laxly(strings.ToLower(pattern), strings.ToLower(strings.TrimSuffix(name, "."))) {
			return fault(Wildcard, c, "%q is covered by %q only, which has a wildcard where none may be", shorten(name), shorten(pattern))
		}
	}
	return fault(NameMismatch, c, "it is not issued for %q", shorten(name))
}

// Covers reports whether a certificate is issued for name, by a name without a
// wildcard or by one with a wildcard that is in its place.
func Covers(c *x509.Certificate, name string) bool {
	if slices.ContainsFunc(c.DNSNames, misused) {
		sound := *c
		sound.DNSNames = slices.DeleteFunc(slices.Clone(c.DNSNames), misused)
		c = &sound
	}
	return c.VerifyHostname(name) == nil
}

// misused reports whether a name has a wildcard that is not the whole of the
// leftmost label (RFC 9525, Section 6.3), or that stands for everything below a
// public suffix (Baseline Requirements, Section 3.2.2.6). The suffixes that
// their owners made public, such as github.io, are the owner's to certify.
func misused(name string) bool {
	if !strings.Contains(name, "*") {
		return false
	}
	base, ok := strings.CutPrefix(strings.ToLower(strings.TrimSuffix(name, ".")), "*.")
	if !ok || strings.Contains(base, "*") || !strings.Contains(base, ".") {
		return true
	}
	suffix, icann := publicsuffix.PublicSuffix(base)
	return icann && suffix == base
}

// laxly matches a name as a careless reader would, each wildcard standing for
// any text.
func laxly(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	name, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return strings.HasSuffix(name, last)
}
