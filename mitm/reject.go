package mitm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Reasons of tls.fail about a client that has seen our certificate, stable as
// the others are. What follows the colon says what to do.
const (
	tlsRejected = "client-rejected" // an alert that does not tell, or there was no SNI
	tlsNoCA     = "client-no-ca"    // the client has accepted nothing of ours so far
	tlsPinned   = "client-pinned"   // it accepts others: an application with trust of its own
	tlsClock    = "client-clock"    // it takes the certificate for expired
	tlsECH      = "client-ech"      // it wants Encrypted Client Hello, and comes back without
)

// Alerts by which a client says that it does not like a certificate (RFC 8446,
// Section 6.2).
const alertCertificateExpired = 45

var certificateAlerts = map[int]string{
	42:                      "bad_certificate",
	43:                      "unsupported_certificate",
	44:                      "certificate_revoked",
	alertCertificateExpired: "certificate_expired",
	46:                      "certificate_unknown",
	48:                      "unknown_ca",
}

// alertECHRequired is ech_required (RFC 9849, Section 11.2).
const alertECHRequired = 121

// remoteAlert returns the alert that the peer has sent, if that is what err
// means. crypto/tls has the number in a type of its own, and its text in public.
func remoteAlert(err error) (description int, ok bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return 0, false
	}
	for description = range 256 {
		if op.Err.Error() == tls.AlertError(description).Error() {
			return description, true
		}
	}
	return 0, false
}

// alertRecord is the size of a record with an alert that is not encrypted.
const alertRecord = 7

// plainAlert returns the alert that a peer has sent in the clear, if the last
// that was read of a handshake is one. In TLS 1.3 OpenSSL begins to encrypt what
// it sends only with its Finished, and so does not encrypt an alert in place of
// it; crypto/tls takes that for a record that was tampered with.
func (w *wire) plainAlert() (description int, ok bool) {
	t := w.tail
	if len(t) != alertRecord || t[0] != 21 || t[1] != 3 || t[3] != 0 || t[4] != 2 || t[5] != 1 && t[5] != 2 {
		return 0, false
	}
	return int(t[6]), true
}

// keepTail remembers the end of what was read, if that is asked for.
func (w *wire) keepTail(b []byte) {
	if w.tail != nil {
		w.tail = append(w.tail, b[max(0, len(b)-alertRecord):]...)
		w.tail = w.tail[max(0, len(w.tail)-alertRecord):]
	}
}

// firstRequest reads the first request of a client that was shown a leaf. Not
// before it came is the leaf accepted: in TLS 1.3 the server is through with
// the handshake before the client has to be, and there are clients that look at
// a certificate afterwards.
func (f *flow) firstRequest() (*requestHead, error) {
	head, err := f.requestHead()
	if status, _ := refusal(err); err == nil || status != 0 {
		f.proxy.pins.accepted(f.client.Addr(), f.sni, f.proxy.epoch())
	} else if _, ok := remoteAlert(err); ok {
		f.rejected(err)
	}
	return head, err
}

// rejected records that a client left when it had seen our certificate, with
// what to do about it, and counts it.
func (f *flow) rejected(err error) {
	description, alerted := remoteAlert(err)
	if d, ok := f.down.wire.plainAlert(); ok && !alerted {
		description, alerted = d, true
		err = fmt.Errorf("remote error: %w", tls.AlertError(d))
	}
	says, certificate := certificateAlerts[description]
	closed := !alerted && (wasReset(err) || isEnd(err))
	switch {
	case description == alertECHRequired:
		f.tlsFail(tlsECH, errors.New(echRejected))
		return
	case alerted && !certificate:
		f.tlsFail(tlsRejected, err)
		return
	case !alerted && !closed:
		f.tlsFail(tlsClient, err)
		return
	case closed:
		says = "no alert"
	}
	learn := f.settings.BypassPinned && f.learn && description != alertCertificateExpired
	now := f.proxy.clock()
	r := f.proxy.pins.failed(f.client.Addr(), f.sni, f.proxy.epoch(), now, learn)
	switch {
	case closed && r.failures < pinFailures: // who closes once may have any reason
		f.tlsFail(tlsClient, err)
		return
	case f.sni == "": // the client compares the leaf with a name that we do not know
		f.tlsFail(tlsRejected, err)
		return
	}
	reason, advice := r.advice(f.sni)
	if description == alertCertificateExpired {
		reason, advice = tlsClock, "the client takes the certificate for expired: look at its clock"
	}
	text := fmt.Sprintf("%s, rejection %d of this name within the hour: %s", says, r.failures, advice)
	if r.learned {
		until := now.Add(pinWindow)
		text += "; bypassed for this client until " + until.UTC().Format(time.RFC3339)
		f.proxy.log().Warn("a client rejects our certificate and is bypassed", "client", f.client.Addr(), "sni", f.sni, "until", until)
	}
	f.tlsFail(reason, errors.New(text))
}

// advice says what a rejection means and what mends it.
func (r rejection) advice(sni string) (reason, text string) {
	switch {
	case !r.accepts:
		return tlsNoCA, "this client has accepted no certificate of ours yet: give it the root, see framegate ca export --for"
	case r.same:
		text = "another application on this client accepts the certificate for this name"
	default:
		text = "this client accepts our certificates for other names"
	}
	return tlsPinned, text + ", so the application has trust of its own: " +
		"give the root to that, see framegate ca export --for, or bypass it: [[connection]] " +
		fmt.Sprintf("host = [%q], decision = \"bypass\"", sni)
}

// pinned returns until when this connection is bypassed because its client
// rejects our certificate for the name; the zero time: it is not.
func (f *flow) pinned() time.Time {
	if !f.settings.BypassPinned || !f.learn {
		return time.Time{}
	}
	return f.proxy.pins.bypassed(f.client.Addr(), f.sni, f.proxy.epoch(), f.proxy.clock())
}

// isEnd reports whether err is an end of the stream within a handshake.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
