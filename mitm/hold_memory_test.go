//go:build !race

// The race detector has a memory of its own.

package mitm

import (
	"io"
	"testing"

	"framegate/frames"
)

// heldSize is how large messages are that have to be held.
const heldSize = mib

// What 500 connections cost that are all within a message of 1 MiB.
func TestHeldMemoryHeap(t *testing.T) {
	const sockets, memory = 500, 32 * mib
	h := newHub(t, "ws", "", held(memory))
	open := make([]*socket, sockets)
	for i := range open {
		open[i] = h.from(i % 20)
	}
	before := int64(heap())
	message := frameOf(frames.ToServer, true, frames.Text, script(1, mib))
	for _, s := range open {
		go io.WriteString(s.client, message[:len(message)-1])
	}
	const holders = (memory - memory/8) / (2 * mib)
	h.waiting(sockets - holders)
	n := int64(heap()) - before
	t.Logf("%d MiB, of which %d connections wait with %d KiB each at most", n/mib, sockets-holders, n/sockets/1024)
	if most := int64(3*memory + sockets*(100<<10)); n > most {
		t.Errorf("%d connections hold %d bytes, over %d", sockets, n, most)
	}
}
