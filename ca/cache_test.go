package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLeafIsMintedOnce(t *testing.T) {
	a := authority(t, Options{})
	o := origin(t, nil, "*.example.com")
	for _, name := range []string{"www.example.com", ""} {
		got := make([]*x509.Certificate, 100)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				<-start
				cert, err := a.Leaf(context.Background(), name, o, nil)
				if err != nil {
					t.Error(err)
					return
				}
				got[i] = cert.Leaf
			})
		}
		close(start)
		wg.Wait()
		for _, l := range got {
			if l != got[0] {
				t.Fatalf("%q: more than one leaf", name)
			}
		}
	}
}

func TestFlight(t *testing.T) {
	id := leafID{name: "example.com"}
	yes := func(*leaf) bool { return true }

	t.Run("one minting for all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCache(10)
			release := make(chan struct{})
			var mints atomic.Int32
			mint := func() (*leaf, error) { mints.Add(1); <-release; return &leaf{}, nil }

			ctx, cancel := context.WithCancel(t.Context())
			results := make(chan error, 100)
			go func() { _, err := c.get(ctx, id, yes, mint); results <- err }()
			synctest.Wait() // this one mints
			gone := make(chan error, 1)
			short, cut := context.WithCancel(t.Context())
			go func() { _, err := c.get(short, id, yes, mint); gone <- err }()
			for range 99 {
				go func() { _, err := c.get(t.Context(), id, yes, mint); results <- err }()
			}
			synctest.Wait()
			cut()
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("a waiter whose context ended: %v", err)
			}
			cancel() // the minting call's own context ends: the others still get their leaf
			synctest.Wait()
			close(release)
			for range 100 {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
			if n := mints.Load(); n != 1 {
				t.Errorf("%d mintings", n)
			}
			if len(c.flights) != 0 {
				t.Errorf("%d flights left", len(c.flights))
			}
		})
	})

	t.Run("a failure is not shared", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCache(10)
			release := make(chan struct{})
			broken := errors.New("broken")
			first := make(chan error, 1)
			go func() {
				_, err := c.get(t.Context(), id, yes, func() (*leaf, error) { <-release; return nil, broken })
				first <- err
			}()
			synctest.Wait()
			second := make(chan error, 1)
			go func() {
				_, err := c.get(t.Context(), id, yes, func() (*leaf, error) { return &leaf{}, nil })
				second <- err
			}()
			synctest.Wait()
			close(release)
			if err := <-first; err != broken {
				t.Error(err)
			}
			if err := <-second; err != nil {
				t.Error(err)
			}
		})
	})

	t.Run("a panic leaves no flight", func(t *testing.T) {
		c := newCache(10)
		func() {
			defer func() { recover() }()
			c.get(t.Context(), id, yes, func() (*leaf, error) { panic("signer") })
		}()
		if _, err := c.get(t.Context(), id, yes, func() (*leaf, error) { return &leaf{}, nil }); err != nil {
			t.Error(err)
		}
	})

	t.Run("purged while minting", func(t *testing.T) {
		c := newCache(10)
		old := &leaf{}
		got, err := c.get(t.Context(), id, yes, func() (*leaf, error) { c.purge(); return old, nil })
		if got != old || err != nil {
			t.Errorf("%v, %v", got, err)
		}
		fresh, _ := c.get(t.Context(), id, yes, func() (*leaf, error) { return &leaf{}, nil })
		if fresh == old {
			t.Error("a leaf from before the purge was kept")
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	const size, names = 1000, 1_000_000
	c := newCache(size)
	yes := func(*leaf) bool { return true }
	mints := 0
	get := func(name string) {
		c.get(t.Context(), leafID{name: name}, yes, func() (*leaf, error) { mints++; return &leaf{}, nil })
	}
	for i := range names {
		get(fmt.Sprintf("h%d.example", i))
		if i%100 == 0 {
			get("popular.example") // in use all the time: stays
		}
	}
	if len(c.entries) != size || c.order.Len() != size || len(c.flights) != 0 {
		t.Errorf("%d entries, %d in order, %d flights", len(c.entries), c.order.Len(), len(c.flights))
	}
	if mints != names+1 {
		t.Errorf("%d mintings: the most used name was thrown out", mints)
	}
	a := &Authority{cache: c}
	if got, want := a.Stats(), (Stats{size, size, names/100 - 1, names + 1, names + 1, names + 1 - size}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func TestLeafRenewal(t *testing.T) {
	clk := newClock()
	a := authority(t, Options{Now: clk.Now, LeafValidity: 8 * time.Hour})
	long := origin(t, func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(1, 0, 0) }, "example.com")

	first := mustLeaf(t, a, "example.com", long, nil)
	clk.Advance(6*time.Hour - time.Minute)
	if mustLeaf(t, a, "example.com", long, nil) != first {
		t.Error("renewed with more than a quarter of its life left")
	}
	clk.Advance(2 * time.Minute)
	second := mustLeaf(t, a, "example.com", long, nil)
	if second == first || !second.NotAfter.After(first.NotAfter) {
		t.Error("not renewed in its last quarter")
	}
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("one serial for two leaves")
	}

	// The server now shows a certificate that ends before the leaf, or begins after it.
	ending := origin(t, func(c *x509.Certificate) { c.NotAfter = clk.Now().Add(time.Hour) }, "example.com")
	third := mustLeaf(t, a, "example.com", ending, nil)
	if third.NotAfter.After(ending.NotAfter) {
		t.Errorf("leaf to %v, origin to %v", third.NotAfter, ending.NotAfter)
	}
	fresh := origin(t, func(c *x509.Certificate) { c.NotBefore = clk.Now().Add(-time.Minute); c.NotAfter = long.NotAfter }, "example.com")
	fourth := mustLeaf(t, a, "example.com", fresh, nil)
	if fourth.NotBefore.Before(fresh.NotBefore) {
		t.Errorf("leaf from %v, origin from %v", fourth.NotBefore, fresh.NotBefore)
	}

	// A clock set back must not show a leaf of the future.
	clk.Advance(-2 * time.Hour)
	if l := mustLeaf(t, a, "example.com", long, nil); l.NotBefore.After(clk.Now()) {
		t.Errorf("leaf from %v, now %v", l.NotBefore, clk.Now())
	}
}

func TestLeafKeyRotation(t *testing.T) {
	clk := newClock()
	a := authority(t, Options{Now: clk.Now})
	o := origin(t, nil, "*.example.com")
	key := func(name string) string {
		return string(mustLeaf(t, a, name, o, nil).RawSubjectPublicKeyInfo)
	}
	first := key("a.example.com")
	if key("b.example.com") != first {
		t.Error("two leaves of one epoch have two keys")
	}
	clk.Advance(23 * time.Hour)
	if key("a.example.com") != first {
		t.Error("the key changed within its day")
	}
	clk.Advance(61 * time.Minute) // the leaf of a moment ago is young, its key is not
	second := key("a.example.com")
	if second == first {
		t.Error("a key older than a day is still shown")
	}
	a.Purge()
	if key("a.example.com") == second {
		t.Error("the key survived a purge")
	}
	if string(mustLeaf(t, a, "a.example.com", o, rsaHello("")).RawSubjectPublicKeyInfo) == key("a.example.com") {
		t.Error("kinds share a leaf")
	}
}

// What is shed is the half that was not used for longest, and of one leaf the one.
func TestCacheSheds(t *testing.T) {
	yes := func(*leaf) bool { return true }
	for _, tt := range []struct{ before, after int }{{0, 0}, {1, 0}, {2, 1}, {9, 4}} {
		c := newCache(100)
		get := func(i int) (minted bool) {
			c.get(t.Context(), leafID{name: fmt.Sprint(i)}, yes, func() (*leaf, error) { minted = true; return &leaf{}, nil })
			return minted
		}
		for i := range tt.before {
			get(i)
		}
		c.shed()
		if a := (&Authority{cache: c}).Stats(); a.Entries != tt.after || a.Evictions != int64(tt.before-tt.after) || len(c.entries) != tt.after {
			t.Errorf("of %d leaves %d are left, %d evicted", tt.before, a.Entries, a.Evictions)
		}
		for i := tt.before - tt.after; i < tt.before; i++ {
			if get(i) {
				t.Errorf("leaf %d of %d was dropped", i, tt.before)
			}
		}
	}
}
