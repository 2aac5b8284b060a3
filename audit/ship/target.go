package ship

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Target is one place that checkpoints or records are sent to.
type Target struct {
	text string // as configured, without anything secret in it
	kind string // scheme of the URL
	host string // name or address that a certificate must be for
	addr string // host:port to dial; empty for a file
	path string // of a file, or of the URL
}

// String is the URL as it was given.
func (t Target) String() string { return t.text }

// Kind is the scheme of the URL.
func (t Target) Kind() string { return t.kind }

// ParseCheckpointTarget parses the URL of a place for checkpoints.
func ParseCheckpointTarget(s string) (Target, error) {
	return parseTarget(s, "file", "syslog+tcp", "syslog+tls", "https", "http")
}

// ParseRecordTarget parses the URL of a place for records.
func ParseRecordTarget(s string) (Target, error) {
	return parseTarget(s, "syslog+tcp", "syslog+tls", "otlp+https", "otlp+http")
}

// defaultPorts: RFC 5425 section 4.1, OTLP/HTTP "default port is 4318". Syslog
// over plain TCP has none ("no standardized port", RFC 6587 section 1).
var defaultPorts = map[string]string{
	"syslog+tls": "6514", "https": "443", "http": "80", "otlp+https": "4318", "otlp+http": "4318",
}

func parseTarget(s string, schemes ...string) (Target, error) {
	fail := func(format string, args ...any) (Target, error) {
		return Target{}, fmt.Errorf(format, args...)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fail("%q is not a URL", s)
	case !slices.Contains(schemes, u.Scheme):
		return fail("%q: expected a URL with %s", s, strings.Join(schemes, "://, ")+"://")
	case u.User != nil:
		return fail("a URL with a user name or password, expected none: use a client certificate")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return fail("%q: expected a URL without ? and #", s)
	}
	t := Target{text: s, kind: u.Scheme, path: u.Path}
	if t.kind == "file" {
		if u.Host != "" || !filepath.IsAbs(u.Path) || strings.HasSuffix(u.Path, "/") {
			return fail("%q: expected file:///PATH of a file", s)
		}
		t.path = filepath.Clean(u.Path)
		return t, nil
	}
	port := u.Port()
	if port == "" {
		port = defaultPorts[t.kind]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fail("%q: expected a port from 1 to 65535", s)
	}
	if t.host = u.Hostname(); t.host == "" {
		return fail("%q: expected a host", s)
	}
	t.addr = net.JoinHostPort(t.host, port)
	switch t.kind {
	case "syslog+tcp", "syslog+tls":
		if strings.Trim(t.path, "/") != "" {
			return fail("%q: expected no path", s)
		}
	case "http", "otlp+http":
		if !isLoopback(t.host) {
			return fail("%q: without TLS only loopback is reached, expected %ss://", s, t.kind)
		}
	}
	return t, nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || host == "localhost"
}

// Address is the host:port that is dialled; empty for a file.
func (t Target) Address() string { return t.addr }

// Encrypted says whether the target speaks TLS.
func (t Target) Encrypted() bool {
	return t.kind == "syslog+tls" || t.kind == "https" || t.kind == "otlp+https"
}

// endpoint is the URL that HTTP requests go to.
func (t Target) endpoint(path string) string {
	u := url.URL{Scheme: strings.TrimPrefix(t.kind, "otlp+"), Host: t.addr, Path: path}
	return u.String()
}
