package capture

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
)

func c2s(seq uint32, flags, data string) seg { return seg{alice, bob, seq, flags, data} }
func s2c(seq uint32, flags, data string) seg { return seg{bob, alice, seq, flags, data} }

const ends = "10.0.0.2:40000 > 192.0.2.7:80\n"

func TestReassembly(t *testing.T) {
	syn, synAck := c2s(99, "S", ""), s2c(499, "SA", "")
	for name, test := range map[string]struct {
		segs  []seg
		want  string
		stats Stats // Packets and Connections are checked if set
	}{
		"in order": {
			segs: []seg{syn, synAck, c2s(100, "A", "ab"), s2c(500, "A", "xy"), c2s(102, "A", "cd"), c2s(104, "FA", ""), s2c(502, "FA", "")},
			want: ends + "> ab\n< xy\n> cd\n",
		},
		"retransmitted": {
			segs: []seg{syn, synAck, syn, c2s(100, "A", "ab"), c2s(100, "A", "ab"), c2s(100, "A", "abcd"), c2s(102, "A", "cd")},
			want: ends + "> ab\n> cd\n",
		},
		"out of order": {
			segs: []seg{syn, synAck, c2s(104, "A", "ef"), c2s(102, "A", "cd"), s2c(500, "A", "xy"), c2s(100, "A", "ab")},
			want: ends + "< xy\n> ab\n> cd\n> ef\n",
		},
		"out of order before the data of anyone, FIN first": {
			segs: []seg{syn, synAck, c2s(104, "FA", ""), c2s(102, "A", "cd"), c2s(100, "A", "ab"), s2c(500, "FA", ""), c2s(105, "A", "stray")},
			want: ends + "> ab\n> cd\n", stats: Stats{Stray: 1},
		},
		"overlap: the first version counts": {
			segs: []seg{syn, c2s(102, "A", "CD"), c2s(106, "A", "GH"), c2s(101, "A", "bcdefghij"), c2s(100, "A", "abcdefgh")},
			want: ends + "> a\n> b\n> CD\n> ef\n> GH\n> ij\n",
		},
		"overlap with what was handed out": {
			segs: []seg{syn, c2s(100, "A", "abcd"), c2s(102, "A", "XXef"), c2s(99, "A", "_YYYYYYgh")},
			want: ends + "> abcd\n> ef\n> gh\n",
		},
		"loss": {
			segs: []seg{syn, c2s(100, "A", "ab"), c2s(105, "A", "fg"), c2s(110, "A", "kl"), s2c(500, "A", "xy")},
			want: ends + "> ab\n< xy\n> gap 3\n> fg\n> gap 3\n> kl\n", stats: Stats{Missing: 6},
		},
		"loss before the FIN": {
			segs: []seg{syn, c2s(100, "A", "ab"), c2s(110, "FA", "")},
			want: ends + "> ab\n> gap 8\n", stats: Stats{Missing: 8},
		},
		"nothing but a FIN": {
			segs: []seg{syn, synAck, c2s(110, "FA", ""), s2c(500, "FA", "")},
			want: ends + "> gap 10\n", stats: Stats{Missing: 10},
		},
		"nothing but what comes after a loss": {
			segs: []seg{syn, c2s(105, "A", "fg")},
			want: ends + "> gap 5\n> fg\n", stats: Stats{Missing: 5},
		},
		"sequence numbers wrap": {
			segs: []seg{c2s(0xfffffffd, "S", ""), c2s(2, "A", "ef"), c2s(0xfffffffe, "A", "abcd")},
			want: ends + "> abcd\n> ef\n",
		},
		"data with the SYN": {
			segs: []seg{c2s(99, "S", "ab"), synAck, c2s(102, "A", "cd")},
			want: ends + "> ab\n> cd\n",
		},
		"SYN after the data": {
			segs: []seg{c2s(100, "A", "ab"), syn, c2s(102, "A", "cd")},
			want: ends + "> ab\n> cd\n",
		},
		"only the SYN-ACK": {
			segs: []seg{s2c(499, "SA", ""), s2c(500, "A", "hello")},
			want: ends + "< hello\n",
		},
		"no SYN, a request": {
			segs: []seg{s2c(1, "A", "GET /ws HTTP/1.1\r\n"), c2s(1, "A", "HTTP/1.1 101")},
			want: "192.0.2.7:80 > 10.0.0.2:40000\n> GET /ws HTTP/1.1\r\n\n< HTTP/1.1 101\n",
		},
		"no SYN, a response": {
			segs: []seg{c2s(1, "A", "HTTP/1.1 101"), s2c(1, "A", "x")},
			want: "192.0.2.7:80 > 10.0.0.2:40000\n< HTTP/1.1 101\n> x\n",
		},
		"no SYN, neither: the higher port": {
			segs: []seg{s2c(1, "A", "\x81\x02hi"), c2s(1, "A", "x")},
			want: ends + "< \x81\x02hi\n> x\n",
		},
		"RST": {
			segs: []seg{syn, c2s(100, "A", "ab"), c2s(104, "A", "ef"), s2c(0, "RA", ""), c2s(102, "A", "cd")},
			want: ends + "> ab\n> gap 2\n> ef\n", stats: Stats{Stray: 1, Missing: 2},
		},
		"RST outside of the window": {
			segs: []seg{syn, c2s(100, "A", "ab"), c2s(90, "R", ""), c2s(102, "A", "cd")},
			want: ends + "> ab\n> cd\n", stats: Stats{Stray: 1},
		},
		"the ports used again": {
			segs: []seg{
				syn, c2s(100, "A", "ab"), c2s(102, "FA", ""), synAck, s2c(500, "FA", ""), c2s(100, "A", "ab"), syn,
				c2s(7000, "S", ""), s2c(9000, "SA", ""), c2s(7001, "A", "cd"), s2c(9001, "A", "uv"),
			},
			want: ends + "> ab\n" + ends + "> cd\n< uv\n", stats: Stats{Stray: 1},
		},
		"the ports used again without an end": {
			segs: []seg{syn, c2s(100, "A", "ab"), c2s(7000, "S", ""), c2s(7001, "A", "cd")},
			want: ends + "> ab\n" + ends + "> cd\n",
		},
		"outside of any window": {
			segs: []seg{syn, c2s(100, "A", "ab"), c2s(100+maxAhead*3/2, "A", "cd"), c2s(102, "A", "cd")},
			want: ends + "> ab\n> cd\n", stats: Stats{Stray: 1},
		},
		"data captured after both FINs": {
			segs: []seg{syn, synAck, s2c(500, "FA", ""), c2s(102, "FA", ""), c2s(100, "A", "ab"), c2s(102, "A", "stray")},
			want: ends + "> ab\n", stats: Stats{Stray: 1},
		},
		"the ports used again, the end of one side captured": {
			segs: []seg{s2c(500, "A", "xy"), s2c(502, "R", ""), c2s(7000, "S", ""), c2s(7001, "A", "cd")},
			want: ends + "< xy\n" + ends + "> cd\n",
		},
		"keepalives and probes": {
			segs: []seg{syn, c2s(100, "A", "ab"), c2s(101, "A", ""), c2s(101, "A", "b"), c2s(102, "A", "c")},
			want: ends + "> ab\n> c\n",
		},
		"half open": {segs: []seg{syn, synAck, c2s(100, "A", ""), c2s(100, "R", "")}},
		"a FIN of long ago ends nothing": {
			segs: []seg{syn, synAck, c2s(100, "A", "abcd"), c2s(100, "FA", ""), s2c(500, "FA", ""), c2s(104, "A", "ef")},
			want: ends + "> abcd\n> ef\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr, stats, err := read(t, pcapFile(t, layers.LinkTypeRaw, packets(t, test.segs...)...), defaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			if got := tr.text(); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
			test.stats.Packets, test.stats.Connections = int64(len(test.segs)), int64(len(tr.conns))
			if stats != test.stats {
				t.Errorf("stats %+v, want %+v", stats, test.stats)
			}
		})
	}
}

