package mitm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"framegate/audit"
	"framegate/mitm/chain"
)

// alpn is what both legs speak. WebSocket over HTTP/2 (RFC 8441) has to be
// offered by a server before a browser uses it; we do not offer it.
var alpn = []string{"http/1.1"}

// Reasons of tls.fail, besides the codes of package chain, which say what is
// wrong with a server's certificate. They are stable: people count them.
const (
	tlsClientHello = "client-hello"       // the client's first message cannot be parsed
	tlsUnreachable = "server-unreachable" // no connection to the original destination
	tlsClientCert  = "server-client-cert" // asks for a client certificate
	tlsServer      = "server-handshake"   // anything else on the server's leg
	tlsLeaf        = "leaf"               // no leaf could be made
	tlsRate        = "client-rate"        // the client has had too many handshakes
	tlsClient      = "client-handshake"   // on the client's leg, but for what rejected says
)

// Alerts that the client is sent in place of a ServerHello (RFC 8446, Section 6.2).
const (
	alertHandshakeFailure      = 40
	alertAccessDenied          = 49
	alertProtocolVersion       = 70
	alertInternalError         = 80
	alertNoApplicationProtocol = 120
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
	f.proxy.Stats.fail(reason)
}

var errRate = errors.New("too many TLS handshakes of this client, limits.client_handshakes")

// affordTLS refuses a client that has had its share of handshakes. "internal_error:
// An internal error unrelated to the peer or the correctness of the protocol (such as
// a memory allocation failure) makes it impossible to continue" (RFC 8446, Section
// 6.2) is the one alert that does not blame what the client has sent, and after
// which it may come again as it is.
func (f *flow) affordTLS() error {
	if ask := f.proxy.Handshake; ask == nil || ask(f.client.Addr()) {
		return nil
	}
	f.tlsFail(tlsRate, errRate)
	f.alert(alertInternalError)
	return errRate
}

// errClientCert says that the server asks for a client certificate.
var errClientCert = errors.New("the server asks for a client certificate")

// upstreamTLS opens the server's side and verifies it before anything is
// answered to the client that sent hello, and returns the server's certificate.
// When it fails, the client gets an alert that says why, and no certificate is
// made.
func (f *flow) upstreamTLS(hello *tls.ClientHelloInfo) (*x509.Certificate, error) {
	var err error
	if f.offer, err = offerOf(hello); err != nil {
		f.tlsFail(tlsClient, err)
		f.alert(offerAlert(err))
		return nil, err
	}
	up, err := f.dialTLS(f.ctx)
	if err == nil {
		f.up, f.idle = up, true
		f.origin = up.tls.ConnectionState().PeerCertificates[0]
		f.phase()
		return f.origin, nil
	}
	if errors.Is(err, errClientCert) && !f.settings.BlockClientCert {
		f.reason = tlsClientCert + ": " + err.Error() + ", which nobody but the client has"
		f.markECH()
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
		refused *chain.Error
	)
	switch {
	case errors.Is(err, errClientCert):
		return tlsClientCert, alertAccessDenied
	case errors.As(err, &refused):
		return string(refused.Code), refused.Code.Alert()
	case errors.As(err, &dial) && dial.Op == "dial":
		return tlsUnreachable, alertInternalError
	}
	// crypto/tls looks at certificates before they are ours to judge, and has no
	// types for what it dislikes.
	for text, code := range map[string]chain.Code{
		"tls: failed to parse certificate from server":      chain.Malformed,
		"tls: received empty certificates message":          chain.Malformed,
		"tls: server sent certificate containing RSA key":   chain.KeyType, // larger than it takes on
		"tls: server's certificate contains an unsupported": chain.KeyType,
	} {
		if strings.HasPrefix(err.Error(), text) {
			return string(code), code.Alert()
		}
	}
	return tlsServer, alertHandshakeFailure
}

// dialTLS opens a verified TLS connection to the original destination.
func (f *flow) dialTLS(ctx context.Context) (*leg, error) {
	w, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.settings.handshakeTimeout())
	defer cancel()
	l := &leg{wire: w, tls: tls.Client(w, f.serverTLSConfig(f.proxy.epoch()))}
	err = l.tls.HandshakeContext(ctx)
	f.proxy.Stats.handshake(serverLeg, l.tls, err)
	if err != nil {
		l.close(false)
		return nil, err
	}
	return l, nil
}

// serverTLSConfig verifies the server for the SNI, by what e trusts. Without an
// SNI the client names nobody: the chain is verified, and the client's own check
// of the leaf, which then bears exactly the server's names, decides about the
// name.
func (f *flow) serverTLSConfig(e *epoch) *tls.Config {
	verified := new(chain.Verified)
	return &tls.Config{
		ServerName:         f.sni,
		NextProtos:         alpn,
		MinVersion:         f.offer.min,
		MaxVersion:         f.offer.max,
		CipherSuites:       f.offer.suites,
		CurvePreferences:   f.offer.groups,
		ClientSessionCache: &serverSessions{e.servers, f.server.String() + " " + f.sni, verified},
		// crypto/tls asks for less than package chain does, and for nothing when a
		// session is resumed. VerifyConnection is called in every handshake.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) (err error) {
			*verified, err = e.trust.Verify(s.PeerCertificates, f.sni, s.OCSPResponse, f.proxy.clock())
			return err
		},
		DynamicRecordSizingDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return nil, errClientCert
		},
	}
}

// leaf gets the certificate that the client will see: in place of origin, or our own.
func (f *flow) leaf(origin *x509.Certificate, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	var leaf *tls.Certificate
	var err error
	if f.local {
		leaf, err = f.settings.Local.Leaf(f.ctx, hello)
	} else {
		leaf, err = f.proxy.Certs.Leaf(f.ctx, f.sni, origin, hello)
	}
	if err != nil {
		f.tlsFail(tlsLeaf, err)
		f.alert(alertInternalError)
		return nil, fmt.Errorf("no leaf: %w", err)
	}
	return leaf, nil
}

// clientTLS ends the client's TLS with leaf.
func (f *flow) clientTLS(leaf *tls.Certificate) error {
	f.phase()
	f.down.wire.tail = []byte{}
	f.down.tls = tls.Server(f.down.wire, f.proxy.epoch().forClients(leaf))
	err := f.down.tls.HandshakeContext(f.ctx)
	f.proxy.Stats.handshake(clientLeg, f.down.tls, err)
	if err == nil {
		f.down.wire.tail = nil
		f.state = audit.StateInspected
		f.phase()
		return nil
	}
	f.rejected(err)
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
