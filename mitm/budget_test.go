package mitm

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"framegate/frames"
)

const mib = 1 << 20

// want makes a claim of a connection of its own.
func want(n int64, client string) *claim {
	return &claim{n: n, pair: new(claims), client: clientOf(netip.MustParseAddr(client)), end: func() { panic("ended") }}
}

func TestBudgetOrder(t *testing.T) {
	var b budget
	first, large, small := want(6*mib, "10.0.0.1"), want(3*mib, "10.0.0.2"), want(1*mib, "10.0.0.3")
	if !b.take(14*mib, first) || !b.take(14*mib, want(4*mib, "10.0.0.4")) {
		t.Fatal("there is room for both")
	}
	if b.take(14*mib, large) {
		t.Fatal("3 MiB of 2.25 were given")
	}
	if b.take(14*mib, small) {
		t.Fatal("who came later got what the first one lacks")
	}
	if h := b.snapshot(14 * mib); h != (Held{Bytes: 10 * mib, Limit: 14 * mib, Waiting: 2, Waits: 2}) {
		t.Errorf("%+v", h)
	}
	b.give(first)
	<-large.granted
	<-small.granted
	if b.held != 8*mib || b.most != 10*mib {
		t.Errorf("%d held, %d at most", b.held, b.most)
	}
	if !new(budget).take(0, want(1<<50, "10.0.0.1")) {
		t.Error("a limit where there is none")
	}
}

// What is larger than all there is passes alone.
func TestBudgetLarger(t *testing.T) {
	var b budget
	small, large, later := want(mib, "10.0.0.1"), want(100*mib, "10.0.0.2"), want(mib, "10.0.0.3")
	b.take(8*mib, small)
	if b.take(8*mib, large) || b.take(8*mib, later) {
		t.Fatal("it does not wait, or is not waited for")
	}
	b.give(small)
	<-large.granted
	if b.held != 100*mib || later.place == nil {
		t.Errorf("%d held", b.held)
	}
	b.give(large)
	<-later.granted
}

// One client gets half, and its waiters are in nobody else's way.
func TestBudgetClients(t *testing.T) {
	var b budget
	held := want(3*mib, "2001:db8::1")
	b.take(8*mib, held)
	more := want(2*mib, "2001:db8::ffff") // the same /64
	if b.take(8*mib, more) {
		t.Fatal("more than half for one client")
	}
	if b.take(8*mib, want(mib, "2001:db8::2")) {
		t.Fatal("the order within a client")
	}
	if !b.take(8*mib, want(mib, "2001:db8:0:1::1")) || !b.take(8*mib, want(mib, "::ffff:10.0.0.1")) || !b.take(8*mib, want(mib, "10.0.0.2")) {
		t.Fatal("another client had to wait")
	}
	b.give(held)
	<-more.granted
}

// A server that does not read while it writes, or a client, holds nobody up: the
// other direction gets memory of its own.
func TestBudgetTwins(t *testing.T) {
	var b budget
	in := want(7*mib, "10.0.0.1")
	b.take(8*mib, in)
	stranger, out := want(mib, "10.0.0.2"), want(mib, "10.0.0.1")
	out.pair, out.dir = in.pair, frames.ToClient
	if b.take(8*mib, stranger) {
		t.Fatal("more than there is")
	}
	if !b.take(8*mib, out) || b.held+b.spare != 8*mib {
		t.Fatal("no memory for the other direction")
	}
	b.give(out)
	if b.give(in); b.spare != 0 {
		t.Errorf("%d of the spare memory", b.spare)
	}
	<-stranger.granted
	if b.give(stranger); len(b.claims)+len(b.clients)+b.waiting.Len()+b.twins.Len() != 0 || b.held != 0 {
		t.Errorf("left: %+v", &b)
	}
}

func TestBudgetCancel(t *testing.T) {
	var b budget
	held, waits := want(mib, "10.0.0.1"), want(mib, "10.0.0.1")
	b.take(mib, held)
	b.take(mib, waits)
	b.cancel(waits.pair)
	<-waits.granted
	b.cancel(waits.pair)
	b.give(waits)
	if b.give(held); b.held != 0 || len(b.clients) != 0 {
		t.Errorf("left: %+v", &b)
	}
}

// Who stands still is ended, but only while others wait, and only if it is its own
// peer that stands still.
func TestBudgetStalled(t *testing.T) {
	for _, tt := range []struct {
		name  string
		alone bool
		do    func(c *claim) // each second
		ended bool
	}{
		{"nobody waits", true, func(c *claim) { c.awaits() }, false},
		{"silent", false, func(c *claim) { c.awaits() }, true},
		{"a byte a second", false, func(c *claim) { c.came(1); c.awaits() }, true},
		{"slow, but it goes on", false, func(c *claim) { c.came(2 << 10); c.awaits() }, false},
		{"in bursts", false, func(c *claim) {
			if time.Now().Second()%25 == 0 {
				c.came(64 << 10)
			}
			c.awaits()
		}, false},
		{"we are busy with it", false, func(c *claim) { c.came(0) }, false},
		{"its other direction waits for us", false, func(c *claim) { c.awaits() }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b budget
				ended := time.Duration(0)
				begin := time.Now()
				c := want(2*mib, "10.0.0.1")
				c.end = func() { ended = time.Since(begin) }
				b.take(2*mib, c)
				time.Sleep(time.Hour) // which is nobody's concern
				begin = time.Now()
				waits := want(2*mib, "10.0.0.2")
				if !tt.alone {
					b.take(2*mib, waits)
				}
				if tt.name == "its other direction waits for us" {
					b.spare = 1
					other := want(mib, "10.0.0.1")
					other.pair, other.dir = c.pair, frames.ToClient
					if b.take(2*mib, other) {
						t.Fatal("it does not wait")
					}
					defer b.give(other)
				}
				for range 600 {
					tt.do(c)
					time.Sleep(time.Second)
				}
				synctest.Wait()
				if tt.ended != (ended > 0) || ended > 0 && ended < grace {
					t.Errorf("ended after %v", ended)
				}
				if out := b.give(c); out != tt.ended {
					t.Errorf("give says %v", out)
				}
				if !tt.alone {
					<-waits.granted
					b.give(waits)
				}
				time.Sleep(time.Minute) // the timer ends
			})
		})
	}
}

// Whatever the order in which claims come and go: no more is held than there is,
// and everybody has its turn.
func TestBudgetAnyOrder(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			var b budget
			r := rand.New(rand.NewPCG(seed, 7))
			const size = 16 * mib
			var all sync.WaitGroup
			served := 0
			var mu sync.Mutex
			for i := range 100 {
				pair, client := new(claims), clientOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(1 + i/3))}))
				for dir := range frames.Direction(2) {
					steps := make([][3]int64, 10)
					for j := range steps {
						steps[j] = [3]int64{1 + r.Int64N(2*mib), r.Int64N(1000), r.Int64N(1000)}
					}
					all.Go(func() {
						for _, s := range steps {
							c := &claim{n: s[0], dir: dir, pair: pair, client: client, end: func() { panic("ended") }}
							time.Sleep(time.Duration(s[1]))
							if !b.take(size, c) {
								<-c.granted
							}
							time.Sleep(time.Duration(s[2]))
							b.give(c)
							mu.Lock()
							served++
							mu.Unlock()
						}
					})
				}
			}
			all.Wait()
			if served != 2000 || b.most > size || b.most < size/2 || b.held+b.spare != 0 {
				t.Errorf("seed %d: %d served, %d at most, %d left", seed, served, b.most, b.held+b.spare)
			}
			time.Sleep(time.Minute)
		})
	}
}
