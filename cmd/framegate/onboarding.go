package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"framegate/ca"
	"framegate/internal/onboarding"
	"framegate/mitm"
)

// newPage makes the page for devices that do not trust the gateway yet. It shows
// the roots of whatever authority is in force.
func (gw *gateway) newPage(host string) *onboarding.Page {
	return &onboarding.Page{
		Roots: func() []*x509.Certificate { return gw.authority.Load().Roots() },
		Host:  host,
		Check: func() error {
			err := gw.authority.Load().CanOwn(host)
			if errors.Is(err, ca.ErrConstraint) {
				err = fmt.Errorf("the name constraints of the authority exclude %s", host)
			}
			return err
		},
	}
}

// local is the gateway's own host, with a page; nil if admin.onboarding names none.
func (gw *gateway) local(page *onboarding.Page) *mitm.Local {
	host := page.Host
	if host == "" {
		return nil
	}
	return &mitm.Local{
		Host:    host,
		Handler: page,
		Leaf: func(ctx context.Context, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return gw.authority.Load().Own(ctx, host, hello)
		},
	}
}

// An ownName resolves names for the explicit proxy: the one that it returns, the
// gateway's own, which is in no DNS, and all others as ever.
type ownName func() string

// ownAddress is the destination on record of what goes to the gateway's own name by
// the explicit proxy. RFC 5737 keeps it for documentation.
var ownAddress = netip.AddrFrom4([4]byte{192, 0, 2, 1})

// LookupNetIP implements [intercept.Resolver].
func (own ownName) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if name := own(); name != "" && strings.EqualFold(strings.TrimSuffix(host, "."), name) {
		return []netip.Addr{ownAddress}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, network, host)
}

// ownHost accepts the name of a host with a domain, in ASCII, and no address.
func ownHost(v any) (string, error) {
	s, _ := v.(string)
	if len(s) > 253 || !ownHostName.MatchString(s) {
		return "", mismatch(v, `a host name in lower case with a dot, such as "framegate.internal"`)
	}
	return s, nil
}

// ownHostName has labels as in RFC 1123, two at least, of which the last is no number.
var ownHostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
