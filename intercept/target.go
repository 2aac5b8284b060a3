package intercept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
)

// A target is what a client asked an [Explicit] for.
type target struct {
	host string
	dst  []netip.AddrPort
}

// A refusal is a request that an [Explicit] does not serve, with the status
// that says so. Other errors are failures to find the destination.
type refusal struct {
	status int
	reason string
}

func (e *refusal) Error() string { return e.reason }

func refuse(status int, format string, a ...any) error {
	return &refusal{status, fmt.Sprintf(format, a...)}
}

// hostName is looser than a host name of RFC 1123 by "_", which names in use
// have, and by not minding labels. It keeps out what could be misread later.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,253}$`)

// target finds the destination of a request and applies the limits on it.
func (e *Explicit) target(r *http.Request) (target, error) {
	host, port := r.URL.Hostname(), r.URL.Port()
	switch {
	case r.Method == http.MethodConnect:
		// RFC 9112, Section 3.2.3: authority-form is host ":" port.
		if host == "" || port == "" {
			return target{}, refuse(http.StatusBadRequest, "CONNECT needs host:port")
		}
		// RFC 9110, Section 9.3.6: a CONNECT request has no content.
		if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
			return target{}, refuse(http.StatusBadRequest, "CONNECT with content")
		}
	case r.URL.Scheme != "http" || host == "":
		return target{}, refuse(http.StatusBadRequest, "this is a proxy: expected CONNECT or an absolute http:// URL")
	case e.config.Plain == nil:
		return target{}, refuse(http.StatusNotImplemented, "this proxy serves CONNECT only")
	case port == "":
		port = "80"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return target{}, refuse(http.StatusBadRequest, "bad port %q", port)
	}
	ports := e.config.Ports()
	if len(ports) == 0 {
		ports = defaultPorts
	}
	if !slices.Contains(ports, uint16(n)) {
		return target{}, refuse(http.StatusForbidden, "port %d is not allowed", n)
	}
	addrs, err := e.addresses(r.Context(), host)
	if err != nil {
		return target{}, err
	}
	t := target{host: host}
	for _, a := range addrs {
		t.dst = append(t.dst, netip.AddrPortFrom(a, uint16(n)))
	}
	return t, nil
}

// addresses returns those addresses of host that may be dialled.
func (e *Explicit) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else if !hostName.MatchString(host) {
		return nil, refuse(http.StatusBadRequest, "bad host %q", host)
	} else {
		ctx, cancel := context.WithTimeout(ctx, e.config.Timeout)
		defer cancel()
		if addrs, err = e.config.Resolver.LookupNetIP(ctx, "ip", host); err != nil {
			return nil, err
		}
	}
	var allowed []netip.Addr
	var reason error
	for _, a := range addrs {
		a = a.Unmap()
		if err := e.routable(a); err != nil {
			reason = err
			continue
		}
		allowed = append(allowed, a)
	}
	switch {
	case allowed != nil:
		return allowed, nil
	case reason != nil:
		return nil, reason
	}
	return nil, fmt.Errorf("no address of %s", host)
}

// routable reports why a client may not be taken to a.
func routable(a netip.Addr) error {
	// IsGlobalUnicast holds for private networks, and not for loopback,
	// link-local, multicast, broadcast and unspecified addresses.
	if !a.IsGlobalUnicast() || a.Zone() != "" {
		return refuse(http.StatusForbidden, "address %s is not allowed", a)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return errors.New("the gateway's own addresses are unknown")
	}
	for _, o := range own {
		if p, ok := o.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(p.IP); ok && ip.Unmap() == a {
				return refuse(http.StatusForbidden, "address %s is the gateway's own", a)
			}
		}
	}
	return nil
}
