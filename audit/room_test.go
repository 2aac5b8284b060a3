package audit

import (
	"sync"
	"testing"
	"testing/synctest"
)

// Large records wait for the writer in bounded memory, and nobody waits for ever.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r room
		r.init()
		stopped := false
		stop := func() bool { return stopped }
		if !r.take(10*maxWaiting, stop) { // alone, whatever its size
			t.Fatal("refused")
		}
		var mu sync.Mutex
		var taken, refused int
		for range 3 {
			go func() {
				ok := r.take(maxWaiting/2, stop)
				mu.Lock()
				defer mu.Unlock()
				if ok {
					taken++
				} else {
					refused++
				}
			}()
		}
		check := func(wantTaken, wantRefused int) {
			t.Helper()
			synctest.Wait()
			if taken != wantTaken || refused != wantRefused {
				t.Errorf("%d taken, %d refused, want %d and %d", taken, refused, wantTaken, wantRefused)
			}
		}
		check(0, 0)
		r.give(10 * maxWaiting)
		check(2, 0)
		stopped = true
		r.wake()
		check(2, 1)
		r.give(maxWaiting)
		if used := r.used.Load(); used != 0 {
			t.Errorf("%d bytes are left", used)
		}
	})
}
