package main

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func newClientTable() *clientTable {
	t := new(clientTable)
	t.init()
	return t
}

// A bucket holds ten seconds' worth, or one if that is less, and fills at its rate.
func TestClientRate(t *testing.T) {
	for _, tt := range []struct {
		rate  string
		burst int
		each  time.Duration
	}{
		{"5/s", 50, 200 * time.Millisecond},
		{"1000000/s", 10_000_000, time.Microsecond},
		{"30/m", 5, 2 * time.Second},
		{"1/m", 1, time.Minute},
	} {
		t.Run(tt.rate, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rate, err := perTime(tt.rate)
				if err != nil {
					t.Fatal(err)
				}
				b, born := new(bucket), time.Now()
				take := func() bool { return b.take(time.Since(born), rate) }
				all := func() (n int) {
					for take() {
						n++
					}
					return n
				}
				if n := all(); n != tt.burst {
					t.Errorf("%d at once, expected %d", n, tt.burst)
				}
				time.Sleep(tt.each - 1)
				if take() {
					t.Error("one came back too early")
				}
				time.Sleep(time.Nanosecond)
				if n := all(); n != 1 {
					t.Errorf("%d came back, expected 1", n)
				}
				time.Sleep(time.Hour)
				if n := all(); n != tt.burst {
					t.Errorf("%d after a pause, expected %d", n, tt.burst)
				}
			})
		})
	}
}

func TestClientLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newClientTable()
		l := clientLimits{connections: 2, rate: rateLimit(time.Second)}
		enter := func(a string, want refusal) *client {
			t.Helper()
			c, why := table.enter(netip.MustParseAddr(a), l)
			if why != want || (c == nil) != (want != refuseNot) {
				t.Fatalf("%s: %v, expected %v", a, why, want)
			}
			return c
		}
		for _, same := range [][3]string{
			{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"},
			{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:0:1::"},
		} {
			first := enter(same[0], refuseNot)
			second := enter(same[1], refuseNot)
			enter(same[2], refuseClientConnections)
			table.leave(first)
			third := enter(same[2], refuseNot)
			table.leave(second)
			for range 7 { // ten have been let through then
				table.leave(enter(same[0], refuseNot))
			}
			enter(same[1], refuseClientRate)
			table.leave(third)
			enter(same[1], refuseClientRate) // what is known outlives the last connection
			time.Sleep(time.Second)
			table.leave(enter(same[2], refuseNot))
		}
		enter("192.0.2.2", refuseNot)
		enter("2001:db8:0:1::1", refuseNot)

		a := netip.MustParseAddr("192.0.2.1")
		for range 10 {
			if !table.handshake(a, rateLimit(time.Second)) {
				t.Error("handshakes are not counted apart from connections")
			}
		}
		if table.handshake(a, rateLimit(time.Second)) {
			t.Error("an eleventh handshake")
		}
	})
}

// However many clients come, those without a connection have so many places,
// and those with one are never forgotten.
func TestClientsAreBounded(t *testing.T) {
	table := newClientTable()
	l := clientLimits{connections: 1}
	address := func(i int) netip.Addr {
		var b [16]byte
		b[0] = 0x20
		binary.BigEndian.PutUint32(b[4:], uint32(i))
		return netip.AddrFrom16(b)
	}
	var held []*client
	for i := range 300_000 {
		c, why := table.enter(address(i), l)
		if why != refuseNot {
			t.Fatal(why)
		}
		if i%100 == 0 {
			held = append(held, c)
		} else {
			table.leave(c)
		}
		table.handshake(address(-i), rateLimit(time.Second))
	}
	known, idle := 0, 0
	for i := range table.shards {
		known += len(table.shards[i].clients)
		idle += table.shards[i].idle.Len()
	}
	if idle > clientShards*clientIdle || known != idle+len(held) {
		t.Errorf("%d clients are known, %d of them idle, and %d have a connection", known, idle, len(held))
	}
	for i := range held {
		if _, why := table.enter(address(i*100), l); why != refuseClientConnections {
			t.Fatalf("client %d was forgotten", i)
		}
	}
}
