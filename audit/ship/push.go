package ship

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"
)

// A pusher brings checkpoints to a target: the last of those that it is given,
// or all. It returns how many it has brought.
type pusher interface {
	push(ctx context.Context, checkpoints [][]byte) (int, error)
	close()
}

// mostKept is how many checkpoints of the history wait for a target at most,
// beside the newest: as many as the history has.
const mostKept = 4096

// A push is a target of checkpoints.
type push struct {
	health
	pusher pusher
	every  time.Duration
	hurry  chan struct{} // closed when the shipper stops

	mu      sync.Mutex
	kept    [][]byte // of the history, not sent yet; only if keeps
	newest  []byte   // nil: sent
	last    []byte   // that was sent
	urgent  bool     // newest is one of the history
	keeps   bool     // the target wants all of the history
	wake    chan struct{}
	settled chan struct{} // closed while there is nothing to send
}

func newPush(every time.Duration, keeps bool) *push {
	p := &push{every: every, keeps: keeps, hurry: make(chan struct{}), wake: make(chan struct{}, 1), settled: make(chan struct{})}
	close(p.settled)
	return p
}

// offer takes a checkpoint in place of the one that waits.
func (p *push) offer(msg []byte, keep bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if bytes.Equal(msg, p.last) {
		return // it has arrived
	}
	if p.newest == nil && len(p.kept) == 0 {
		p.settled = make(chan struct{})
	}
	if p.newest = msg; keep {
		p.urgent = true
		if p.keeps {
			if len(p.kept) == mostKept {
				p.kept = p.kept[1:] // a later one says more
			}
			p.kept, p.newest = append(p.kept, msg), nil
		}
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// waiting returns what is to be sent, the newest last.
func (p *push) waiting() (checkpoints [][]byte, urgent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	checkpoints = append(checkpoints, p.kept...)
	if p.newest != nil {
		checkpoints = append(checkpoints, p.newest)
	}
	return checkpoints, p.urgent
}

// sent takes out what has arrived, or was passed over for a newer one.
func (p *push) sent(checkpoints [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = checkpoints[len(checkpoints)-1]
	arrived := func(msg []byte) bool {
		return slices.ContainsFunc(checkpoints, func(c []byte) bool { return bytes.Equal(c, msg) })
	}
	p.kept = slices.DeleteFunc(p.kept, arrived)
	if p.newest != nil && arrived(p.newest) {
		p.newest = nil
	}
	if p.newest == nil && len(p.kept) == 0 {
		p.kept, p.urgent = nil, false
		close(p.settled)
	}
}

// run pushes until ctx is done.
func (p *push) run(ctx context.Context) {
	defer p.pusher.close()
	var last time.Time // of the last success
	for {
		checkpoints, urgent := p.waiting()
		if len(checkpoints) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-p.wake:
			}
			continue
		}
		if wait := p.every - time.Since(last); wait > 0 && !urgent && !p.rushed() {
			if !p.rest(ctx, wait) {
				return
			}
			continue
		}
		n, err := p.pusher.push(ctx, checkpoints)
		if err == nil {
			last = time.Now()
			p.succeeded(n)
			p.sent(checkpoints)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		pause := p.failed(err)
		if p.rushed() {
			pause = min(pause, 100*time.Millisecond)
			if !sleep(ctx, pause, nil) {
				return
			}
		} else if !sleep(ctx, pause, p.hurry) {
			return
		}
	}
}

// rest waits until the next push is due, or one cannot wait.
func (p *push) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return true
		case <-p.hurry:
			return true
		case <-p.wake:
			if _, urgent := p.waiting(); urgent {
				return true
			}
		}
	}
}

func (p *push) rushed() bool {
	select {
	case <-p.hurry:
		return true
	default:
		return false
	}
}

// done is closed once nothing waits.
func (p *push) done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settled
}
