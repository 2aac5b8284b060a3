package mitm

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// Half-open is a connection until its first request has come, or until it was
// decided that nobody looks for one. To make many costs a client next to
// nothing, so there is a limit to them; and since honest clients are through
// within a few round trips, what is over the limit is taken from the oldest. To
// shut others out, a flood would have to replace all half-open connections
// within the time of a handshake (RFC 4987, Section 3.3, on half-open TCP).

var errCrowded = errors.New("too many half-open connections, and this was the oldest")

// A waitingRoom holds the half-open connections in the order of their arrival.
type waitingRoom struct {
	mu   sync.Mutex
	list list.List // of context.CancelCauseFunc
}

// enter adds a connection, and ends the oldest one if there are more than max; a
// max of 0 is no limit.
func (r *waitingRoom) enter(cancel context.CancelCauseFunc, max int) *list.Element {
	r.mu.Lock()
	defer r.mu.Unlock()
	if max > 0 && r.list.Len() >= max {
		r.list.Remove(r.list.Front()).(context.CancelCauseFunc)(errCrowded)
	}
	return r.list.PushBack(cancel)
}

// leave takes a connection out, if it is still there.
func (r *waitingRoom) leave(place *list.Element) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list.Remove(place)
}

// count returns how many there are.
func (r *waitingRoom) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list.Len()
}

// established says that a connection is no longer half-open.
func (f *flow) established() {
	f.proxy.halfOpen.leave(f.place)
}
