package capture

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// A PacketWriter writes byte streams as the TCP connections that would have
// carried them, into a pcapng file: Ethernet, IPv4 or IPv6, TCP with a
// handshake, acknowledgements and an end. It is for one goroutine. After an
// error nothing more can be written.
type PacketWriter struct {
	ng       *ngWriter
	buf      gopacket.SerializeBuffer
	id       uint16 // of the next IPv4 packet
	ethernet layers.Ethernet
	ip4      layers.IPv4
	ip6      layers.IPv6
	tcp      layers.TCP
}

// Sizes of an Ethernet with 1500 bytes: RFC 9293, Section 3.7.1.
const (
	mss4 = 1500 - 20 - 20
	mss6 = 1500 - 40 - 20
)

// maxUnacked is how much one side sends until the other acknowledges it: less
// than the window of 65535, so that a reader finds nothing to remark on.
const maxUnacked = 32 << 10

// NewPacketWriter writes the head of a file to w. comment is about all of it.
func NewPacketWriter(w io.Writer, application, comment string) (*PacketWriter, error) {
	ng, err := newNGWriter(w, application, comment)
	if err != nil {
		return nil, err
	}
	return &PacketWriter{ng: ng, buf: gopacket.NewSerializeBuffer()}, nil
}

// Size is how many bytes have been written.
func (w *PacketWriter) Size() int64 { return w.ng.size }

// Statistics notes how many chunks of data came, and how many of these are not
// in the file.
func (w *PacketWriter) Statistics(at time.Time, received, dropped uint64) error {
	return w.ng.statistics(at, received, dropped)
}

// A PacketConn is a connection in a file of packets. Times are those of the
// packets, comments go to each packet of a call.
type PacketConn struct {
	w       *PacketWriter
	ends    [2]netip.AddrPort // the client, the server
	next    [2]uint32         // sequence number that each side sends next
	acked   [2]uint32         // what it has been told that the other received
	unacked [2]int            // bytes that it sent since
}

// Connect writes the handshake of a connection. id tells it from others
// between the same ports: its sequence numbers follow from it.
func (w *PacketWriter) Connect(id string, client, server netip.AddrPort, at time.Time, comment string) (*PacketConn, error) {
	c := &PacketConn{w: w, ends: [2]netip.AddrPort{client, server}}
	c.family()
	h := fnv.New64a()
	io.WriteString(h, id)
	first := h.Sum64()
	return c, c.handshake([2]uint32{uint32(first), uint32(first >> 32)}, at, comment)
}

// family puts both ends into one family. An explicit proxy may be reached by
// another than the server: then IPv4 is written as mapped (RFC 4291, Section
// 2.5.5.2). An unknown end is the unspecified address, port 0.
func (c *PacketConn) family() {
	for i := range c.ends {
		c.ends[i] = netip.AddrPortFrom(c.ends[i].Addr().Unmap().WithZone(""), c.ends[i].Port())
	}
	for i := range c.ends {
		if c.ends[i].IsValid() {
			continue
		}
		unknown := netip.IPv4Unspecified()
		if c.ends[1-i].Addr().Is6() {
			unknown = netip.IPv6Unspecified()
		}
		c.ends[i] = netip.AddrPortFrom(unknown, 0)
	}
	if c.ends[0].Addr().Is4() == c.ends[1].Addr().Is4() {
		return
	}
	for i, e := range c.ends {
		c.ends[i] = netip.AddrPortFrom(netip.AddrFrom16(e.Addr().As16()), e.Port())
	}
}

// Continue writes, in another file, the handshake of a connection that goes on
// and the first bytes of both sides again, as if nothing had been in between.
func (w *PacketWriter) Continue(c *PacketConn, first [2][]byte, at time.Time, comment string) (*PacketConn, error) {
	next := &PacketConn{w: w, ends: c.ends}
	err := next.handshake([2]uint32{
		c.next[0] - uint32(len(first[0])) - 1,
		c.next[1] - uint32(len(first[1])) - 1,
	}, at, comment)
	for i, b := range first {
		if err == nil {
			err = next.Send(i == 0, at, b, comment)
		}
	}
	return next, err
}

