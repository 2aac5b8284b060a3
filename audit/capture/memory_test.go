package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A generated archive is read again and again without being held.
type generated struct {
	head, unit, tail string
	count            int64
	at               int64
}

func (g *generated) size() int64 { return int64(len(g.head)+len(g.tail)) + g.count*int64(len(g.unit)) }

func (g *generated) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) && g.at < g.size() {
		var from string
		switch at, body := g.at-int64(len(g.head)), g.count*int64(len(g.unit)); {
		case at < 0:
			from = g.head[g.at:]
		case at < body:
			from = g.unit[at%int64(len(g.unit)):]
		default:
			from = g.tail[at-body:]
		}
		c := copy(b[n:], from)
		n, g.at = n+c, g.at+int64(c)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (g *generated) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		g.at = offset
	}
	return g.at, nil
}

// heap runs f and returns the most memory that it was seen to hold; f calls
// sample now and then.
func heap(f func(sample func())) uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	before, most := stats.HeapAlloc, uint64(0)
	f(func() {
		runtime.GC()
		runtime.ReadMemStats(&stats)
		most = max(most, stats.HeapAlloc-min(before, stats.HeapAlloc))
	})
	return most
}

func TestHARMemory(t *testing.T) {
	// One connection of 16 MB, its request at the end.
	message := `{"type":"send","time":1700000000.5,"opcode":1,"data":"` + strings.Repeat("x", 8000) + `"}`
	g := &generated{
		head: `{"log":{"entries":[{"_webSocketMessages":[` + message, unit: "," + message, count: 2000,
		tail: `],"request":{"url":"wss://a.example/"}}]}}`,
	}
	var n int
	most := heap(func(sample func()) {
		if err := ReadHAR(g, func(m *Message) error {
			if n++; n%500 == 0 {
				sample()
			}
			if m.Conn.Host != "a.example" || len(m.Data) != 8000 {
				return fmt.Errorf("%+v", m)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	if n != 2001 || most > 2<<20 {
		t.Errorf("%d messages, %d bytes held", n, most)
	}
	// A string without an end, and nesting without one.
	for _, g := range []*generated{
		{head: `{"log":{"entries":[{"a":"`, unit: strings.Repeat("x", 1<<20), count: 10},
		{head: `{"log":{"entries":[{"a":`, unit: strings.Repeat("[", 1<<10), count: 1 << 13},
		{head: `{"log":{"entries":[{"a":1`, unit: strings.Repeat(" ", 1<<20), count: 10},
	} {
		h := &har{walker: newWalker(g)}
		h.most = 4 << 20
		_, err := h.handshakes()
		var e *Error
		if !errors.As(err, &e) || e.Place != "entry 1" || g.at > h.most+1<<20 {
			t.Errorf("after %d bytes: %v", g.at, err)
		}
	}
	// More connections than are kept.
	entry := `{"_webSocketMessages":[{"type":"error"}]}`
	g = &generated{head: `{"log":{"entries":[` + entry, unit: "," + entry, count: maxHandshakes/connCost + 1, tail: `]}}`}
	if err := ReadHAR(g, func(*Message) error { return nil }); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Error(err)
	}
}

// A flood writes a pcap file as it is read: packet i is made by make, and read
// is called for each.
type flood struct {
	packets int
	packet  func(i int) []byte
	i       int
	rest    []byte
}

func (f *flood) Read(b []byte) (int, error) {
	if len(f.rest) == 0 {
		switch {
		case f.i == 0:
			f.rest = []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x65\x00\x00\x00")
		case f.i > f.packets:
			return 0, io.EOF
		default:
			p := f.packet(f.i - 1)
			f.rest = binary.LittleEndian.AppendUint32(f.rest[:0], 1700000000+uint32(f.i/1000))
			f.rest = binary.LittleEndian.AppendUint32(f.rest, 0)
			f.rest = binary.LittleEndian.AppendUint32(f.rest, uint32(len(p)))
			f.rest = binary.LittleEndian.AppendUint32(f.rest, uint32(len(p)))
			f.rest = append(f.rest, p...)
		}
		f.i++
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func TestPacketsMemory(t *testing.T) {
	syn := seg{alice, bob, 0, "S", ""}.ip(t)
	data := seg{alice, bob, 1000, "A", strings.Repeat("x", 1200)}.ip(t)
	one := seg{alice, bob, 1000, "A", "x"}.ip(t)
	fragment := bytes.Clone(data)
	fragment[6] = 0x20
	binary.BigEndian.PutUint16(fragment[2:], 20+1200)
	from := func(p []byte, i int) []byte { // another client
		binary.BigEndian.PutUint32(p[12:], 0x0a000000+uint32(i))
		return p
	}
	at := func(p []byte, seq int) []byte {
		binary.BigEndian.PutUint32(p[24:], uint32(seq))
		return p
	}
	small := limits{connections: 1 << 12, direction: 1 << 20, total: 8 << 20}
	for name, test := range map[string]struct {
		packets int
		packet  func(i int) []byte
		most    uint64
		check   func(Stats) bool
	}{
		"half-open connections": {100_000, func(i int) []byte { return from(syn, i) }, 8 << 20,
			func(s Stats) bool { return s.Connections == 0 && s.Evicted == 0 }},
		"connections with data": {100_000, func(i int) []byte { return from(one, i) }, 8 << 20,
			func(s Stats) bool { return s.Connections == 100_000 && s.Evicted == 100_000-1<<12 }},
		"a hole that is never filled": {20_000, func(i int) []byte {
			return at(data, 1000+min(i, 1)+1200*i)
		}, 4 << 20, func(s Stats) bool { return s.Abandoned == 1 && s.Missing == 1 }},
		"every second byte": {50_000, func(i int) []byte { return at(one, 1000+2*i) }, 4 << 20,
			func(s Stats) bool { return s.Abandoned > 40_000 && s.Missing == 49_999 }},
		"every second byte, backwards": {50_000, func(i int) []byte { return at(one, 500_000-2*i+min(i, 1)*1000) }, 4 << 20,
			func(s Stats) bool { return s.Connections == 1 }},
		"holes in many connections": {40_000, func(i int) []byte {
			if i%2 == 0 {
				return from(syn, i/2)
			}
			return from(at(data, 1000), i/2)
		}, 24 << 20, func(s Stats) bool { return s.Abandoned+s.Evicted > 0 && s.Missing == 20_000*999 }},
		"fragments": {50_000, func(i int) []byte { return from(fragment, i) }, maxFragments + 12<<20,
			func(s Stats) bool { return s.Fragments == 50_000 }},
	} {
		t.Run(name, func(t *testing.T) {
			var stats Stats
			most := heap(func(sample func()) {
				f := &flood{packets: test.packets}
				f.packet = func(i int) []byte {
					if i%(test.packets/8) == test.packets/16 {
						sample()
					}
					return test.packet(i)
				}
				var err error
				if stats, err = readPackets(f, func(*Conn) Stream { return discard{} }, small); err != nil {
					t.Error(err)
				}
			})
			if most > test.most || stats.Packets != int64(test.packets) || !test.check(stats) {
				t.Errorf("%d bytes held, %+v", most, stats)
			}
		})
	}
}

type discard struct{}

func (discard) Data(bool, time.Time, []byte) {}
func (discard) Gap(bool, time.Time, int)     {}
func (discard) Close()                       {}
