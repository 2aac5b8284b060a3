package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// written makes a file with the steps of a test.
func written(t testing.TB, steps func(w *PacketWriter)) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewPacketWriter(&b, "framegate", "a test")
	if err != nil {
		t.Fatal(err)
	}
	steps(w)
	if w.Size() != int64(b.Len()) {
		t.Errorf("size %d, wrote %d", w.Size(), b.Len())
	}
	return b.Bytes()
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// What is written as packets is read as the same streams, in any family.
func TestPacketWriter(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20_000)
	for name, test := range map[string]struct{ client, server, as string }{
		"IPv4":         {"10.0.0.2:40000", "192.0.2.7:443", "10.0.0.2:40000 > 192.0.2.7:443"},
		"IPv6":         {"[2001:db8::2]:40000", "[2001:db8::7]:443", "[2001:db8::2]:40000 > [2001:db8::7]:443"},
		"mapped":       {"[::ffff:10.0.0.2]:40000", "192.0.2.7:443", "10.0.0.2:40000 > 192.0.2.7:443"},
		"zone":         {"[fe80::1%eth0]:40000", "[fe80::2]:443", "[fe80::1]:40000 > [fe80::2]:443"},
		"both":         {"10.0.0.2:40000", "[2001:db8::7]:443", "[::ffff:10.0.0.2]:40000 > [2001:db8::7]:443"},
		"no client":    {"", "[2001:db8::7]:443", "[::]:0 > [2001:db8::7]:443"},
		"nobody known": {"", "", "0.0.0.0:0 > 0.0.0.0:0"},
	} {
		client, _ := netip.ParseAddrPort(test.client)
		server, _ := netip.ParseAddrPort(test.server)
		file := written(t, func(w *PacketWriter) {
			c, err := w.Connect("c-1", client, server, epoch, "one")
			must(t, err)
			must(t, c.Send(true, epoch.Add(time.Second), []byte("GET / HTTP/1.1\r\n"), ""), c.Send(false, epoch, []byte(long), "two"),
				c.Note(true, epoch, "three"), c.Send(true, epoch, []byte(long), ""), c.Close(epoch, "four"))
		})
		checkPackets(t, file)
		tr, stats, err := read(t, file, defaultLimits)
		if name == "nobody known" {
			continue // a connection with itself; that it can be written is enough
		}
		if err != nil || stats.Missing+stats.Malformed+stats.Other+stats.Stray != 0 || stats.Connections != 1 {
			t.Errorf("%s: %v, %+v", name, err, stats)
			continue
		}
		if got := tr.conns[0].Client.String() + " > " + tr.conns[0].Server.String(); got != test.as {
			t.Errorf("%s: %s, want %s", name, got, test.as)
		}
		if l := tr.logs[0]; string(l.data[1]) != "GET / HTTP/1.1\r\n"+long || string(l.data[0]) != long || !l.times[0].Equal(epoch.Add(time.Second)) {
			t.Errorf("%s: %d and %d bytes", name, len(l.data[1]), len(l.data[0]))
		}
	}
}

// checkPackets holds each packet against RFC 791, 8200 and 9293: lengths,
// checksums, sizes, sequence numbers, windows.
func checkPackets(t testing.TB, file []byte) {
	t.Helper()
	s := &ngSource{r: bytes.NewReader(file)}
	next := map[string]uint32{}
	acked := map[string]uint32{}
	for n := 1; ; n++ {
		p, err := s.next()
		if err == io.EOF {
			return
		}
		must(t, err)
		packet := gopacket.NewPacket(p.data, layers.LinkTypeEthernet, gopacket.Default)
		if packet.ErrorLayer() != nil || packet.TransportLayer() == nil {
			t.Fatalf("packet %d: %v", n, packet)
		}
		if len(p.data) > 14+1500 {
			t.Errorf("packet %d: %d bytes", n, len(p.data))
		}
		tcp := packet.TransportLayer().(*layers.TCP)
		pseudo := append(bytes.Clone(packet.NetworkLayer().NetworkFlow().Src().Raw()), packet.NetworkLayer().NetworkFlow().Dst().Raw()...)
		length := len(tcp.Contents) + len(tcp.Payload)
		pseudo = append(pseudo, 0, 6, byte(length>>8), byte(length))
		if sum := onesSum(append(append(pseudo, tcp.Contents...), tcp.Payload...)); sum != 0xffff {
			t.Errorf("packet %d: TCP checksum is wrong", n)
		}
		if ip, ok := packet.NetworkLayer().(*layers.IPv4); ok && onesSum(ip.Contents) != 0xffff {
			t.Errorf("packet %d: IP checksum is wrong", n)
		}
		from := packet.NetworkLayer().NetworkFlow().String() + packet.TransportLayer().TransportFlow().String()
		to := packet.NetworkLayer().NetworkFlow().Reverse().String() + packet.TransportLayer().TransportFlow().Reverse().String()
		if tcp.SYN {
			next[from] = tcp.Seq
		} else if from != to && next[from] != tcp.Seq {
			t.Errorf("packet %d: seq %d, expected %d", n, tcp.Seq, next[from])
		}
		if tcp.ACK && from != to && tcp.Ack != next[to] {
			t.Errorf("packet %d: ack %d, expected %d", n, tcp.Ack, next[to])
		}
		next[from] = tcp.Seq + uint32(len(tcp.Payload))
		if tcp.SYN || tcp.FIN {
			next[from]++
		}
		if tcp.ACK {
			acked[to] = tcp.Ack
		}
		if inFlight := next[from] - acked[from]; acked[from] != 0 && from != to && inFlight > 65535 {
			t.Errorf("packet %d: %d bytes in flight", n, inFlight)
		}
	}
}

