//go:build !race

// Under the race detector sync.Pool drops some of what it is given, on purpose.

package mitm

import (
	"io"
	"runtime"
	"strings"
	"testing"

	"framegate/frames"
)

// The memory for a message does not depend on its size. This test runs alone,
// as it counts what the whole process allocates.
func TestStreamMemory(t *testing.T) {
	s := openSocket(t, "ws", `
[[rule]]
id = "never"
action = "close"
match.regex = ['no such thing \d+']
`, streaming)
	for dir := range frames.Direction(2) {
		from, to := s.sides(dir)
		const size = 32 << 20
		first, _ := beginning(from.frame(frames.Binary, strings.Repeat("x", size)), 0)
		piece := []byte(strings.Repeat("x", 64<<10))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		go func() {
			from.send(first)
			for range size / len(piece) {
				from.Write(piece)
			}
		}()
		if _, err := io.CopyN(io.Discard, to, int64(len(first)+size)); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > size/8 {
			t.Errorf("%v: %d bytes allocated for a message of %d", dir, n, size)
		}
	}
	s.finish()
}

// A WebSocket that is silent within a long message holds no more than what the
// message cannot do without: the window of the rules, and of a compressed one
// the inflater.
func TestStreamMemoryPaused(t *testing.T) {
	const sockets = 100
	for _, c := range []struct {
		name  string
		frame func() string
		most  int64 // bytes
	}{
		{"plain", func() string { return frameOf(frames.ToServer, true, frames.Binary, script(1, 300_000)) }, 24 << 10},
		{"compressed", func() string {
			return compressed(0, true, frames.Text, newDeflater(t, true).compress(script(1, 300_000)))
		}, 128 << 10},
	} {
		h := newHubWith(t, "ws", with(upgradeAnswer, "+Sec-WebSocket-Extensions: permessage-deflate"), "", streaming)
		open := make([]*socket, sockets)
		for i := range open {
			open[i] = h.open()
		}
		before := int64(heap())
		frame := c.frame()
		for _, s := range open {
			s.client.send(frame[:len(frame)*2/3])
			s.server.expect(frame[:len(frame)*2/3])
		}
		if n := (int64(heap()) - before) / sockets; n > c.most {
			t.Errorf("%s: %d bytes for each", c.name, n)
		}
	}
}

// heap is what is in use once the pools are empty.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
