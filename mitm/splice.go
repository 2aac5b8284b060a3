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
		return err
	}
	f.down.wire.unread(f.down.back)
	if head != nil {
		f.down.wire.unread(head.raw)
	}
	f.down.back = nil
	f.up = &leg{wire: up}
	clearDeadlines(f.down.wire, up)
	if f.ctx.Err() != nil {
		f.cut()
	}
	stop := afterDone(f.ctx, up)
	defer stop()

	f.totals = &audit.Totals{}
	done := make(chan error, 1)
	go func() { done <- splice(f.down.wire, up, &f.totals.ToClient) }()
	err1 := splice(up, f.down.wire, &f.totals.ToServer)
	err2 := <-done
	f.reset = wasReset(err1) || wasReset(err2)
	return nil
}

// splice copies src to dst until the end of src, then ends dst's direction.
// Where either breaks, both are broken off, so that the other direction ends, too.
func splice(dst, src *wire, tally *audit.Tally) error {
	n, err := src.WriteTo(dst)
	tally.Bytes = n
	if err != nil {
		dst.SetLinger(0)
		src.SetLinger(0)
		dst.Close()
		src.Close()
		return err
	}
	dst.CloseWrite()
	return nil
}
