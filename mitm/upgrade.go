package mitm

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/policy"
)

// maxInterim bounds the interim responses (1xx) before the final one.
const maxInterim = 16

var errInterim = errors.New("too many interim responses")

// An upgrade is a WebSocket that both sides have agreed on.
type upgrade struct {
	policy.Upgrade
	deflate *frames.Deflate   // nil: no compression was agreed on
	opaque  string            // why it cannot be inspected; "" if it can
	tap     TapStream         // nil: nobody looks
	key     *audit.PayloadKey // nil: payloads are not sealed
}

// upgrade reports whether the request asks for a WebSocket, rightly or not.
func (h *requestHead) upgrade() bool { return h.has("Upgrade", "websocket") }

// checkUpgrade returns what is wrong with a request for a WebSocket, of the
// points that a server has to check (RFC 6455, Section 4.2.1). A gateway that
// is laxer than the server takes for a tunnel what is none.
func (h *requestHead) checkUpgrade() (status int, reason string) {
	key, keys := h.get("Sec-WebSocket-Key")
	version, versions := h.get("Sec-WebSocket-Version")
	_, settings := h.get("HTTP2-Settings")
	nonce, err := base64.StdEncoding.DecodeString(key)
	switch {
	case h.method != "GET":
		return 400, "upgrade with a method other than GET"
	case h.minor != 1:
		return 400, "upgrade in HTTP/1.0"
	case h.body.kind != bodyNone && !(h.body.kind == bodyLength && h.body.left == 0):
		return 400, "upgrade with a body"
	case len(h.tokens("Upgrade")) != 1:
		return 400, "upgrade to more than one protocol"
	case !h.has("Connection", "upgrade"):
		return 400, "upgrade that Connection does not name"
	case h.nominated() != "":
		// The head is forwarded as it is, and so this could only be taken out by
		// the server (RFC 9110, Section 7.6.1).
		return 400, "upgrade with a field that Connection names"
	case settings > 0:
		return 400, "upgrade with HTTP2-Settings" // which RFC 9113, Section 3.1 deprecates, with h2c
	case versions == 1 && version != "13":
		return 426, "WebSocket version other than 13"
	case versions != 1:
		return 400, "not exactly one Sec-WebSocket-Version"
	case keys != 1 || err != nil || len(nonce) != 16:
		return 400, "Sec-WebSocket-Key is not 16 bytes in base64"
	}
	return 0, ""
}

// check101 returns what is wrong with the server's answer (RFC 6455, Section
// 4.1). An answer that was not asked for must not open a tunnel.
func (h *responseHead) check101(req *requestHead) error {
	key, _ := req.get("Sec-WebSocket-Key")
	accept, accepts := h.get("Sec-WebSocket-Accept")
	protocol, protocols := h.get("Sec-WebSocket-Protocol")
	upgrade := h.tokens("Upgrade")
	switch {
	case h.minor != 1:
		return errors.New("101 in HTTP/1.0")
	case len(upgrade) != 1 || upgrade[0] != "websocket":
		return errors.New("101 that does not name websocket")
	case !h.has("Connection", "upgrade"):
		return errors.New("101 without Connection: Upgrade")
	case h.nominated() != "":
		return errors.New("101 with a field that Connection names")
	case accepts != 1 || accept != acceptKey(key):
		return errors.New("101 with a wrong Sec-WebSocket-Accept")
	case protocols > 1 || protocols == 1 && !req.offers(protocol):
		return errors.New("101 with a subprotocol that was not offered")
	}
	return h.checkInterim()
}

// offers reports whether the client named this subprotocol, to the letter.
func (h *requestHead) offers(protocol string) bool {
	for _, f := range h.fields {
		if strings.EqualFold(f.name, "Sec-WebSocket-Protocol") {
			for p := range strings.SplitSeq(f.value, ",") {
				if p = strings.Trim(p, " \t"); p != "" && p == protocol {
					return true
				}
			}
		}
	}
	return false
}