// Any order and any cuts, with repetitions, give the stream.
func TestReassemblyShuffled(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		stream := make([]byte, 1+r.IntN(300))
		for i := range stream {
			stream[i] = byte(r.Uint32())
		}
		isn := r.Uint32()
		var segs []seg
		for from := 0; from < len(stream); { // covers it all
			n := min(len(stream)-from, 1+r.IntN(40))
			segs = append(segs, c2s(isn+1+uint32(from), "A", string(stream[from:from+n])))
			from += n
		}
		for range r.IntN(20) { // repetitions, cut elsewhere
			from := r.IntN(len(stream))
			n := r.IntN(len(stream) - from + 1)
			segs = append(segs, c2s(isn+1+uint32(from), "A", string(stream[from:from+n])))
		}
		r.Shuffle(len(segs), func(i, j int) { segs[i], segs[j] = segs[j], segs[i] })
		segs = append([]seg{c2s(isn, "S", "")}, segs...)
		tr, stats, err := read(t, pcapFile(t, layers.LinkTypeRaw, packets(t, segs...)...), defaultLimits)
		if err != nil || len(tr.logs) != 1 || stats.Missing > 0 || !bytes.Equal(tr.logs[0].data[1], stream) {
			t.Fatalf("seed %d: %v, %+v, got %x, want %x", seed, err, stats, tr.logs[0].data[1], stream)
		}
	}
}

