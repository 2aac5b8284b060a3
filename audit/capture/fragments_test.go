package capture

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
)

func TestFragments(t *testing.T) {
	whole := seg{alice, bob, 100, "A", strings.Repeat("0123456789", 10)}.ip(t)
	piece := func(from, to int, more bool) []byte {
		p := append(bytes.Clone(whole[:20]), whole[20+from:20+to]...)
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		flags := uint16(from / 8)
		if more {
			flags |= 0x2000
		}
		binary.BigEndian.PutUint16(p[6:], flags)
		return p
	}
	moved := func(p []byte, offset uint16) []byte {
		p = bytes.Clone(p)
		binary.BigEndian.PutUint16(p[6:], 0x2000|offset/8)
		return p
	}
	a, b, c := piece(0, 40, true), piece(40, 80, true), piece(80, 120, false)
	six := seg{netip.MustParseAddrPort("[2001:db8::2]:40000"), netip.MustParseAddrPort("[2001:db8::7]:80"), 100, "A", strings.Repeat("0123456789", 10)}.ip(t)
	piece6 := func(from, to int, more byte) []byte {
		p := append(bytes.Clone(six[:40]), 6, 0, byte(from>>8), byte(from)|more, 0, 0, 0, 9)
		p = append(p, six[40+from:40+to]...)
		p[6] = 44
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		return p
	}
	for name, test := range map[string]struct {
		packets [][]byte
		whole   bool
		lost    int64
	}{
		"in order":                         {[][]byte{a, b, c}, true, 0},
		"backwards":                        {[][]byte{c, b, a}, true, 0},
		"twice":                            {[][]byte{a, b, a, c}, true, 1},
		"one missing":                      {[][]byte{a, c}, false, 2},
		"overlapping, the sum is right":    {[][]byte{a, piece(32, 72, true), c}, false, 3},
		"overlapping the next":             {[][]byte{piece(32, 72, true), a, c}, false, 3},
		"beyond the end, the sum is right": {[][]byte{c, moved(b, 120), a}, false, 3},
		"whole, with the id of another":    {[][]byte{piece6(0, 40, 1), piece6(0, 120, 0)}, true, 1},
		"beyond the end":                   {[][]byte{c, piece(120, 120, false), piece(112, 120, false)}, false, 3},
		"odd length":                       {[][]byte{a, piece(40, 79, true), c}, false, 3},
		"beyond 65535":                     {[][]byte{a, func() []byte { p := bytes.Clone(c); p[6], p[7] = 0x1f, 0xff; return p }()}, false, 2},
		"IPv6":                             {[][]byte{piece6(0, 40, 1), piece6(80, 120, 0), piece6(40, 80, 1)}, true, 0},
		"IPv6, overlapping":                {[][]byte{piece6(0, 40, 1), piece6(80, 120, 0), piece6(32, 80, 1)}, false, 3},
	} {
		tr, stats, err := read(t, pcapFile(t, layers.LinkTypeRaw, test.packets...), defaultLimits)
		if got := strings.Contains(tr.text(), "> "+strings.Repeat("0123456789", 10)); err != nil || got != test.whole || stats.Fragments != test.lost {
			t.Errorf("%s: whole %v, %v, %+v", name, got, err, stats)
		}
	}
}
