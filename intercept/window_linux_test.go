package intercept

import (
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A rawConn is open until it is closed.
type rawConn struct {
	syscall.RawConn
	closed atomic.Bool
}

func (c *rawConn) Control(func(fd uintptr)) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return nil
}

// What is closed is not kept, be it found by the next that come or by a look, and
// what is open stays.
func TestWindowsForgetTheClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w windows
		open := make([]*rawConn, 100)
		for i := range open {
			open[i] = new(rawConn)
			w.add(open[i])
		}
		for range 100_000 { // come and go
			c := new(rawConn)
			w.add(c)
			c.closed.Store(true)
		}
		w.mu.Lock()
		if n := len(w.shut); n > 10*len(open) {
			t.Errorf("%d are known, of which %d are open", n, len(open))
		}
		w.mu.Unlock()
		known := func(n int, looks bool) {
			t.Helper()
			time.Sleep(2 * userTimeout / windowLooks)
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.shut) != n || (w.timer != nil) != looks {
				t.Errorf("%d are known, looked for: %v; expected %d, %v", len(w.shut), w.timer != nil, n, looks)
			}
		}
		known(len(open), true)
		for _, c := range open {
			c.closed.Store(true)
		}
		known(0, false)
		again := new(rawConn)
		w.add(again)
		known(1, true)
		again.closed.Store(true)
		known(0, false)
	})
}
