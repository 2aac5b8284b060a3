package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

var hello = []seg{c2s(99, "S", ""), s2c(499, "SA", ""), c2s(100, "A", "hello"), s2c(500, "A", "world")}

const helloTrace = ends + "> hello\n< world\n"

func TestFiles(t *testing.T) {
	ip := packets(t, hello...)
	nanos := pcapFile(t, layers.LinkTypeRaw, ip...)
	var micros bytes.Buffer
	w := pcapgo.NewWriter(&micros)
	if err := w.WriteFileHeader(0, layers.LinkTypeRaw); err != nil { // a limit of 0 is none
		t.Fatal(err)
	}
	for i, p := range ip {
		info := gopacket.CaptureInfo{Timestamp: epoch.Add(time.Duration(i) * time.Millisecond), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(info, p); err != nil {
			t.Fatal(err)
		}
	}
	ng := ngFile(t, layers.LinkTypeRaw, ip...)
	twoSections := append(ngFile(t, layers.LinkTypeRaw, ip[:3]...), ngFile(t, layers.LinkTypeRaw, ip[3])...)
	for name, file := range map[string][]byte{
		"pcap, nanoseconds":              nanos,
		"pcap, microseconds":             micros.Bytes(),
		"pcap, big-endian":               swapped(nanos),
		"pcap, big-endian, microseconds": swapped(micros.Bytes()),
		"pcap, gzip":                     gzipped(t, nanos),
		"pcapng":                         ng,
		"pcapng, gzip":                   gzipped(t, ng),
		"pcapng, two sections":           twoSections,
	} {
		tr, stats, err := read(t, file, defaultLimits)
		if err != nil || tr.text() != helloTrace || stats.Packets != 4 {
			t.Errorf("%s: %v, %+v\n%s", name, err, stats, tr.text())
			continue
		}
		if got := tr.logs[0].times[0]; !got.Equal(epoch.Add(2 * time.Millisecond)) {
			t.Errorf("%s: time %v", name, got)
		}
	}
}

// Blocks that gopacket does not write.
func TestOtherBlocks(t *testing.T) {
	ip := packets(t, hello...)
	section := ngFile(t, layers.LinkTypeRaw)
	section = section[:binary.LittleEndian.Uint32(section[4:])]
	block := func(kind uint32, body ...byte) []byte {
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
		b := binary.LittleEndian.AppendUint32(nil, kind)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(body)+12))
		return binary.LittleEndian.AppendUint32(append(b, body...), uint32(len(body)+12))
	}
	// 2^-10 s, one hour ahead; an option of five bytes stands before.
	face := block(blockInterface, []byte("\x65\x00\x00\x00\x2b\x00\x00\x00\x02\x00\x05\x00eth00\x00\x00\x00"+
		"\x09\x00\x01\x00\x8a\x00\x00\x00\x0e\x00\x08\x00\x10\x0e\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")...)
	file := append(bytes.Clone(section), face...)
	file = append(file, block(0x0bad, 1, 2, 3, 4)...)
	for i, p := range ip[:3] { // obsolete packet blocks
		head := make([]byte, 20)
		binary.LittleEndian.PutUint16(head[2:], 9) // drops
		binary.LittleEndian.PutUint32(head[8:], uint32(1<<20+i*256))
		binary.LittleEndian.PutUint32(head[12:], uint32(len(p)))
		binary.LittleEndian.PutUint32(head[16:], uint32(len(p)))
		file = append(file, block(blockPacket, append(head, p...)...)...)
	}
	// A simple packet, of which the interface's 43 bytes were captured.
	simple := binary.LittleEndian.AppendUint32(nil, uint32(len(ip[3])))
	file = append(file, block(blockSimple, append(simple, ip[3][:43]...)...)...)
	tr, stats, err := read(t, file, defaultLimits)
	if want := ends + "> hello\n< wor\n< gap 2\n"; err != nil || tr.text() != want || stats.Packets != 4 {
		t.Fatalf("%v, %+v\n%s", err, stats, tr.text())
	}
	if got, want := tr.logs[0].times[0], time.Unix(1024+3600, 5e8); !got.Equal(want) {
		t.Errorf("time %v, want %v", got, want)
	}
}

