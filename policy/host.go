package policy

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// glob matches a list of labels or segments. "*" stands for exactly one, "**"
// for any number of them, none included.
func glob(pattern, parts []string) bool {
	// On a mismatch only the latest "**" can help, by taking one part more.
	p, i, star, taken := 0, 0, -1, 0
	for i < len(parts) {
		switch {
		case p < len(pattern) && pattern[p] == "**":
			star, taken = p, i
			p++
		case p < len(pattern) && (pattern[p] == "*" || pattern[p] == parts[i]):
			p++
			i++
		case star >= 0:
			taken++
			p, i = star+1, taken
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == "**" {
		p++
	}
	return p == len(pattern)
}

// idnaProfile maps a name as a browser does before it looks it up (UTS #46,
// non-transitional), but without the letter-digit-hyphen rule: real names have
// underscores, or hyphens where IDNA does not want them.
var idnaProfile = idna.New(
	idna.MapForLookup(), idna.Transitional(false),
	idna.StrictDomainName(false), idna.CheckHyphens(false), idna.BidiRule())

// NormalHost brings a host into the one form that is compared: no port, no
// brackets, no trailing dot, lower case, A-labels, an address in its canonical
// form. A name that IDNA refuses keeps its form otherwise, and then only a
// wildcard can match it. The form of a form is the same.
func NormalHost(host string) string {
	if a, err := netip.ParseAddrPort(host); err == nil {
		return plainAddr(a.Addr()).String()
	}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return plainAddr(a).String()
	}
	host, _, _ = strings.Cut(host, ":")
	if !isASCII(host) {
		if ascii, err := idnaProfile.ToASCII(host); err == nil {
			host = ascii
		}
	}
	host = lowerASCII(host)
	if name, ok := strings.CutSuffix(host, "."); ok && !strings.HasSuffix(name, ".") {
		return name // the root of the DNS; a second dot would be an empty label
	}
	return host
}

// hostKey is NormalHost for a host that counts are kept by.
func hostKey(host string) string {
	if host == "" {
		return ""
	}
	return NormalHost(host)
}

// plainAddr removes the two decorations that an address may wear: the
// v4-in-v6 form of a dual-stack socket, and a zone.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// lowerASCII leaves all but A to Z alone: IDNA knows of the others, and what it
// refuses must not become a name that it takes (U+04C0 does, in lower case).
func lowerASCII(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// A hostPattern is the labels of a host, some of them wildcards.
type hostPattern []string

func parseHost(s string) (hostPattern, error) {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err != nil {
		if strings.Contains(s, ":") {
			return nil, errors.New("expected a host without scheme and port")
		}
		if strings.ContainsAny(s, "/@?# \t\r\n\\%") {
			return nil, errors.New("expected a host name or address")
		}
		if !isASCII(s) {
			if _, err := idnaProfile.ToASCII(s); err != nil {
				return nil, errors.New("expected a name that IDNA allows")
			}
		}
	}
	labels := strings.Split(NormalHost(s), ".")
	for _, l := range labels {
		if l == "" {
			return nil, errors.New("expected no empty label")
		}
		if strings.Contains(l, "*") && l != "*" && l != "**" {
			return nil, errors.New(`expected "*" or "**" as a whole label`)
		}
	}
	return labels, nil
}

// hostMatches reports whether any pattern matches. Of an unknown host nothing
// can be said, so none does.
func hostMatches(patterns []hostPattern, host string) bool {
	if host == "" {
		return false
	}
	labels := strings.Split(NormalHost(host), ".")
	for _, p := range patterns {
		if glob(p, labels) {
			return true
		}
	}
	return false
}

// segments cuts a path at its slashes, after the query, and decodes each part.
// Empty ones do not count, and "." and ".." are resolved (RFC 3986, Section
// 5.2.4), so that another spelling of a path is not another path.
func segments(path string) []string {
	path, _, _ = strings.Cut(path, "?")
	var list []string
	for s := range strings.SplitSeq(path, "/") {
		if plain, err := url.PathUnescape(s); err == nil {
			s = plain
		}
		switch s {
		case "", ".":
		case "..":
			list = list[:max(0, len(list)-1)]
		default:
			list = append(list, s)
		}
	}
	return list
}

func parsePath(s string) ([]string, error) {
	if !strings.HasPrefix(s, "/") || strings.ContainsAny(s, "?#") {
		return nil, errors.New(`expected a path that begins with "/", without query`)
	}
	list := segments(s)
	for _, part := range list {
		if strings.Contains(part, "*") && part != "*" && part != "**" {
			return nil, errors.New(`expected "*" or "**" as a whole segment`)
		}
	}
	return list, nil
}

// An originPattern is an origin whose host may have wildcards.
type originPattern struct {
	scheme, port string
	host         hostPattern
}

// splitOrigin cuts scheme "://" host [":" port] (RFC 6454, Section 6.2). The
// default port of a scheme is the same as none (Section 4).
func splitOrigin(s string) (scheme, host, port string, ok bool) {
	scheme, host, ok = strings.Cut(s, "://")
	if !ok || scheme == "" || host == "" {
		return "", "", "", false
	}
	scheme = strings.ToLower(scheme)
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host, port = host[:i], host[i+1:]
	}
	switch scheme + ":" + port {
	case "http:80", "https:443", "ws:80", "wss:443":
		port = ""
	}
	return scheme, host, port, true
}

func parseOrigin(s string) (originPattern, error) {
	if s == "null" {
		return originPattern{}, nil
	}
	scheme, host, port, ok := splitOrigin(s)
	if !ok {
		return originPattern{}, errors.New(`expected an origin such as "https://app.example" or "null"`)
	}
	pattern, err := parseHost(host)
	return originPattern{scheme, port, pattern}, err
}

// originMatches compares origins as RFC 6454, Section 5 does: scheme, host and
// port. "null" is the origin of what has none (Section 6.1).
func originMatches(patterns []originPattern, origin string) bool {
	scheme, host, port, ok := splitOrigin(origin)
	if !ok && origin != "null" {
		return false
	}
	for _, p := range patterns {
		if p.scheme == scheme && p.port == port && (!ok || hostMatches([]hostPattern{p.host}, host)) {
			return true
		}
	}
	return false
}
