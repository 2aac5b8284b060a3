package capture

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
)

func TestLinkTypes(t *testing.T) {
	v6 := []seg{
		{netip.MustParseAddrPort("[2001:db8::2]:40000"), netip.MustParseAddrPort("[2001:db8::7]:80"), 99, "S", ""},
		{netip.MustParseAddrPort("[2001:db8::2]:40000"), netip.MustParseAddrPort("[2001:db8::7]:80"), 100, "A", "hello"},
	}
	mac := strings.Repeat("\x02", 12)
	for name, test := range map[string]struct {
		link   uint32
		v4, v6 string // what stands before the IP packet
		tail   string
	}{
		"ethernet":            {1, mac + "\x08\x00", mac + "\x86\xdd", "padding"},
		"vlan":                {1, mac + "\x81\x00\x00\x05\x08\x00", mac + "\x81\x00\x00\x05\x86\xdd", ""},
		"vlan in vlan":        {1, mac + "\x88\xa8\x00\x07\x81\x00\x00\x05\x08\x00", mac + "\x88\xa8\x00\x07\x81\x00\x00\x05\x86\xdd", ""},
		"sll":                 {113, "\x00\x00\x00\x01\x00\x06\x02\x02\x02\x02\x02\x02\x00\x00\x08\x00", "\x00\x00\x00\x01\x00\x06\x02\x02\x02\x02\x02\x02\x00\x00\x86\xdd", ""},
		"sll2":                {276, "\x08\x00" + strings.Repeat("\x00", 18), "\x86\xdd" + strings.Repeat("\x00", 18), ""},
		"raw":                 {101, "", "", ""},
		"raw, BSD":            {12, "", "", ""},
		"raw, IPv4 and IPv6":  {228, "", "", ""},
		"null, little-endian": {0, "\x02\x00\x00\x00", "\x1e\x00\x00\x00", ""},
		"null, Linux":         {0, "\x02\x00\x00\x00", "\x0a\x00\x00\x00", ""},
		"loop":                {108, "\x00\x00\x00\x02", "\x00\x00\x00\x18", ""},
		"frame check":         {1 | 4<<28 | 1<<26, mac + "\x08\x00", mac + "\x86\xdd", "\x01\x02\x03\x04"},
	} {
		t.Run(name, func(t *testing.T) {
			var all [][]byte
			for _, p := range packets(t, hello...) {
				all = append(all, []byte(test.v4+string(p)+test.tail))
			}
			for _, p := range packets(t, v6...) {
				all = append(all, []byte(test.v6+string(p)+test.tail))
			}
			want := helloTrace + "[2001:db8::2]:40000 > [2001:db8::7]:80\n> hello\n"
			file := pcapFile(t, 0, all...)
			binary.LittleEndian.PutUint32(file[20:], test.link)
			tr, stats, err := read(t, file, defaultLimits)
			if err != nil || tr.text() != want {
				t.Errorf("pcap: %v, %+v\n%s", err, stats, tr.text())
			}
			if test.link > 0xffff {
				return
			}
			file = ngFile(t, 0, all...)
			section := binary.LittleEndian.Uint32(file[4:])
			binary.LittleEndian.PutUint16(file[section+8:], uint16(test.link))
			tr, stats, err = read(t, file, defaultLimits)
			if err != nil || tr.text() != want {
				t.Errorf("pcapng: %v, %+v\n%s", err, stats, tr.text())
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	alice, bob := netip.MustParseAddrPort("[2001:db8::2]:40000"), netip.MustParseAddrPort("[2001:db8::7]:80")
	plain := seg{alice, bob, 100, "A", "hello"}.ip(t)
	extended := func(first byte, chain string) []byte {
		p := append(bytes.Clone(plain[:40]), chain...)
		p[6] = first
		p = append(p, plain[40:]...)
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		return append(p, "padding"...)
	}
	badOption := seg{alice, bob, 100, "A", "hello"}.ip(t, layers.TCPOption{OptionType: 8, OptionData: make([]byte, 8)})
	badOption[40+20+1] = 99 // its length
	unfilled := bytes.Clone(plain)
	binary.BigEndian.PutUint16(unfilled[4:], 0)
	for name, p := range map[string][]byte{
		"hop by hop":               extended(0, "\x06\x00\x01\x04\x00\x00\x00\x00"),
		"hop by hop, destination":  extended(0, "\x3c\x00\x01\x04\x00\x00\x00\x00\x06\x01\x01\x0c"+strings.Repeat("\x00", 12)),
		"atomic fragment":          extended(44, "\x06\x00\x00\x00\x00\x00\x00\x09"),
		"option of TCP too long":   badOption,
		"length left to the card":  unfilled,
		"as TCP segmentation does": plain,
	} {
		tr, stats, err := read(t, pcapFile(t, layers.LinkTypeRaw, p), defaultLimits)
		if err != nil || !strings.HasSuffix(tr.text(), "80\n> hello\n") {
			t.Errorf("%s: %v, %+v\n%s", name, err, stats, tr.text())
		}
	}
	for name, p := range map[string][]byte{
		"empty":                   {},
		"half an IPv4 header":     seg{alice, bob, 0, "S", ""}.ip(t)[:10],
		"half an IPv6 header":     plain[:39],
		"no TCP header":           plain[:50],
		"extension too long":      extended(0, "\x06\xff\x01\x04\x00\x00\x00\x00"),
		"extension of four bytes": extended(0, "\x06\x00\x01\x04\x00\x00\x00\x00")[:44],
		"TCP header of 4 words":   func() []byte { p := bytes.Clone(plain); p[52] = 0x40; return p }(),
		"TCP header of 15 words":  func() []byte { p := bytes.Clone(plain); p[52] = 0xf0; return p }(),
	} {
		tr, stats, err := read(t, pcapFile(t, layers.LinkTypeRaw, p), defaultLimits)
		if err != nil || len(tr.logs) != 0 || stats != (Stats{Packets: 1, Malformed: 1}) {
			t.Errorf("%s: %v, %+v\n%s", name, err, stats, tr.text())
		}
	}
	sll := append([]byte("\x00\x00\x00\x01\xff\xff\x02\x02\x02\x02\x02\x02\x00\x00\x86\xdd"), plain...)
	if _, stats, err := read(t, pcapFile(t, layers.LinkTypeLinuxSLL, sll), defaultLimits); err != nil || stats.Malformed != 1 {
		t.Errorf("cooked address of 65535 bytes: %v, %+v", err, stats)
	}
}

func TestSnapLength(t *testing.T) {
	var cut [][]byte
	for _, p := range packets(t, c2s(99, "S", ""), c2s(100, "A", "0123456789"), c2s(110, "A", "abcdefghij"),
		c2s(110, "A", "a"), c2s(116, "A", "ghijk")) {
		cut = append(cut, p[:min(len(p), 44)])
	}
	tr, stats, err := read(t, pcapFile(t, layers.LinkTypeRaw, cut...), defaultLimits)
	// All that is new of the last segment is what was cut off it.
	if want := ends + "> 0123\n> gap 6\n> abcd\n> gap 6\n> gap 1\n"; err != nil || tr.text() != want || stats.Missing != 13 {
		t.Errorf("%v, %+v\n%swant\n%s", err, stats, tr.text(), want)
	}
	// Out of order, a cut is filled by another segment that has the bytes.
	file := pcapFile(t, layers.LinkTypeRaw, cut[0], cut[2], packets(t, c2s(112, "A", "cdefg"))[0], cut[1])
	tr, stats, err = read(t, file, defaultLimits)
	if want := ends + "> 0123\n> gap 6\n> abcd\n> efg\n> gap 3\n"; err != nil || tr.text() != want {
		t.Errorf("%v, %+v\n%swant\n%s", err, stats, tr.text(), want)
	}
}

func TestNotTCP(t *testing.T) {
	mac := strings.Repeat("\x02", 12)
	ip := hello[0].ip(t)
	udp := bytes.Clone(ip)
	udp[9] = 17
	file := pcapFile(t, layers.LinkTypeEthernet,
		[]byte(mac+"\x08\x06"+strings.Repeat("\x00", 28)), []byte(mac+"\x08\x00"+string(udp)), []byte(mac+"\x00\x05hello"))
	if _, stats, err := read(t, file, defaultLimits); err != nil || stats != (Stats{Packets: 3, Other: 3}) {
		t.Errorf("%v, %+v", err, stats)
	}
	_, stats, err := read(t, pcapFile(t, 105, ip), defaultLimits)
	if err == nil || err.Error() != "link type 105 is not supported" || stats != (Stats{Packets: 1, Unsupported: 1}) {
		t.Errorf("%v, %+v", err, stats)
	}
}