func TestTruncated(t *testing.T) {
	for name, file := range map[string][]byte{
		"pcap":   pcapFile(t, layers.LinkTypeRaw, packets(t, hello...)...),
		"pcapng": ngFile(t, layers.LinkTypeRaw, packets(t, hello...)...),
	} {
		clean := 0
		for n := range file {
			tr, stats, err := read(t, file[:n], defaultLimits)
			if !strings.HasPrefix(helloTrace, tr.text()) {
				t.Fatalf("%s, %d bytes: %s", name, n, tr.text())
			}
			if err == nil {
				clean++ // between two packets, or blocks
				continue
			}
			var e *Error
			if n >= 24 && (!errors.As(err, &e) || !errors.Is(err, errTruncated) ||
				e.Place != fmt.Sprintf("packet %d", stats.Packets+1) || e.Offset >= int64(n)) {
				t.Fatalf("%s, %d of %d bytes: %v", name, n, len(file), err)
			}
		}
		if want := map[string]int{"pcap": 4, "pcapng": 5}[name]; clean != want { // one more block before the packets
			t.Errorf("%s: %d ends without error, want %d", name, clean, want)
		}
		zipped := gzipped(t, file)
		if _, _, err := read(t, zipped[:len(zipped)-12], defaultLimits); !errors.Is(err, errTruncated) {
			t.Errorf("%s, gzip: %v", name, err)
		}
	}
}

func TestBadFiles(t *testing.T) {
	pcap := pcapFile(t, layers.LinkTypeRaw, packets(t, hello...)...)
	ng := ngFile(t, layers.LinkTypeRaw, packets(t, hello...)...)
	section := int(binary.LittleEndian.Uint32(ng[4:]))
	first := section + int(binary.LittleEndian.Uint32(ng[section+4:])) // packet block
	patch := func(file []byte, at int, value uint32) []byte {
		b := bytes.Clone(file)
		binary.LittleEndian.PutUint32(b[at:], value)
		return b
	}
	resolution := func(value string) []byte {
		b := bytes.Clone(ng[:section])
		b = append(b, "\x01\x00\x00\x00\x1c\x00\x00\x00\x65\x00\x00\x00\x00\x00\x00\x00"...)
		b = append(b, value...)
		return append(b, "\x1c\x00\x00\x00"...)
	}
	for name, test := range map[string]struct {
		file []byte
		want string
	}{
		"empty":              {nil, "the file is empty"},
		"garbage":            {[]byte(strings.Repeat("garbage ", 100)), "neither pcap nor pcapng (unknown)"},
		"HAR":                {[]byte(`{"log":{}}`), "neither pcap nor pcapng (HAR)"},
		"gzip of nothing":    {gzipped(t, nil), "gzip: the file is empty"},
		"not gzip":           {[]byte("\x1f\x8b\x00 and so on"), "gzip: gzip: invalid header"},
		"pcap version":       {patch(pcap, 4, 3), "file header at byte 0: Unknown major version 3"},
		"huge packet":        {patch(pcap, 24+8, 0xffffffff), "packet 1 at byte 24: capture length exceeds snap length: 4294967295 > 1048576"},
		"huge block":         {patch(ng, first+4, 0xfffffffc), fmt.Sprintf("packet 1 at byte %d: the file ends inside of it", first)},
		"tiny block":         {patch(ng, first+4, 8), fmt.Sprintf("packet 1 at byte %d: block length 8", first)},
		"odd block":          {patch(ng, first+4, 33), fmt.Sprintf("packet 1 at byte %d: block length 33", first)},
		"huge in block":      {patch(ng, first+20, 0xffffffff), fmt.Sprintf("packet 1 at byte %d: packet of 4294967295 bytes in a block with 40", first)},
		"more than in block": {patch(ng, first+20, 44), fmt.Sprintf("packet 1 at byte %d: packet of 44 bytes in a block with 40", first)},
		"interface":          {patch(ng, first+8, 7), fmt.Sprintf("packet 1 at byte %d: interface 7 of 1", first)},
		"closing length":     {patch(ng, section-4, 7), fmt.Sprintf("packet 1 at byte 0: block of %d bytes closes with 7", section)},
		"byte order":         {patch(ng, 8, 7), "packet 1 at byte 0: byte order mark of section is 07000000"},
		"version":            {patch(ng, 12, 9), "packet 1 at byte 0: pcapng version 9"},
		"resolution 10^-64":  {resolution("\x09\x00\x01\x00\x40\x00\x00\x00"), fmt.Sprintf("packet 1 at byte %d: timestamp resolution 0x40", section)},
		"resolution 2^-64":   {resolution("\x09\x00\x01\x00\xc0\x00\x00\x00"), fmt.Sprintf("packet 1 at byte %d: timestamp resolution 0xc0", section)},
		"resolution empty":   {resolution("\x09\x00\x00\x00\x00\x00\x00\x00"), fmt.Sprintf("packet 1 at byte %d: option 9 of 0 bytes", section)},
		"option too long":    {resolution("\x02\x00\xff\x00\x00\x00\x00\x00"), fmt.Sprintf("packet 1 at byte %d: option 2 of 255 bytes in 4", section)},
	} {
		_, _, err := read(t, test.file, defaultLimits)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}
