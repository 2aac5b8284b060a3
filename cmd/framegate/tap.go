package main

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"framegate/audit/capture"
	"framegate/frames"
	"framegate/mitm"
)

// openPackets begins to write what the WebSockets carry to audit.pcap_dir; nil
// if there is none.
func (gw *gateway) openPackets(of *config) (*capture.Ring, error) {
	c := of.Audit
	if c.PcapDir == "" {
		return nil, nil
	}
	ring, err := capture.OpenRing(capture.RingOptions{
		Dir: c.PcapDir, MaxSize: c.PcapMaxSize, Application: "framegate " + currentBuild().Version, Log: gw.console,
	})
	if err != nil {
		return nil, usage(err).hint("name a directory in audit.pcap_dir that this user may write to, and nobody else may read")
	}
	gw.console.Warn("packets: what WebSockets carry is written in plain text", "dir", c.PcapDir, "max_size", c.PcapMaxSize)
	return ring, nil
}

// closePackets ends the last file. That it fails has no bearing on anything else.
func (gw *gateway) closePackets() { gw.endRing(gw.packets.ring.Load()) }

func (gw *gateway) endRing(r *capture.Ring) {
	if r == nil {
		return
	}
	if err := r.Close(); err != nil {
		gw.console.Error("packets: the last file is not whole", "err", err)
	}
}

// packetsSize accepts what a ring of files can be bounded to.
func packetsSize(v any) (int64, error) {
	n, err := size(v)
	if err == nil && n < capture.MinRing {
		err = mismatch(v, fmt.Sprintf(`%dMiB or more`, capture.MinRing>>20))
	}
	return n, err
}

// A packetTap hands what passes to a ring of packet captures, nil if there is none.
// After another has taken its place, the WebSockets that were in the one before
// go on in it; those that were in none stay out, since how they began is not known.
type packetTap struct{ ring atomic.Pointer[capture.Ring] }

// Open implements mitm.Tap.
func (t *packetTap) Open(conn string, client, server netip.AddrPort, request, response []byte) mitm.TapStream {
	ring := t.ring.Load()
	if ring == nil {
		return nil
	}
	s := ring.Open(conn, client, server, request, response)
	if s == nil {
		return nil
	}
	w := &tapped{tap: t}
	w.stream.Store(s)
	return w
}

// tapped is one WebSocket. It follows the frames, so that a reader who has
// missed something can begin again with a whole one.
type tapped struct {
	tap    *packetTap
	stream atomic.Pointer[capture.RingStream]
	frame  [2]frameCursor
}

// in returns the stream in the ring that is in force.
func (t *tapped) in() *capture.RingStream {
	s, ring := t.stream.Load(), t.tap.ring.Load()
	if ring == nil || s.In(ring) {
		return s
	}
	t.stream.CompareAndSwap(s, ring.Adopt(s)) // unless the other direction was first
	return t.stream.Load()
}

// Bytes implements mitm.TapStream.
func (t *tapped) Bytes(dir frames.Direction, at time.Time, b []byte) {
	t.in().Bytes(dir == frames.ToServer, at, b, t.frame[dir].pass(b))
}

// Close implements mitm.TapStream.
func (t *tapped) Close() { t.in().Close() }

// A frameCursor knows where in the frames of a direction it stands.
type frameCursor struct {
	head []byte // of a header that is not all there
	left int64  // of a payload
	lost bool   // what came is not frames
}

// pass goes behind b and says whether b began with a frame.
func (c *frameCursor) pass(b []byte) (aligned bool) {
	aligned = len(c.head) == 0 && c.left == 0 && !c.lost
	for len(b) > 0 && !c.lost {
		if c.left > 0 {
			n := min(c.left, int64(len(b)))
			c.left -= n
			b = b[n:]
			continue
		}
		known := len(c.head)
		head := b
		if known > 0 {
			// A header has 14 bytes at most (RFC 6455, Section 5.2).
			head = append(c.head, b[:min(len(b), 14)]...)
		}
		h, n, err := frames.ConsumeHeader(head)
		switch {
		case err != nil:
			c.lost = true // the relay ends here as well
		case n == 0:
			c.head = append(c.head[:0], head...)
			return aligned
		default:
			c.head, c.left = c.head[:0], h.Length
			b = b[n-known:]
		}
	}
	return aligned
}
