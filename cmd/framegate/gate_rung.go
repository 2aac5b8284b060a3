package main

import (
	"math"
	"time"
)

// A rung says how bad it is: rungSoft sheds caches, rungHard refuses.
type rung int

const (
	rungNormal rung = iota
	rungSoft
	rungHard
)

func (r rung) String() string { return [...]string{"normal", "soft", "hard"}[r] }

// Thresholds are the loads at which a rung is entered and left: apart, so that
// what hovers at one of them does not change the rung all the time.
type thresholds [rungHard + 1]struct{ enter, leave float64 }

var (
	memoryRungs = &thresholds{rungSoft: {0.9, 0.8}, rungHard: {1, 0.95}}
	countRungs  = &thresholds{rungSoft: {math.Inf(1), math.Inf(1)}, rungHard: {1, 0.95}} // caches hold no descriptors
)

// A cause is one thing that can run short.
type cause struct {
	name  string
	why   refusal
	rungs *thresholds
	unit  uint64
	of    string // what the unit is
}

const (
	ofMemory = iota
	ofDescriptors
	ofConnections
)

var causes = [...]cause{
	ofMemory:      {"memory", refuseMemory, memoryRungs, 1 << 20, "MiB"},
	ofDescriptors: {"descriptors", refuseDescriptors, countRungs, 1, "open files"},
	ofConnections: {"max_connections", refuseConnections, countRungs, 1, "connections"},
}

// calm is how long a rung is kept after the last sign of it, so that there are
// not more than two changes in that time to be recorded.
const calm = 2 * time.Second

// A ladder is how far up it has gone for one cause.
type ladder struct {
	rung rung
	sign time.Time // the last one of rung
}

// step takes in a load, and whether somebody was refused, and reports whether
// the rung has changed.
func (l *ladder) step(now time.Time, on *thresholds, load float64, refused bool) bool {
	at := rungNormal
	for r := rungSoft; r <= rungHard; r++ {
		if load >= on[r].enter || r == rungHard && refused {
			at = r
		}
	}
	before := l.rung
	switch {
	case at >= l.rung:
		l.rung, l.sign = at, now
	case load >= on[l.rung].leave:
		l.sign = now
	case now.Sub(l.sign) >= calm:
		// Down to the rung that the load would keep, if it had been there.
		l.sign = now
		for l.rung--; l.rung > at && load < on[l.rung].leave; l.rung-- {
		}
	}
	return l.rung != before
}
