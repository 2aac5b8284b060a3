package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

const (
	// spareFiles are the descriptors that are not for connections: listeners, the
	// log, the admin port, name look-ups.
	spareFiles = 64
	// connectionCost is what a new connection is taken to need: about twice what
	// was measured, with both handshakes and what they leave to the collector. It
	// counts until the need has shown, for lookWindow.
	connectionCost = 128 << 10
	// messageCost is what a live connection may hold without a claim of the memory
	// for messages (package mitm): in each direction a message of up to 64 KiB. That
	// was measured to take 80 KiB in one, and in a burst some garbage.
	messageCost = 128 << 10
	lookEvery   = 250 * time.Millisecond
	lookWindow  = 4 // looks
	// shedEvery is the least time between two sheddings: each has the collector
	// run, and what was dropped and is needed has to be made again.
	shedEvery = 10 * time.Second
	// refreshEvery is how often limits are looked up that hardly ever change.
	refreshEvery = 10 * time.Second
	// sayEvery is how often refusals are logged, in one line for each reason.
	sayEvery = 10 * time.Second
)

// A room is what there was room for when it was last looked at.
type room struct {
	memoryUse
	crowded  bool  // memory is above its limit, or was and is not yet clearly below
	open     int64 // descriptors
	files    int64 // limit of open
	admitted int64 // connections, ever
	before   int64 // connections, at the begin of the window
}

// connections is how many fit into the descriptors: each takes two.
func (r *room) connections() int64 { return max(1, (r.files-spareFiles)/2) }

// A watcher looks at what there is room for, and says when that changes. It is
// used by one goroutine.
type watcher struct {
	gate      *gate
	probe     memoryProbe
	groups    []memoryGroup
	refreshed time.Time
	tuned     uint64 // Go's memory limit, if we have set it
	window    [lookWindow]int64
	looks     int
	last      *room

	ladders [len(causes)]struct {
		ladder
		refused int64 // when it was last looked at
		since   int64 // refused before the rung became hard
	}
	shedAt time.Time
	said   [len(refusals)]struct {
		n  int64
		at time.Time
	}
}

func newWatcher(g *gate) *watcher {
	w := &watcher{gate: g, probe: ownMemory, groups: ownMemory.groups(), last: new(room)}
	for i, c := range causes {
		w.ladders[i].refused = g.refused[c.why].n.Load()
	}
	for i := range w.window {
		w.window[i] = g.admitted.Load()
	}
	return w
}

// start watches until living is done. accepting is done when new connections
// are no longer accepted.
func (g *gate) start(accepting, living context.Context) {
	context.AfterFunc(accepting, func() { g.ending.Store(true) })
	go g.watch(living)
}

func (g *gate) watch(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for w := newWatcher(g); ; {
		now := time.Now()
		if now.Sub(w.refreshed) >= refreshEvery {
			w.refresh(now)
		}
		r := w.look()
		g.room.Store(r)
		w.climb(now, r)
		w.say(now)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// budget is what limits.memory is in bytes, whatever else takes memory.
func (g *gate) budget() int64 {
	limit := ownMemory.limit(ownMemory.groups())
	return int64(min(limit, math.MaxInt64)) / 100 * int64(g.limits.Load().memory)
}

// refresh follows changes of the cgroup and of limits.memory. Go's collector
// begins to work harder at eight tenths of it, so that garbage is no reason to
// refuse anybody. Who sets GOMEMLIMIT knows better.
func (w *watcher) refresh(now time.Time) {
	w.refreshed, w.groups = now, w.probe.groups()
	soft := uint64(w.gate.budget()) / 10 * 8
	if os.Getenv("GOMEMLIMIT") == "" && soft > 0 && soft != w.tuned {
		debug.SetMemoryLimit(int64(soft))
		w.tuned = soft
	}
}

// look measures.
func (w *watcher) look() *room {
	r := &room{admitted: w.gate.admitted.Load(), files: fileLimit(), open: openFiles()}
	r.memoryUse = w.probe.look(goMemory(), w.groups, w.gate.limits.Load().memory, w.gate.live())
	r.before = w.window[w.looks%lookWindow]
	w.window[w.looks%lookWindow] = r.admitted
	w.looks++
	r.crowded = r.load() >= memoryRungs[rungHard].enter || w.last.crowded && r.load() >= memoryRungs[rungHard].leave
	w.last = r
	return r
}

// fileLimit is RLIMIT_NOFILE, which prlimit(1) can change while we run.
func fileLimit() int64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 2*1024 + spareFiles
	}
	return int64(min(r.Cur, math.MaxInt32))
}

// openFiles counts our descriptors; 0 if that cannot be seen.
func openFiles() int64 {
	const dir = "/proc/self/fd"
	// Since Linux 6.2 their number is the size of the directory.
	if info, err := os.Stat(dir); err == nil && info.Size() > 0 {
		return info.Size()
	}
	d, err := os.Open(dir)
	if err != nil {
		return 0
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return int64(len(names))
}

// climb finds the rung of each cause, says when one changes, and sheds.
func (w *watcher) climb(now time.Time, r *room) {
	g := w.gate
	live, most := g.live(), int64(g.limits.Load().connections)
	if most == 0 {
		live, most = 0, g.max() // which follows from the descriptors, and they are what is short
	}
	uses := [len(causes)]memoryUse{
		ofMemory:      r.memoryUse,
		ofDescriptors: {uint64(max(r.open+spareFiles/2, 2*g.live()+spareFiles)), uint64(r.files)},
		ofConnections: {uint64(live), uint64(most)},
	}
	for i, c := range causes {
		l, use, n := &w.ladders[i], uses[i], g.refused[c.why].n.Load()
		if l.rung != rungHard {
			l.since = l.refused
		}
		changed := l.step(now, c.rungs, use.load(), n > l.refused)
		l.refused = n
		if !changed {
			continue
		}
		reason := fmt.Sprintf("%s %s: %d of %d %s", c.name, l.rung, use.used/c.unit, use.limit/c.unit, c.of)
		if n > l.since && l.rung != rungHard {
			reason += fmt.Sprintf(", %d connections refused", n-l.since)
		}
		slog.Warn("overload", "cause", c.name, "rung", l.rung, "used", use.used, "limit", use.limit, "live", g.live())
		g.rungs[i].Store(int32(l.rung))
		g.changed(reason)
	}
	w.relieve(now, r)
}

// relieve sheds caches as long as memory is short, and gives garbage back until it
// no longer is: who refuses has no new garbage that would have it collected.
func (w *watcher) relieve(now time.Time, r *room) {
	soft := memoryRungs[rungSoft]
	at := w.ladders[ofMemory].rung
	if at < rungSoft || r.load() < soft.leave || now.Sub(w.shedAt) < shedEvery {
		return
	}
	w.shedAt = now
	if r.load() >= soft.enter || at == rungHard { // refusals may be ahead of the load
		w.gate.sheddings.Add(1)
		w.gate.shed()
		runtime.GC() // the pools give up what they hold in the second round
	}
	debug.FreeOSMemory()
}

// say logs refusals: the first at once, and then a count every sayEvery.
func (w *watcher) say(now time.Time) {
	for why := range w.said {
		s, r := &w.said[why], &w.gate.refused[why]
		n := r.n.Load()
		if n == s.n || now.Sub(s.at) < sayEvery {
			continue
		}
		r.mu.Lock()
		client := r.client
		r.mu.Unlock()
		slog.Warn("new connections refused", "reason", refusals[why].name, "count", n-s.n, "client", client, "live", w.gate.live())
		s.n, s.at = n, now
	}
}
