package mitm

import (
	"framegate/audit"
	"framegate/policy"
)

// bypass passes the connection through unseen. What was read of it so far, the
// ClientHello or head, goes to the server first; from then on each side gets
// exactly what the other sends, half-close and reset included, for as long as
// they like.
func (f *flow) bypass(head *requestHead, d policy.Decision) error {
	f.state = audit.StateBypassed
	if d.Action != policy.Bypass {
		f.state, f.reason = audit.StateOpaque, "neither TLS nor HTTP"
	} else if d.Rule != "" {
		f.rules = []string{d.Rule}
	}
	e := f.event(audit.ConnBypass)
	e.Action, e.Rules, e.Reason = policy.Bypass.String(), f.rules, f.reason
	if err := f.record(e); err != nil {
		return err
	}
	up, err := f.dial(f.ctx)
	if err != nil {
		f.reset = true // as near as this comes to a connection that was refused
		f.reason = ""  // which err says from here
		return err
	}
	f.down.wire.unread(f.down.back)
	if head != nil {
		f.down.wire.unread(head.raw)
	}
	f.down.back = nil
	f.up = &leg{wire: up}
	f.established()
	return f.splice()
}

// opaque carries a WebSocket on which an extension was agreed that leaves
// nothing to be judged.
func (f *flow) opaque(ws *upgrade) error {
	f.state, f.reason = audit.StateOpaque, ws.opaque
	e := f.event(audit.ConnBypass)
	e.Action, e.Path, e.Reason = policy.Bypass.String(), ws.Path, ws.opaque
	if err := f.record(e); err != nil {
		return err
	}
	return f.splice()
}

// splice passes on what either side sends, unseen, until both have ended.
func (f *flow) splice() error {
	clearDeadlines(f.down.wire, f.up.wire)
	if f.ctx.Err() != nil {
		f.cut()
	}
	stop := afterDone(f.ctx, f.up.wire)
	defer stop()

	f.totals = &audit.Totals{}
	done := make(chan error, 1)
	go func() { done <- splice(&f.down, f.up, &f.totals.ToClient) }()
	err1 := splice(f.up, &f.down, &f.totals.ToServer)
	err2 := <-done
	f.reset = wasReset(err1) || wasReset(err2)
	return nil
}

// splice copies src to dst until the end of src, then ends dst's direction.
// Where either breaks, both are broken off, so that the other direction ends, too.
func splice(dst, src *leg, tally *audit.Tally) error {
	n, err := src.copyTo(dst)
	tally.Bytes = n
	if eof, clean := src.isEOF(err); eof {
		dst.closeWrite(clean)
		return nil
	}
	dst.close(true)
	src.close(true)
	return err
}
