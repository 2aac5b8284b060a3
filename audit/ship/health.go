package ship

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Between two tries of a target that fails: at first about a second, then twice
// as long each time, up to a minute.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// A Status says how one target fares.
type Status struct {
	Target      string    // as configured
	Records     bool      // it takes records; else checkpoints
	LastSuccess time.Time // zero: none yet
	Failing     string    // why the last try failed; empty: it did not
	Failures    int64     // tries that failed, since the start
	Sent        int64     // records or checkpoints that it has taken
	Lost        int64     // records that it will not get
	Queued      int64     // bytes of records that wait
}

// A health follows the tries of one target. Of a failure that lasts it tells
// once, and once when it ends.
type health struct {
	what   string // "records" or "checkpoints"
	target Target
	log    *slog.Logger
	pause  time.Duration // the first; zero: firstPause

	mu     sync.Mutex
	status Status
	since  time.Time // of the failure
	tries  int       // of the failure
}

func (h *health) succeeded(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status.LastSuccess = time.Now()
	h.status.Sent += int64(n)
	if h.tries > 0 {
		h.log.Info("audit "+h.what+" reach the target again", "target", h.target.text,
			"tries_failed", h.tries, "for", time.Since(h.since).Round(time.Second))
	}
	h.status.Failing, h.tries = "", 0
}

// failed notes an error and returns how long to wait before the next try.
func (h *health) failed(err error) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tries == 0 {
		h.since = time.Now()
		h.log.Warn("audit "+h.what+" do not reach the target", "target", h.target.text, "err", err)
	}
	h.status.Failing = err.Error()
	h.status.Failures++
	h.tries++
	pause := h.pause
	if pause == 0 {
		pause = firstPause
	}
	pause = min(pause<<min(h.tries-1, 6), longestPause)
	pause = pause/2 + rand.N(pause/2+1) // so that gateways do not all come at once
	var busy *busyError
	if errors.As(err, &busy) {
		pause = max(pause, min(busy.after, time.Hour))
	}
	return pause
}

func (h *health) failing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tries > 0
}

func (h *health) snapshot() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.status
	s.Target, s.Records = h.target.text, h.what == "records"
	return s
}

// A busyError is a refusal for now; the target may say for how long.
type busyError struct {
	err   error
	after time.Duration // zero: it did not say
}

func (e *busyError) Error() string { return e.err.Error() }
func (e *busyError) Unwrap() error { return e.err }

// A refusedError is an answer that will not change: what was sent is lost.
type refusedError struct {
	err   error
	count int // of the records; the others were taken
}

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// sleep waits, less long if hurry comes. It says false if ctx is done.
func sleep(ctx context.Context, d time.Duration, hurry <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-hurry:
	case <-t.C:
	}
	return ctx.Err() == nil
}
