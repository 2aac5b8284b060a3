package intercept

import (
	"log/slog"
	"sync"
	"time"
)

// A throttle logs what outsiders can cause at will, such as connections of a
// port scanner, without letting them fill the disk: throttleLines a
// throttlePeriod, and a count of the rest with the next line. The zero throttle
// is ready.
type throttle struct {
	mu    sync.Mutex
	since time.Time // begin of the current period
	lines int       // logged in it
	muted int       // not logged since the last line
}

const (
	throttleLines  = 10
	throttlePeriod = 10 * time.Second
)

func (t *throttle) warn(msg string, args ...any) {
	t.mu.Lock()
	if now := time.Now(); now.Sub(t.since) >= throttlePeriod {
		t.since, t.lines = now, 0
	}
	if t.lines == throttleLines {
		t.muted++
		t.mu.Unlock()
		return
	}
	t.lines++
	muted := t.muted
	t.muted = 0
	t.mu.Unlock()
	if muted > 0 {
		args = append(args, "muted", muted)
	}
	slog.Warn(msg, args...)
}

// flush logs the count that no line has carried yet.
func (t *throttle) flush() {
	t.mu.Lock()
	muted := t.muted
	t.muted = 0
	t.mu.Unlock()
	if muted > 0 {
		slog.Warn("more log lines were left out", "muted", muted)
	}
}
