package mitm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"framegate/audit"
)

// alpn is what both legs speak. WebSocket over HTTP/2 (RFC 8441) has to be
// offered by a server before a browser uses it; we do not offer it.
var alpn = []string{"http/1.1"}

// Reasons of tls.fail. They are stable: people count them.
const (
	tlsClientHello = "client-hello"       // the client's first message cannot be parsed
	tlsUnreachable = "server-unreachable" // no connection to the original destination
	tlsUntrusted   = "server-untrusted"   // no chain to a trusted root
	tlsExpired     = "server-expired"     // expired, or not yet valid
	tlsName        = "server-name"        // not issued for this name
	tlsInvalid     = "server-invalid"     // another fault of the certificate
	tlsClientCert  = "server-client-cert" // asks for a client certificate
	tlsServer      = "server-handshake"   // anything else on the server's leg
	tlsLeaf        = "leaf"               // no leaf could be made
	tlsRejected    = "client-rejected"    // the client sent an alert: mostly it does not trust our CA
	tlsClient      = "client-handshake"   // anything else on the client's leg
)

// Alerts that the client is sent in place of a ServerHello (RFC 8446, Section 6.2).
const (
	alertHandshakeFailure   = 40
	alertBadCertificate     = 42
	alertCertificateExpired = 45
	alertUnknownCA          = 48
	alertAccessDenied       = 49
	alertInternalError      = 80
)

// alert ends a handshake to which nothing was answered yet. Until the
// ServerHello, alerts travel in the clear, under any version.
func (f *flow) alert(description byte) {
	f.phase() // the one before may have ended by its deadline
	f.down.wire.Write([]byte{21, 3, 3, 0, 2, 2, description})
}

// tlsFail records why a TLS connection ends.
func (f *flow) tlsFail(reason string, err error) {
	f.reason = reason + ": " + f.plainError(err)
	e := f.event(audit.TLSFail)
	e.Reason = f.reason
	f.record(e)
}

// errClientCert says that the server asks for a client certificate.
var errClientCert = errors.New("the server asks for a client certificate")

// upstreamTLS opens the server's side and verifies it before anything is
// answered to the client, and returns the server's certificate. When it fails,
// the client gets an alert that says why, and no certificate is made.
func (f *flow) upstreamTLS() (*x509.Certificate, error) {
	up, err := f.dialTLS(f.ctx)
	if err == nil {
		f.up, f.idle = up, true
		f.origin = up.tls.ConnectionState().PeerCertificates[0]
		f.phase()
		return f.origin, nil
	}
	if errors.Is(err, errClientCert) && !f.proxy.BlockClientCert {
		return nil, err
	}
	reason, alert := tlsReason(err)
	f.tlsFail(reason, err)
	f.alert(alert)
	return nil, err
}

// tlsReason names a failure of the server's leg and the alert that tells the client.
func tlsReason(err error) (reason string, alert byte) {
	var (
		dial    *net.OpError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		any     *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, errClientCert):
		return tlsClientCert, alertAccessDenied
	case errors.As(err, &unknown):
		return tlsUntrusted, alertUnknownCA
	case errors.As(err, &name):
		return tlsName, alertBadCertificate
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return tlsExpired, alertCertificateExpired
	case errors.As(err, &invalid), errors.As(err, &any):
		return tlsInvalid, alertBadCertificate
	case errors.As(err, &dial) && dial.Op == "dial":
		return tlsUnreachable, alertInternalError
	}
	return tlsServer, alertHandshakeFailure
}

// dialTLS opens a verified TLS connection to the original destination.
func (f *flow) dialTLS(ctx context.Context) (*leg, error) {
	w, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.proxy.handshakeTimeout())
	defer cancel()
	l := &leg{wire: w, tls: tls.Client(w, f.serverTLSConfig())}
	if err := l.tls.HandshakeContext(ctx); err != nil {
		l.close(false)
		return nil, err
	}
	return l, nil
}

// serverTLSConfig verifies the server for the SNI. Without one the client
// names nobody: the chain is verified, and the client's own check of the
// leaf, which then bears exactly the server's names, decides about the name.
func (f *flow) serverTLSConfig() *tls.Config {
	c := &tls.Config{
		RootCAs:                     f.proxy.Roots,
		ServerName:                  f.sni,
		NextProtos:                  alpn,
		MinVersion:                  tls.VersionTLS12,
		ClientSessionCache:          sessions{f.proxy.resumed, f.server.String() + " " + f.sni},
		DynamicRecordSizingDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return nil, errClientCert
		},
	}
	if f.sni == "" {
		roots := f.proxy.Roots
		c.InsecureSkipVerify = true // the next line verifies all but the name
		c.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, roots) }
	}
	return c
}

// verifyChain does what crypto/tls does, without a name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := s.PeerCertificates[0].Verify(o); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return nil
}

// sessions keeps the sessions of one destination and name apart from all
// others in a shared cache.
type sessions struct {
	tls.ClientSessionCache
	key string
}

func (s sessions) Get(string) (*tls.ClientSessionState, bool) {
	return s.ClientSessionCache.Get(s.key)
}

func (s sessions) Put(_ string, c *tls.ClientSessionState) { s.ClientSessionCache.Put(s.key, c) }

// leaf gets the certificate that the client will see.
func (f *flow) leaf(origin *x509.Certificate, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	leaf, err := f.proxy.Certs.Leaf(f.ctx, f.sni, origin, hello)
	if err != nil {
		f.tlsFail(tlsLeaf, err)
		f.alert(alertInternalError)
		return nil, fmt.Errorf("no leaf: %w", err)
	}
	return leaf, nil
}

type leafKey struct{}

// clientTLSConfig is shared by all clients, so that session tickets work; the
// leaf of each comes with its context.
func clientTLSConfig() *tls.Config {
	return &tls.Config{
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return h.Context().Value(leafKey{}).(*tls.Certificate), nil
		},
		NextProtos:                  alpn,
		MinVersion:                  tls.VersionTLS12,
		DynamicRecordSizingDisabled: true,
	}
}

// clientTLS ends the client's TLS with leaf.
func (f *flow) clientTLS(leaf *tls.Certificate) error {
	f.phase()
	f.down.tls = tls.Server(f.down.wire, f.proxy.tickets)
	err := f.down.tls.HandshakeContext(context.WithValue(f.ctx, leafKey{}, leaf))
	if err == nil {
		f.state = audit.StateInspected
		f.phase()
		return nil
	}
	reason := tlsClient
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		reason = tlsRejected
	}
	f.tlsFail(reason, err)
	return err
}

// clearDeadlines takes the deadlines of the phases before off both sides.
func clearDeadlines(a, b *wire) {
	a.SetDeadline(time.Time{})
	b.SetDeadline(time.Time{})
}

// afterDone cuts w when ctx is done.
func afterDone(ctx context.Context, w *wire) (stop func() bool) {
	return context.AfterFunc(ctx, func() { w.SetDeadline(time.Unix(1, 0)) })
}
