package mitm

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"framegate/audit"
	"framegate/policy"
)

// requestHead reads the next request head of the client and answers one that
// is bad with 400.
func (f *flow) requestHead() (*requestHead, error) {
	head, err := readHead(&f.down, parseRequest)
	if err != nil {
		f.refuseHead(err)
	}
	return head, err
}

// refuseHead answers a head that is refused for its form; other errors are not
// the client's to hear of.
func (f *flow) refuseHead(err error) {
	if status, reason := refusal(err); status != 0 {
		f.refuse(nil, status, reason)
	}
}

// refusal is the answer to a request that is refused because of err, and 0 if
// that is not the client's to hear of.
func refusal(err error) (status int, reason string) {
	var refused *badHead
	switch {
	case errors.As(err, &refused):
		return 400, refused.reason
	case errors.Is(err, errHeadTooLarge):
		return 431, err.Error()
	case errors.Is(err, errStalled):
		return 408, err.Error()
	}
	return 0, ""
}

// refuse answers a request in place of the server, and records that. head is
// nil if the request could not be parsed. The connection ends with it.
func (f *flow) refuse(head *requestHead, status int, reason string) {
	fields := ""
	if status == http.StatusUpgradeRequired { // RFC 6455, Section 4.2.2
		fields = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	}
	text := "framegate: " + reason + "\n"
	f.phase() // the one before may have ended by its deadline
	fmt.Fprintf(&f.down, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n%s",
		status, http.StatusText(status), len(text), fields, text)
	f.recordRefusal(head, status, reason)
	f.linger()
}

// linger waits until the client has read the refusal, or has had time to. To
// close a socket which has bytes that nobody read resets it, and then "the
// client might not read the last HTTP response" (RFC 9112, Section 9.6).
func (f *flow) linger() {
	f.down.closeWrite(true)
	f.readBy(time.Now().Add(tlsEnd))
	io.Copy(io.Discard, f.down.wire)
}

// recordRequest records one HTTP exchange. reason says what went wrong, if
// something did.
func (f *flow) recordRequest(head *requestHead, status int, reason string) error {
	return f.record(f.requestEvent(head, status, reason))
}

// recordRefusal records a request that was answered in place of the server.
func (f *flow) recordRefusal(head *requestHead, status int, reason string) error {
	e := f.requestEvent(head, status, reason)
	if status < 500 {
		e.Action = policy.Block.String()
	}
	return f.record(e)
}

func (f *flow) requestEvent(head *requestHead, status int, reason string) audit.Event {
	e := f.event(audit.HTTPRequest)
	e.Code, e.Reason = status, reason
	if head != nil {
		e.Method, e.Path = head.method, head.path()
	}
	return e
}

// admit asks whether this request may go to this server: the policy must not
// block its Host, which has to agree with the connection. A status of 0 means
// that it may.
func (f *flow) admit(h *requestHead) (status int, reason string) {
	host := policy.NormalHost(h.host())
	switch own := f.settings.Local.is(host); {
	case own != f.local:
		// RFC 9110, Section 15.5.20: "the request was directed at a server that is
		// unable or unwilling to produce an authoritative response". Nothing is
		// ever forwarded to or from our own name.
		f.state = audit.StateBlocked
		return 421, localMisdirected
	case own:
		return 0, ""
	}
	if host != "" {
		f.host = host
	}
	d := f.proxy.Policy().Connection(policy.Flow{Client: f.client, Server: f.server, Host: f.host})
	if d.Action == policy.Block {
		f.state, f.rules = audit.StateBlocked, []string{d.Rule}
		return 403, "blocked by policy"
	}
	if status, reason = f.agree(host); status != 0 {
		f.state = audit.StateBlocked
	}
	return status, reason
}
