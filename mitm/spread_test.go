package mitm

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestDrainSpread: with a Drain each connection ends at a moment of its own, all
// before it is over; AtOnce ends those that are left, and another cause all.
func TestDrainSpread(t *testing.T) {
	const spread, count = 10 * time.Second, 1000
	ends := func(t *testing.T, cause error, atOnce time.Duration) (after []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			parent, end := context.WithCancelCause(context.Background())
			ended := make(chan time.Duration, count)
			begin := time.Now()
			for range count {
				ctx, cancel := ownContext(parent)
				defer cancel(nil)
				context.AfterFunc(ctx, func() {
					if context.Cause(ctx) != context.Canceled {
						t.Errorf("ended by %v", context.Cause(ctx))
					}
					ended <- time.Since(begin)
				})
			}
			d, ok := cause.(*Drain)
			if ok {
				d = NewDrain(spread) // by the clock in here
				cause = d
			}
			end(cause)
			if ok && atOnce > 0 {
				time.Sleep(atOnce)
				d.AtOnce()
			}
			for range count {
				after = append(after, <-ended)
			}
			late, cancel := ownContext(parent) // accepted too late
			defer cancel(nil)
			<-late.Done()
			if since := time.Since(begin); since > spread {
				t.Errorf("one that came last ends after %v", since)
			}
		})
		slices.Sort(after)
		return after
	}
	t.Run("spread", func(t *testing.T) {
		after := ends(t, &Drain{}, 0)
		if after[count-1] > spread {
			t.Errorf("the last ends after %v", after[count-1])
		}
		// In each tenth of the time about a tenth of them.
		var tenths [10]int
		for _, d := range after {
			tenths[min(9, d/(spread/10))]++
		}
		for _, n := range tenths {
			if n < count/20 || n > count/5 {
				t.Errorf("they end unevenly: %v", tenths)
				break
			}
		}
	})
	t.Run("at once", func(t *testing.T) {
		after := ends(t, &Drain{}, time.Second)
		if after[count-1] != time.Second || after[0] >= time.Second {
			t.Errorf("from %v to %v", after[0], after[count-1])
		}
	})
	t.Run("other cause", func(t *testing.T) {
		if after := ends(t, errors.New("another"), 0); after[count-1] != 0 {
			t.Errorf("the last ends after %v", after[count-1])
		}
	})
}

// TestDrainReleases: a connection that has ended is not waited for.
func TestDrainReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDrain(time.Hour)
		parent, end := context.WithCancelCause(context.Background())
		ctx, cancel := ownContext(parent)
		cancel(nil)
		end(d)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("it has not ended")
		}
		d.AtOnce()
	})
}
