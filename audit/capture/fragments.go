package capture

import (
	"net/netip"
	"slices"
)

// maxFragments is how many bytes of incomplete packets are kept. Above it all
// of them are dropped: fragments of TCP are rare, floods of them are not.
const maxFragments = 16 << 20

// fragmentCost is what a fragment takes besides its bytes.
const fragmentCost = 128

// maxDatagram is the longest payload of an IP packet.
const maxDatagram = 65535

type datagramKey struct {
	src, dst netip.Addr
	id       uint32
}

type fragment struct {
	offset int
	data   []byte
}

// A datagram is a packet of which fragments are missing.
type datagram struct {
	fragments []fragment // ascending, never overlapping
	size      int        // of the fragments
	total     int        // of the whole; 0: the last fragment was not seen
}

// fragments puts together what IPv4 (RFC 791) and IPv6 (RFC 8200, Section 4.5)
// have cut up.
type fragments struct {
	waiting map[datagramKey]*datagram
	held    int
	lost    *int64
}

// add takes a fragment and returns the payload that it completes, or nil.
func (f *fragments) add(key datagramKey, offset int, more bool, data []byte, cut int) []byte {
	end := offset + len(data)
	if cut > 0 || len(data) == 0 || end > maxDatagram || more && len(data)%8 != 0 {
		*f.lost++
		return nil
	}
	if f.held+len(data)+fragmentCost > maxFragments {
		*f.lost += f.left()
		f.waiting, f.held = nil, 0
	}
	g := f.waiting[key]
	if g == nil {
		g = new(datagram)
		if f.waiting == nil {
			f.waiting = make(map[datagramKey]*datagram)
		}
		f.waiting[key] = g
	}
	at, same := slices.BinarySearchFunc(g.fragments, offset, func(have fragment, offset int) int {
		return have.offset - offset
	})
	if same && len(g.fragments[at].data) == len(data) {
		*f.lost++ // sent, or captured, twice
		return nil
	}
	// "If any of the fragments being reassembled overlap with any other
	// fragments being reassembled for the same packet, reassembly of that
	// packet must be abandoned" (RFC 8200, Section 4.5). In IPv4 it is an
	// attack as well.
	overlaps := same ||
		at > 0 && g.fragments[at-1].offset+len(g.fragments[at-1].data) > offset ||
		at < len(g.fragments) && g.fragments[at].offset < end
	if overlaps || g.total > 0 && (!more || end > g.total) {
		*f.lost += int64(len(g.fragments)) + 1
		f.forget(key, g)
		return nil
	}
	g.fragments = slices.Insert(g.fragments, at, fragment{offset, slices.Clone(data)})
	g.size += len(data)
	f.held += len(data) + fragmentCost
	if !more {
		g.total = end
	}
	if g.size != g.total {
		return nil
	}
	whole := make([]byte, 0, g.total)
	for _, part := range g.fragments {
		whole = append(whole, part.data...)
	}
	f.forget(key, g)
	return whole
}

func (f *fragments) forget(key datagramKey, g *datagram) {
	f.held -= g.size + fragmentCost*len(g.fragments)
	delete(f.waiting, key)
}

// left returns how many fragments are waiting.
func (f *fragments) left() int64 {
	var n int64
	for _, g := range f.waiting {
		n += int64(len(g.fragments))
	}
	return n
}
