package mitm

import (
	"context"
	"net/netip"

	"framegate/mitm/chain"
	"framegate/policy"
)

// Reasons of a request that is refused for its Host. They are stable, up to the
// colon.
const (
	hostFronting     = "fronting"           // another name than the SNI, or the target of a CONNECT
	hostNotCertified = "host-not-certified" // no name of the server that was verified
)

type targetKey struct{}

// WithTarget returns the context for [Proxy.ServeConn] of a connection that the
// client asked an explicit proxy for, by the name or address host. Without TLS
// that is the name which the requests have to agree with.
func WithTarget(ctx context.Context, host string) context.Context {
	return context.WithValue(ctx, targetKey{}, host)
}

// targetOf returns the name by which the client asked for the connection, "" if
// it did not, or by an address.
func targetOf(ctx context.Context) string {
	host, _ := ctx.Value(targetKey{}).(string)
	host = policy.NormalHost(host)
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return host
}

// agree asks whether a request for host may use this connection. There are
// three names: the SNI by which the connection was judged, the certificate by
// which the server was verified, and the Host by which it chooses what to
// serve. Where they differ one name would be judged and another one served.
//
// The Host has to be the SNI. Another name of the same certificate is none the
// less another name: on a shared server the certificate says only who runs it.
// Browsers use one connection for several names in HTTP/2 alone (RFC 9113,
// Section 9.1.1), which we do not offer. A connection rule may allow it, and a
// client without an SNI has named nobody; then the certificate has to cover
// the Host. A request for nobody (HTTP/1.0) agrees with everything. Without TLS
// there is a second name only behind a CONNECT.
//
// The answer is 421, which is for requests that came to a server by a connection
// that is not for them (RFC 9110, Sections 7.4 and 15.5.20): a client that means
// no harm may come back by one of its own, with an SNI that can be judged.
func (f *flow) agree(host string) (status int, reason string) {
	opened := f.sni
	if f.origin == nil {
		opened = f.target
	}
	if host == "" || host == opened {
		return 0, ""
	}
	if opened != "" {
		d := f.proxy.Policy().Connection(policy.Flow{Client: f.client, Server: f.server, Host: opened, ECH: f.ech})
		if !d.Fronting {
			return 421, hostFronting + ": Host is not the name that the connection was opened for"
		}
	}
	if f.origin != nil && !chain.Covers(f.origin, host) {
		return 421, hostNotCertified + ": Host is not a name of the server that was verified"
	}
	return 0, ""
}