func TestTimes(t *testing.T) {
	tr, _, err := read(t, pcapFile(t, layers.LinkTypeRaw, packets(t,
		c2s(99, "S", ""), c2s(102, "A", "cd"), c2s(100, "A", "ab"), c2s(106, "A", "gh"))...), defaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if got := tr.conns[0].Start; !got.Equal(epoch) {
		t.Errorf("start %v", got)
	}
	for i, ms := range []int64{2, 1, 3, 3} { // ab, cd, gap, gh
		if got := tr.logs[0].times[i].Sub(epoch).Milliseconds(); got != ms {
			t.Errorf("%q at %d ms, want %d", tr.logs[0].events[i], got, ms)
		}
	}
}

func TestNotWanted(t *testing.T) {
	var opened int
	file := pcapFile(t, layers.LinkTypeRaw, packets(t,
		c2s(99, "S", ""), c2s(102, "A", "cd"), c2s(100, "A", "ab"), c2s(106, "A", "gh"))...)
	stats, err := ReadPackets(bytes.NewReader(file), func(*Conn) Stream { opened++; return nil })
	if err != nil || opened != 1 || stats != (Stats{Packets: 4, Connections: 1}) {
		t.Errorf("opened %d, %+v, %v", opened, stats, err)
	}
	// At the end of the capture, when what waits opens the connection.
	file = pcapFile(t, layers.LinkTypeRaw, packets(t, c2s(99, "S", ""), c2s(102, "A", "cd"), c2s(105, "A", "f"))...)
	stats, err = ReadPackets(bytes.NewReader(file), func(*Conn) Stream { return nil })
	if err != nil || stats != (Stats{Packets: 3, Connections: 1}) {
		t.Errorf("%+v, %v", stats, err)
	}
}

func TestManyConnections(t *testing.T) {
	var segs []seg
	for i := range 50 {
		from := netip.AddrPortFrom(alice.Addr(), uint16(10000+i))
		segs = append(segs, seg{from, bob, 0, "S", ""}, seg{from, bob, 1, "A", "first"})
	}
	for i := range 50 {
		from := netip.AddrPortFrom(alice.Addr(), uint16(10000+i))
		segs = append(segs, seg{from, bob, 6, "A", " then"})
	}
	file := pcapFile(t, layers.LinkTypeRaw, packets(t, segs...)...)
	tr, stats, err := read(t, file, limits{connections: 50, direction: 1 << 20, total: 1 << 20})
	if err != nil || len(tr.logs) != 50 || stats.Evicted != 0 {
		t.Fatalf("%d connections, %+v, %v", len(tr.logs), stats, err)
	}
	// One place less: each that comes back takes the place of another.
	_, stats, err = read(t, file, limits{connections: 49, direction: 1 << 20, total: 1 << 20})
	if err != nil || stats.Connections != 100 || stats.Evicted != 51 {
		t.Fatalf("%+v, %v", stats, err)
	}
	// The one that was silent longest goes first.
	carol := netip.MustParseAddrPort("10.0.0.3:1000")
	dave := netip.MustParseAddrPort("10.0.0.4:1000")
	tr, stats, err = read(t, pcapFile(t, layers.LinkTypeRaw, packets(t, c2s(99, "S", ""), c2s(100, "A", "ab"),
		seg{carol, bob, 1, "A", "x"}, c2s(102, "A", "cd"), seg{dave, bob, 1, "A", "x"}, c2s(104, "A", "ef"))...),
		limits{connections: 2, direction: 1 << 20, total: 1 << 20})
	if err != nil || stats.Evicted != 1 || strings.Join(tr.logs[0].events, "") != "> ab> cd> ef" {
		t.Errorf("got\n%s%+v, %v", tr.text(), stats, err)
	}
	// Half-open and closed connections go before those that live.
	segs = []seg{c2s(99, "S", ""), c2s(100, "A", "ab")}
	for i := range 200 {
		from := netip.AddrPortFrom(alice.Addr(), uint16(10000+i))
		segs = append(segs, seg{from, bob, 0, "S", ""})
	}
	segs = append(segs, c2s(102, "A", "cd"))
	tr, stats, err = read(t, pcapFile(t, layers.LinkTypeRaw, packets(t, segs...)...), limits{connections: 10, direction: 1 << 20, total: 1 << 20})
	if want := ends + "> ab\n> cd\n"; err != nil || tr.text() != want || stats.Evicted != 0 {
		t.Errorf("got\n%s%+v, %v", tr.text(), stats, err)
	}
}

func TestAbandoned(t *testing.T) {
	small := limits{connections: 100, direction: 3*pieceCost + 100, total: 1 << 20}
	segs := []seg{c2s(99, "S", ""), c2s(100, "A", "ab")}
	for i := range uint32(4) { // 102, 112, 122, 132 are missing
		segs = append(segs, c2s(103+10*i, "A", strings.Repeat("x", 9)))
	}
	segs = append(segs, c2s(102, "A", "c"), c2s(112, "A", "d"), c2s(122, "A", "e"), c2s(132, "A", "f"))
	tr, stats, err := read(t, pcapFile(t, layers.LinkTypeRaw, packets(t, segs...)...), small)
	x := "> " + strings.Repeat("x", 9) + "\n"
	want := ends + "> ab\n> gap 1\n" + x + "> d\n" + x + "> e\n" + x + "> f\n" + x
	if err != nil || tr.text() != want || stats.Abandoned != 1 || stats.Missing != 1 {
		t.Errorf("got\n%swant\n%s%+v, %v", tr.text(), want, stats, err)
	}
	// In all: who has waited longest gives up.
	segs = nil
	for i := range 5 {
		from := netip.AddrPortFrom(alice.Addr(), uint16(10000+i))
		segs = append(segs, seg{from, bob, 0, "S", ""}, seg{from, bob, 1, "A", "a"}, seg{from, bob, 3, "A", "c"})
	}
	for i := range 5 {
		from := netip.AddrPortFrom(alice.Addr(), uint16(10000+i))
		segs = append(segs, seg{from, bob, 2, "A", "b"})
	}
	small.total = 3 * (pieceCost + 1)
	tr, stats, err = read(t, pcapFile(t, layers.LinkTypeRaw, packets(t, segs...)...), small)
	if err != nil || stats.Abandoned != 2 || stats.Missing != 2 {
		t.Errorf("%+v, %v", stats, err)
	}
	for i, l := range tr.logs {
		want := "> a|> b|> c"
		if i < 2 {
			want = "> a|> gap 1|> c"
		}
		if got := strings.Join(l.events, "|"); got != want {
			t.Errorf("connection %d: %s, want %s", i, got, want)
		}
	}
}
