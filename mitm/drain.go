package mitm

import (
	"context"
	"math/rand/v2"
	"time"
)

// A Drain is the cause (context.Cause) of the end of the context of
// [Proxy.ServeConn] when not all connections should end at the same moment:
// each does at a random one before the time of the Drain is over, so that those
// who come back do not all come at once. Any other cause ends them immediately.
type Drain struct {
	end time.Time
	now context.Context
	cut context.CancelFunc
}

// NewDrain begins a Drain that is over after spread; zero: at once.
func NewDrain(spread time.Duration) *Drain {
	d := &Drain{end: time.Now().Add(spread)}
	d.now, d.cut = context.WithCancel(context.Background())
	if spread <= 0 {
		d.cut()
	}
	return d
}

// Error implements error.
func (d *Drain) Error() string { return "the gateway stops" }

// AtOnce ends everything that is left.
func (d *Drain) AtOnce() { d.cut() }

// in calls f when it is the turn of a connection, which is at the latest when d
// is over, and may call it again.
func (d *Drain) in(f func()) {
	left := time.Until(d.end)
	if d.now.Err() != nil || left <= 0 {
		f()
		return
	}
	turn := time.AfterFunc(rand.N(left), f)
	context.AfterFunc(d.now, func() {
		turn.Stop()
		f()
	})
}

// ownContext returns a context that ends when that of ServeConn does, or for a
// [Drain] when it is the turn of this connection. Its cause is then
// context.Canceled. cancel ends it earlier, and gives back what it takes.
func ownContext(ctx context.Context) (own context.Context, cancel context.CancelCauseFunc) {
	own, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		gone := func() { end(context.Canceled) }
		if d, ok := context.Cause(ctx).(*Drain); ok {
			d.in(gone)
			return
		}
		gone()
	})
	return own, func(cause error) {
		stop()
		end(cause)
	}
}