// onesSum is the sum of RFC 1071.
func onesSum(b []byte) uint16 {
	var sum uint32
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// A hole is read as one of that size, and the rest behind it.
func TestPacketWriterSkip(t *testing.T) {
	file := written(t, func(w *PacketWriter) {
		c, err := w.Connect("c-1", alice, bob, epoch, "")
		must(t, err)
		must(t, c.Send(true, epoch, []byte("GET /"), ""))
		c.Skip(true, 7)
		must(t, c.Send(true, epoch, []byte("behind"), ""), c.Close(epoch, ""))
	})
	tr, stats, err := read(t, file, defaultLimits)
	if want := "10.0.0.2:40000 > 192.0.2.7:80\n> GET /\n> gap 7\n> behind\n"; err != nil || tr.text() != want || stats.Missing != 7 {
		t.Errorf("%v, %+v, %s", err, stats, tr.text())
	}
}

// Two connections between the same ports are two, also one right behind the other.
func TestPacketWriterSamePorts(t *testing.T) {
	file := written(t, func(w *PacketWriter) {
		for _, id := range []string{"c-1", "c-2"} {
			c, err := w.Connect(id, alice, bob, epoch, "")
			must(t, err)
			must(t, c.Send(true, epoch, []byte(id), ""), c.Close(epoch, ""))
		}
	})
	tr, stats, err := read(t, file, defaultLimits)
	if err != nil || stats.Connections != 2 || !strings.Contains(tr.text(), "> c-1\n") || !strings.Contains(tr.text(), "> c-2\n") {
		t.Errorf("%v, %+v, %s", err, stats, tr.text())
	}
}

// A comment can be anything, and is cut to a size.
func TestComments(t *testing.T) {
	for _, comment := range []string{"", "a", "ab", "abc", "\xff\xfe", strings.Repeat("ä", 5000), "a" + strings.Repeat("ä", 5000)} {
		file := written(t, func(w *PacketWriter) {
			c, err := w.Connect("c-1", alice, bob, epoch, comment)
			must(t, err)
			must(t, c.Send(true, epoch, []byte("x"), comment), c.Close(time.Time{}, comment), w.Statistics(epoch, 3, 1))
		})
		if tr, _, err := read(t, file, defaultLimits); err != nil || !strings.Contains(tr.text(), "> x\n") {
			t.Errorf("%q: %v, %s", comment, err, tr.text())
		}
		if len(file) > 20_000 {
			t.Errorf("%d bytes", len(file))
		}
	}
}

// FuzzPacketWriter holds the writer against the reader: whatever is sent in
// whatever pieces is read again.
func FuzzPacketWriter(f *testing.F) {
	f.Add([]byte("\x01\x05hello\x00\x03abc\x02\x04\x01\x01x"), "c-1", true)
	f.Add([]byte("\x00\xff"+strings.Repeat("z", 255)), "\xff", false)
	f.Fuzz(func(t *testing.T, script []byte, id string, six bool) {
		client, server := alice, bob
		if six {
			client, server = netip.MustParseAddrPort("[2001:db8::2]:40000"), netip.MustParseAddrPort("[2001:db8::7]:443")
		}
		var want [2][]byte
		gaps := 0
		file := written(t, func(w *PacketWriter) {
			c, err := w.Connect(id, client, server, epoch, id)
			must(t, err)
			for len(script) > 1 {
				kind, n := script[0], int(script[1])
				script = script[2:]
				b := bytes.Repeat(script[:min(n, len(script))], 1+int(kind>>4))
				script = script[min(n, len(script)):]
				switch toServer := kind&1 == 1; {
				case kind&2 == 0:
					must(t, c.Send(toServer, epoch, b, id))
					want[1-side(toServer)] = append(want[1-side(toServer)], b...)
				case n%2 == 0 && len(b) > 0:
					c.Skip(toServer, int64(len(b)))
					must(t, c.Send(toServer, epoch, []byte("."), id))
					want[1-side(toServer)] = append(want[1-side(toServer)], '.')
					gaps += len(b)
				default:
					must(t, c.Note(toServer, epoch, id))
				}
			}
			must(t, c.Close(epoch, id))
		})
		tr, stats, err := read(t, file, defaultLimits)
		if err != nil || stats.Missing != int64(gaps) || stats.Malformed+stats.Other+stats.Stray != 0 {
			t.Fatalf("%v, %+v, %d bytes skipped", err, stats, gaps)
		}
		var got [2][]byte
		if len(tr.logs) > 0 {
			got = tr.logs[0].data
		}
		if !bytes.Equal(got[0], want[0]) || !bytes.Equal(got[1], want[1]) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}