// acceptKey computes Sec-WebSocket-Accept (RFC 6455, Section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// upgrade carries a request for a WebSocket to the server and the answer back,
// byte for byte. It returns nil and no error if the server declined and the
// client may go on with another request. What the client sends early waits in
// its leg until the server has agreed.
func (f *flow) upgrade(head *requestHead) (*upgrade, error) {
	if status, reason := head.checkUpgrade(); status != 0 {
		f.refuse(head, status, reason)
		return nil, errors.New(reason)
	}
	if status, reason := f.admit(head); status != 0 {
		f.refuse(head, status, reason)
		return nil, errEnd
	}
	if err := f.freshUp(); err != nil {
		f.refuse(head, 502, "the server cannot be reached")
		return nil, errors.New(f.plainError(err))
	}
	defer afterDone(f.ctx, f.up.wire)()
	answer, err := f.finalAnswer(head)
	if err != nil {
		f.refuse(head, 502, "the server did not answer")
		return nil, errors.New(f.plainError(err)) // and not a reset, which would take the refusal with it
	}
	if answer.status != 101 {
		return nil, f.decline(head, answer)
	}
	if err := answer.check101(head); err != nil {
		f.refuse(head, 502, err.Error())
		return nil, err
	}
	deflate, err := frames.Agree(head.values("Sec-WebSocket-Extensions"), answer.values("Sec-WebSocket-Extensions"))
	var unknown *frames.UnknownExtensionError
	opaque := ""
	if errors.As(err, &unknown) && f.settings.PassUnknownExtensions {
		opaque = err.Error()
	} else if err != nil {
		// An extension that is not understood leaves nothing to be judged.
		err = fmt.Errorf("the WebSocket cannot be inspected: %w", err)
		f.refuse(head, 502, err.Error())
		return nil, err
	}
	origin, _ := head.get("Origin")
	protocol, _ := answer.get("Sec-WebSocket-Protocol")
	// Copies, or each would keep the head that it is a part of for as long as the WebSocket lives.
	f.host = strings.Clone(f.host)
	ws := &upgrade{policy.Upgrade{
		Client: f.client.Addr(), Host: f.host, Path: strings.Clone(head.path()),
		Origin: strings.Clone(origin), Subprotocol: strings.Clone(protocol),
		Conn: f.id, Rates: f.proxy.Rates,
	}, deflate, opaque, nil, nil}
	if s := f.proxy.settings(); s.Payload == audit.PayloadFull && s.Level != audit.Connections && opaque == "" {
		if ws.key, err = f.proxy.Keys.PayloadKey(f.id); err != nil {
			f.refuse(head, 503, "the WebSocket cannot be recorded")
			return nil, fmt.Errorf("audit log: %w", err)
		}
	}
	e := f.event(audit.WSOpen)
	e.Path, e.Subprotocol, e.Code = ws.Path, ws.Subprotocol, 101
	if err := f.record(e); err != nil {
		f.refuse(head, 503, "the WebSocket cannot be recorded")
		return nil, err
	}
	if _, err = f.down.Write(answer.raw); err != nil {
		return nil, err
	}
	if t := f.proxy.Tap; t != nil && opaque == "" {
		ws.tap = t.Open(f.id, f.client, f.server, head.raw, answer.raw)
	}
	return ws, nil
}

// freshUp makes sure that the server's side stands ready for a new exchange.
func (f *flow) freshUp() error {
	if f.up != nil && f.idle {
		f.idle = false
		return nil
	}
	if f.up != nil {
		f.up.end()
		f.up = nil
	}
	up, err := f.dialUp(f.ctx)
	if err == nil {
		f.up = up
	}
	return err
}

// finalAnswer sends the request and reads the server's answer. Interim ones are
// passed on.
func (f *flow) finalAnswer(head *requestHead) (*responseHead, error) {
	f.phaseUp()
	if _, err := f.up.Write(head.raw); err != nil {
		return nil, err
	}
	for range maxInterim {
		f.phaseUp()
		answer, err := readHead(f.up, parseResponse)
		if err != nil {
			return nil, err
		}
		if answer.status == 101 || answer.status >= 200 {
			return answer, nil
		}
		if err := answer.checkInterim(); err != nil {
			return nil, err
		}
		if _, err := f.down.Write(answer.raw); err != nil {
			return nil, err
		}
	}
	return nil, errInterim
}

// decline passes on the answer of a server that does not upgrade: an ordinary
// one, byte for byte. Whatever its status and its header say, it opens no tunnel.
func (f *flow) decline(head *requestHead, answer *responseHead) error {
	f.state = audit.StateInspected
	b, err := answer.responseBody()
	if err != nil {
		f.refuse(head, 502, err.Error())
		return err
	}
	if err := f.recordRequest(head, answer.status, ""); err != nil {
		return err
	}
	if _, err := f.down.Write(answer.raw); err != nil {
		return err
	}
	buf := make([]byte, 16<<10)
	for !b.done() {
		f.phaseUp()
		n, rerr := f.up.Read(buf)
		k, err := b.consume(buf[:n])
		f.up.unread(buf[k:n])
		if _, werr := f.down.Write(buf[:k]); err == nil {
			err = werr
		}
		if rerr != nil && err == nil && !b.done() {
			if eof, clean := f.up.isEOF(rerr); eof && b.kind == bodyUntilEOF {
				if !clean {
					f.down.close(false) // and so does the client see no clean end
				}
				return errEnd
			} else if eof {
				rerr = io.ErrUnexpectedEOF
			}
			err = rerr
		}
		if err != nil {
			f.reset = true
			return err
		}
	}
	if answer.has("Connection", "close") || head.has("Connection", "close") || answer.minor == 0 {
		return errEnd
	}
	f.idle = len(f.up.back) == 0 // and not if the server has said more than it was asked
	f.up.wire.SetDeadline(time.Time{})
	f.phase()
	return nil
}