func (c *PacketConn) handshake(first [2]uint32, at time.Time, comment string) error {
	c.next, c.acked = first, [2]uint32{}
	if err := c.segment(true, at, layers.TCP{SYN: true}, nil, comment); err != nil {
		return err
	}
	c.next[0]++
	c.acked[1] = c.next[0]
	if err := c.segment(false, at, layers.TCP{SYN: true, ACK: true}, nil, comment); err != nil {
		return err
	}
	c.next[1]++
	c.acked[0] = c.next[1]
	return c.segment(true, at, layers.TCP{ACK: true}, nil, comment)
}

func side(toServer bool) int {
	if toServer {
		return 0
	}
	return 1
}

// Send writes b in segments.
func (c *PacketConn) Send(toServer bool, at time.Time, b []byte, comment string) error {
	from := side(toServer)
	most := mss4
	if c.ends[0].Addr().Is6() {
		most = mss6
	}
	for len(b) > 0 {
		part := b[:min(len(b), most)]
		b = b[len(part):]
		if c.unacked[from]+len(part) > maxUnacked {
			if err := c.Note(!toServer, at, comment); err != nil {
				return err
			}
		}
		c.acked[from], c.unacked[1-from] = c.next[1-from], 0
		if err := c.segment(toServer, at, layers.TCP{ACK: true, PSH: len(b) == 0}, part, comment); err != nil {
			return err
		}
		c.next[from] += uint32(len(part))
		c.unacked[from] += len(part)
	}
	return nil
}

// Note writes a segment without data, for its comment.
func (c *PacketConn) Note(toServer bool, at time.Time, comment string) error {
	from := side(toServer)
	c.acked[from], c.unacked[1-from] = c.next[1-from], 0
	return c.segment(toServer, at, layers.TCP{ACK: true}, nil, comment)
}

// Skip leaves a hole of n bytes, which were sent and are not here.
func (c *PacketConn) Skip(toServer bool, n int64) { c.next[side(toServer)] += uint32(n) }

// Close writes the end of the connection, client first.
func (c *PacketConn) Close(at time.Time, comment string) error {
	for _, toServer := range []bool{true, false} {
		from := side(toServer)
		c.acked[from] = c.next[1-from]
		if err := c.segment(toServer, at, layers.TCP{FIN: true, ACK: true}, nil, comment); err != nil {
			return err
		}
		c.next[from]++
	}
	c.acked[0] = c.next[1]
	return c.segment(true, at, layers.TCP{ACK: true}, nil, comment)
}

// Addresses of Ethernet: locally administered (IEEE 802, Section 8.4), since
// there never were any.
var hardware = [2][]byte{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}

// segment writes one packet. flags has nothing but flags.
func (c *PacketConn) segment(toServer bool, at time.Time, flags layers.TCP, data []byte, comment string) error {
	w, from := c.w, side(toServer)
	src, dst := c.ends[from], c.ends[1-from]
	w.ethernet = layers.Ethernet{SrcMAC: hardware[from], DstMAC: hardware[1-from], EthernetType: layers.EthernetTypeIPv4}
	w.tcp = flags
	w.tcp.SrcPort, w.tcp.DstPort = layers.TCPPort(src.Port()), layers.TCPPort(dst.Port())
	w.tcp.Seq, w.tcp.Ack, w.tcp.Window = c.next[from], c.acked[from], 65535
	most := uint16(mss4)
	var network gopacket.SerializableLayer
	if src.Addr().Is4() {
		w.ip4 = layers.IPv4{
			Version: 4, TTL: 64, Id: w.id, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(),
		}
		w.id++
		network = &w.ip4
		if err := w.tcp.SetNetworkLayerForChecksum(&w.ip4); err != nil {
			return err
		}
	} else {
		most = mss6
		w.ethernet.EthernetType = layers.EthernetTypeIPv6
		w.ip6 = layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP,
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(),
		}
		network = &w.ip6
		if err := w.tcp.SetNetworkLayerForChecksum(&w.ip6); err != nil {
			return err
		}
	}
	if flags.SYN {
		w.tcp.Options = []layers.TCPOption{{
			OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: binary.BigEndian.AppendUint16(nil, most),
		}}
	}
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(w.buf, options, &w.ethernet, network, &w.tcp, gopacket.Payload(data)); err != nil {
		return fmt.Errorf("packet: %w", err)
	}
	return w.ng.packet(at, w.buf.Bytes(), comment)
}
