package ship

import (
	"context"
	"errors"
	"time"
)

// A carrier brings records to a target. An error means that all of them are to
// be sent again, but for a *refusedError.
type carrier interface {
	send(ctx context.Context, b *batch) error
	close()
}

// A sink is a target of records.
type sink struct {
	health
	queue   *queue
	carrier carrier
	hurry   chan struct{} // closed when the shipper stops: no more pauses
}

// run sends what waits, in order, until ctx is done.
func (s *sink) run(ctx context.Context) {
	defer s.carrier.close()
	for {
		b := s.queue.next(ctx)
		if b == nil || !s.deliver(ctx, b) {
			return
		}
	}
}

// deliver tries until b has arrived, is refused for good or given up. It says
// false when ctx is done.
func (s *sink) deliver(ctx context.Context, b *batch) bool {
	for s.queue.holds(b) {
		err := s.carrier.send(ctx, b)
		var refused *refusedError
		switch {
		case err == nil:
			s.succeeded(b.count)
			s.queue.done(b, 0)
			return true
		case errors.As(err, &refused) && refused.count < b.count:
			if _, told := s.queue.lossSince(); !told {
				s.log.Warn("audit records are refused by the target", "target", s.target.text, "err", err)
			}
			s.succeeded(b.count - refused.count)
			s.queue.done(b, refused.count)
			return true
		case errors.As(err, &refused):
			s.failed(err)
			s.queue.done(b, b.count)
			return true
		case ctx.Err() != nil:
			return false
		}
		pause := s.failed(err)
		select {
		case <-s.hurry: // it fails even at the end: not without a pause, but a short one
			pause = min(pause, 100*time.Millisecond)
			if !sleep(ctx, pause, nil) {
				return false
			}
		default:
			if !sleep(ctx, pause, s.hurry) {
				return false
			}
		}
	}
	return true
}

// longestLoss is how long a loss goes unrecorded while the target fails.
const longestLoss = time.Hour

// due returns a loss that is to be recorded: the target takes records again, or
// has not for long. One record for each that is lost because of the one before
// would be a loop, so a target that fails has to wait.
func (s *sink) due(all bool) (l loss, ok bool) {
	since, any := s.queue.lossSince()
	if !any || !all && s.failing() && time.Since(since) < longestLoss {
		return l, false
	}
	return s.queue.takeLoss(), true
}

func (s *sink) snapshot() Status {
	st := s.health.snapshot()
	st.Queued, st.Lost = s.queue.sizes()
	return st
}
