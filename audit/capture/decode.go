package capture

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Link types that gopacket has no name for: tcpdump.org/linktypes.html.
const (
	linkRawBSD  = 12
	linkRawOpen = 14
	linkSLL2    = 276
)

// What a packet is if it is no segment.
var (
	errOther     = errors.New("not tcp over ip")
	errLink      = errors.New("unsupported link type")
	errMalformed = errors.New("malformed header")
	errFragment  = errors.New("fragment of a packet that is not complete")
)

// A segment is one TCP segment. data is what the capture has of its payload,
// good until the next packet; cut is how many bytes of it are missing at the
// end because the capture kept only the start of packets.
type segment struct {
	at                 time.Time
	src, dst           netip.AddrPort
	seq                uint32
	syn, ack, fin, rst bool
	data               []byte
	cut                int
}

// A decoder takes the headers off packets. gopacket's layers are reused; the
// general decoder is not used, so that only what is named here parses input.
type decoder struct {
	ethernet  layers.Ethernet
	vlan      layers.Dot1Q
	sll       layers.LinuxSLL
	loopback  layers.Loopback
	ip4       layers.IPv4
	tcp       layers.TCP
	fragments fragments
}

func newDecoder(stats *Stats) *decoder {
	return &decoder{fragments: fragments{lost: &stats.Fragments}}
}

func (d *decoder) decode(p packet) (segment, error) {
	next, b, err := d.link(p.link, p.data)
	if err != nil {
		return segment{}, err
	}
	var s segment
	switch next {
	case layers.LayerTypeIPv4:
		s, err = d.ipv4(b)
	case layers.LayerTypeIPv6:
		s, err = d.ipv6(b)
	default:
		err = errOther
	}
	s.at = p.at
	return s, err
}

// link returns what follows the link layer and VLAN tags.
func (d *decoder) link(link uint32, b []byte) (gopacket.LayerType, []byte, error) {
	var next gopacket.LayerType
	var err error
	switch link {
	case uint32(layers.LinkTypeNull), uint32(layers.LinkTypeLoop):
		err = d.loopback.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		next, b = d.loopback.NextLayerType(), d.loopback.Payload
	case uint32(layers.LinkTypeEthernet):
		err = d.ethernet.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		next, b = d.ethernet.NextLayerType(), d.ethernet.Payload
	case uint32(layers.LinkTypeLinuxSLL):
		// The address has eight bytes of room; gopacket slices by its length.
		if len(b) < 16 || binary.BigEndian.Uint16(b[4:]) > 8 {
			return 0, nil, errMalformed
		}
		err = d.sll.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		next, b = d.sll.NextLayerType(), d.sll.Payload
	case linkSLL2:
		if len(b) < 20 {
			return 0, nil, errMalformed
		}
		next, b = layers.EthernetType(binary.BigEndian.Uint16(b)).LayerType(), b[20:]
	case uint32(layers.LinkTypeRaw), linkRawBSD, linkRawOpen,
		uint32(layers.LinkTypeIPv4), uint32(layers.LinkTypeIPv6):
		if len(b) == 0 {
			return 0, nil, errMalformed
		}
		switch b[0] >> 4 {
		case 4:
			next = layers.LayerTypeIPv4
		case 6:
			next = layers.LayerTypeIPv6
		}
	default:
		return 0, nil, errLink
	}
	for err == nil && next == layers.LayerTypeDot1Q {
		err = d.vlan.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		next, b = d.vlan.NextLayerType(), d.vlan.Payload
	}
	if err != nil {
		return 0, nil, errMalformed
	}
	return next, b, nil
}

func (d *decoder) ipv4(b []byte) (segment, error) {
	ip := &d.ip4
	if ip.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil || ip.Version != 4 {
		return segment{}, errMalformed
	}
	if ip.Protocol != layers.IPProtocolTCP {
		return segment{}, errOther
	}
	src, _ := netip.AddrFromSlice(ip.SrcIP)
	dst, _ := netip.AddrFromSlice(ip.DstIP)
	payload, cut := ip.Payload, int(ip.Length)-int(ip.IHL)*4-len(ip.Payload)
	if more := ip.Flags&layers.IPv4MoreFragments != 0; more || ip.FragOffset > 0 {
		key := datagramKey{src: src, dst: dst, id: uint32(ip.Id)}
		if payload = d.fragments.add(key, int(ip.FragOffset)*8, more, payload, cut); payload == nil {
			return segment{}, errFragment
		}
		cut = 0
	}
	return d.segment(src, dst, payload, cut)
}

// ipv6 goes through the headers of RFC 8200, Section 4. gopacket's IPv6 counts
// the hop-by-hop header twice when it takes the padding off a frame.
func (d *decoder) ipv6(b []byte) (segment, error) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return segment{}, errMalformed
	}
	src, _ := netip.AddrFromSlice(b[8:24])
	dst, _ := netip.AddrFromSlice(b[24:40])
	next, length := layers.IPProtocol(b[6]), int(binary.BigEndian.Uint16(b[4:]))
	b = b[40:]
	if length == 0 { // a jumbogram, or left to the network card to fill in
		length = len(b)
	}
	cut := max(0, length-len(b))
	b = b[:length-cut]
	for {
		switch next {
		case layers.IPProtocolTCP:
			return d.segment(src, dst, b, cut)
		case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination:
			if len(b) < 8 || len(b) < int(b[1])*8+8 {
				return segment{}, errMalformed
			}
			next, b = layers.IPProtocol(b[0]), b[int(b[1])*8+8:]
		case layers.IPProtocolIPv6Fragment:
			if len(b) < 8 {
				return segment{}, errMalformed
			}
			where := binary.BigEndian.Uint16(b[2:])
			key := datagramKey{src: src, dst: dst, id: binary.BigEndian.Uint32(b[4:])}
			next, b = layers.IPProtocol(b[0]), b[8:]
			if where&^6 == 0 {
				continue // "atomic fragment", RFC 6946: a whole packet
			}
			if b = d.fragments.add(key, int(where&^7), where&1 != 0, b, cut); b == nil {
				return segment{}, errFragment
			}
			cut = 0
		default:
			return segment{}, errOther
		}
	}
}

func (d *decoder) segment(src, dst netip.Addr, b []byte, cut int) (segment, error) {
	if len(b) < 20 {
		return segment{}, errMalformed
	}
	if n := int(b[12]>>4) * 4; n < 20 || n > len(b) {
		return segment{}, errMalformed
	}
	// What is left to fail is an option. RFC 9293, Section 3.1 (MUST-7) has
	// receivers live with such a header, so its data counts.
	_ = d.tcp.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
	tcp := &d.tcp
	return segment{
		src: netip.AddrPortFrom(src, uint16(tcp.SrcPort)),
		dst: netip.AddrPortFrom(dst, uint16(tcp.DstPort)),
		seq: tcp.Seq, syn: tcp.SYN, ack: tcp.ACK, fin: tcp.FIN, rst: tcp.RST,
		data: tcp.Payload, cut: cut,
	}, nil
}
