package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// epoch is the time of the first packet that the tests make.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var (
	alice = netip.MustParseAddrPort("10.0.0.2:40000")
	bob   = netip.MustParseAddrPort("192.0.2.7:80")
)

// seg is a segment in a test: flags of "SAFR".
type seg struct {
	src, dst netip.AddrPort
	seq      uint32
	flags    string
	data     string
}

// ip returns the IP packet of a segment.
func (s seg) ip(t testing.TB, options ...layers.TCPOption) []byte {
	t.Helper()
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(s.src.Port()), DstPort: layers.TCPPort(s.dst.Port()),
		Seq: s.seq, Window: 65535, Options: options,
		SYN: strings.Contains(s.flags, "S"), ACK: strings.Contains(s.flags, "A"),
		FIN: strings.Contains(s.flags, "F"), RST: strings.Contains(s.flags, "R"),
	}
	var network gopacket.SerializableLayer
	src, dst := s.src.Addr().AsSlice(), s.dst.Addr().AsSlice()
	if s.src.Addr().Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
		network = ip
		_ = tcp.SetNetworkLayerForChecksum(ip)
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
		network = ip
		_ = tcp.SetNetworkLayerForChecksum(ip)
	}
	b := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, opts, network, tcp, gopacket.Payload(s.data)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packets returns segments as raw IP packets.
func packets(t testing.TB, segs ...seg) [][]byte {
	t.Helper()
	var out [][]byte
	for _, s := range segs {
		out = append(out, s.ip(t))
	}
	return out
}

// pcapFile writes packets one millisecond apart.
func pcapFile(t testing.TB, link layers.LinkType, packets ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	if err := w.WriteFileHeader(maxPacket, link); err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		info := gopacket.CaptureInfo{
			Timestamp: epoch.Add(time.Duration(i) * time.Millisecond), CaptureLength: len(p), Length: len(p),
		}
		if err := w.WritePacket(info, p); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// ngFile does the same as pcapng.
func ngFile(t testing.TB, link layers.LinkType, packets ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, link)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		info := gopacket.CaptureInfo{
			Timestamp: epoch.Add(time.Duration(i) * time.Millisecond), CaptureLength: len(p), Length: len(p),
		}
		if err := w.WritePacket(info, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// swapped turns a little-endian pcap file into a big-endian one.
func swapped(file []byte) []byte {
	b := bytes.Clone(file)
	swap := func(b []byte, size int) {
		for ; len(b) >= size; b = b[size:] {
			if size == 2 {
				binary.BigEndian.PutUint16(b, binary.LittleEndian.Uint16(b))
			} else {
				binary.BigEndian.PutUint32(b, binary.LittleEndian.Uint32(b))
			}
		}
	}
	swap(b[:4], 4)
	swap(b[4:8], 2)
	swap(b[8:24], 4)
	for at := 24; at < len(b); {
		n := int(binary.LittleEndian.Uint32(b[at+8:]))
		swap(b[at:at+16], 4)
		at += 16 + n
	}
	return b
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A trace keeps what ReadPackets says of each connection, as readable text:
// "> data", "< data", "> gap 3", "close".
type trace struct {
	conns []*Conn
	logs  []*streamLog
}

type streamLog struct {
	t      testing.TB
	events []string
	times  []time.Time
	data   [2][]byte // to the client, to the server
	gaps   int
	closed int
}

func (tr *trace) open(t testing.TB) func(*Conn) Stream {
	return func(c *Conn) Stream {
		l := &streamLog{t: t}
		tr.conns, tr.logs = append(tr.conns, c), append(tr.logs, l)
		return l
	}
}

func arrow(toServer bool) (string, int) {
	if toServer {
		return ">", 1
	}
	return "<", 0
}

func (l *streamLog) Data(toServer bool, at time.Time, b []byte) {
	if l.closed > 0 {
		l.t.Error("data after close")
	}
	if len(b) == 0 {
		l.t.Error("no data")
	}
	a, i := arrow(toServer)
	if len(l.events) < 1000 {
		l.events = append(l.events, a+" "+string(b))
		l.times = append(l.times, at)
	}
	l.data[i] = append(l.data[i], b...)
}

func (l *streamLog) Gap(toServer bool, at time.Time, n int) {
	if l.closed > 0 {
		l.t.Error("gap after close")
	}
	if n <= 0 {
		l.t.Errorf("gap of %d bytes", n)
	}
	a, _ := arrow(toServer)
	l.gaps += n
	if len(l.events) < 1000 {
		l.events = append(l.events, fmt.Sprintf("%s gap %d", a, n))
		l.times = append(l.times, at)
	}
}

func (l *streamLog) Close() { l.closed++ }

// text returns the events of all connections, a line each.
func (tr *trace) text() string {
	var b strings.Builder
	for i, c := range tr.conns {
		fmt.Fprintf(&b, "%v > %v\n", c.Client, c.Server)
		for _, e := range tr.logs[i].events {
			fmt.Fprintln(&b, e)
		}
	}
	return b.String()
}

// read reads a file of packets and checks that each stream is closed once.
func read(t testing.TB, file []byte, limits limits) (*trace, Stats, error) {
	t.Helper()
	var tr trace
	stats, err := readPackets(bytes.NewReader(file), tr.open(t), limits)
	for i, l := range tr.logs {
		if l.closed != 1 {
			t.Errorf("stream %d: closed %d times", i, l.closed)
		}
	}
	return &tr, stats, err
}
