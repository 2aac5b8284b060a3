package main

import (
	"fmt"
	"net/netip"
	"time"

	"framegate/audit/capture"
	"framegate/frames"
	"framegate/mitm"
)

// openPackets begins to write what the WebSockets carry to audit.pcap_dir; nil
// if there is none.
func (gw *gateway) openPackets() (*capture.Ring, error) {
	c := gw.config.Audit
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
func (gw *gateway) closePackets() {
	if gw.packets == nil {
		return
	}
	if err := gw.packets.Close(); err != nil {
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

// A packetTap hands what passes to a ring of packet captures.
type packetTap struct{ ring *capture.Ring }

// Open implements mitm.Tap.
func (t packetTap) Open(conn string, client, server netip.AddrPort, request, response []byte) mitm.TapStream {
	s := t.ring.Open(conn, client, server, request, response)
	if s == nil {
		return nil
	}
	return &tapped{stream: s}
}

// tapped is one WebSocket. It follows the frames, so that a reader who has
// missed something can begin again with a whole one.
type tapped struct {
	stream *capture.RingStream
	frame  [2]frameCursor
}

// Bytes implements mitm.TapStream.
func (t *tapped) Bytes(dir frames.Direction, at time.Time, b []byte) {
	t.stream.Bytes(dir == frames.ToServer, at, b, t.frame[dir].pass(b))
}

// Close implements mitm.TapStream.
func (t *tapped) Close() { t.stream.Close() }

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
