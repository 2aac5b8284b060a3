package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A ladder goes up at once and comes down after a while without a sign, so that
// what hovers at a threshold is not recorded each time.
func TestLadder(t *testing.T) {
	type look struct {
		after   time.Duration
		load    float64
		refused bool
		want    rung
	}
	for _, tt := range []struct {
		name  string
		on    *thresholds
		looks []look
	}{
		{"memory", memoryRungs, []look{
			{0, 0.89, false, rungNormal}, {0, 0.9, false, rungSoft}, {0, 0.99, false, rungSoft}, {0, 1, false, rungHard},
			{0, 0.94, false, rungHard}, {calm - 1, 0.94, false, rungHard}, {1, 0.94, false, rungSoft},
			{calm, 0.85, false, rungSoft}, {calm, 0.8, false, rungSoft}, {calm, 0.79, false, rungNormal},
		}},
		{"memory hovers", memoryRungs, []look{
			{0, 1.1, false, rungHard}, {calm - 1, 0.95, false, rungHard}, {calm - 1, 0.9, false, rungHard}, {calm - 1, 1, false, rungHard},
			{calm - 1, 0.5, false, rungHard}, {1, 0.5, false, rungNormal},
		}},
		{"a refusal ahead of the load", memoryRungs, []look{
			{0, 0.3, true, rungHard}, {calm - 1, 0.3, true, rungHard}, {calm - 1, 0.3, false, rungHard}, {1, 0.3, false, rungNormal},
		}},
		{"descriptors", countRungs, []look{
			{0, 0.99, false, rungNormal}, {0, 1, false, rungHard}, {calm, 0.96, false, rungHard}, {calm, 0.94, false, rungNormal},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l ladder
			now := time.Now()
			for i, k := range tt.looks {
				before := l.rung
				now = now.Add(k.after)
				if changed := l.step(now, tt.on, k.load, k.refused); l.rung != k.want || changed != (l.rung != before) {
					t.Errorf("look %d, load %v: %v, changed %v; expected %v", i, k.load, l.rung, changed, k.want)
				}
			}
		})
	}
}

// serveGate serves a listener behind g, whose connections echo.
func serveGate(t *testing.T, g *gate) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	serve := g.serve(context.Background(), func(_ context.Context, c net.Conn, _ netip.AddrPort) {
		defer c.Close()
		io.Copy(c, c)
	})
	go func() {
		for guarded := g.listener(ln); ; {
			c, err := guarded.Accept()
			if err != nil {
				return
			}
			go serve(context.Background(), c, netip.AddrPort{})
		}
	}()
	return ln.Addr().String()
}

// served says what becomes of a new connection: nil if it is served, which it
// then is until the test ends.
func served(t *testing.T, addr string) (net.Conn, error) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return c, echoes(c)
}

func echoes(c net.Conn) error {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// Each limit refuses by a reset and by its name, and spares what lives.
func TestGateRefuses(t *testing.T) {
	plenty := room{memoryUse: memoryUse{1, 1 << 40}, files: 1 << 20}
	for _, tt := range []struct {
		reason string
		limits gateLimits
		short  func(r *room)
		ready  string // what /readyz says
	}{
		{"max_connections", gateLimits{connections: 2, memory: 75}, func(*room) {}, "limits.max_connections reached"},
		{"descriptors", gateLimits{memory: 75}, func(r *room) { r.files = spareFiles + 5 }, "the limit of open files is reached (LimitNOFILE)"},
		{"descriptors", gateLimits{connections: 1000, memory: 75}, func(r *room) { r.files = spareFiles + 5 }, "the limit of open files is reached (LimitNOFILE)"},
		{"descriptors", gateLimits{connections: 1000, memory: 75}, func(r *room) { r.files, r.open = 1000, 1000-spareFiles/2-5 }, "the limit of open files is reached (LimitNOFILE)"},
		{"memory", gateLimits{memory: 75}, func(r *room) { r.limit = r.used + 2*connectionCost }, "limits.memory reached"},
		{"client_connections", gateLimits{memory: 75, client: clientLimits{connections: 2}}, func(*room) {}, ""},
		{"client_rate", gateLimits{memory: 75, client: clientLimits{rate: rateLimit(5 * time.Second)}}, func(*room) {}, ""},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			g := newGate(tt.limits)
			r := plenty
			tt.short(&r)
			g.room.Store(&r)
			addr := serveGate(t, g)
			var live []net.Conn
			for range 2 {
				c, err := served(t, addr)
				if err != nil {
					t.Fatal(err)
				}
				live = append(live, c)
			}
			if tt.reason == "memory" {
				less := r
				less.limit-- // not a byte is left of it
				g.room.Store(&less)
			}
			for range 3 {
				if _, err := served(t, addr); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("one too many: %v, expected a reset", err)
				}
			}
			want := map[string]int64{"max_connections": 0, "descriptors": 0, "memory": 0, "client_connections": 0, "client_rate": 0, "client_handshakes": 0}
			want[tt.reason] = 3
			if got := g.refusals(); !maps.Equal(got, want) {
				t.Errorf("refused %v, expected %v", got, want)
			}
			if g.live() != 2 || g.total() != 2 {
				t.Errorf("%d live of %d, expected 2 of 2", g.live(), g.total())
			}
			if err := g.full(); fmt.Sprint(err) != cmp.Or(tt.ready, "<nil>") {
				t.Errorf("ready: %v, expected %q", err, tt.ready)
			}
			for _, c := range live {
				if err := echoes(c); err != nil {
					t.Errorf("one that lives: %v", err)
				}
			}
			if tt.reason == "max_connections" || tt.reason == "client_connections" {
				live[0].Close()
				for end := time.Now().Add(20 * time.Second); g.live() > 1 && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
				if _, err := served(t, addr); err != nil {
					t.Errorf("when there is room again: %v", err)
				}
				// A lower limit ends nothing.
				g.set(gateLimits{connections: 1, memory: 75, client: clientLimits{connections: 1}})
				if err := echoes(live[1]); err != nil {
					t.Errorf("under a lower limit: %v", err)
				}
				if _, err := served(t, addr); err == nil {
					t.Error("one more than the lower limit")
				}
				g.set(gateLimits{memory: 75})
				if _, err := served(t, addr); err != nil {
					t.Errorf("without the limit: %v", err)
				}
			}
		})
	}
}

// A connection counts once, whatever ends it, and however it was wrapped.
func TestGateCountsOut(t *testing.T) {
	g := newGate(gateLimits{memory: 75, client: clientLimits{connections: 10}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accept := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		a, err := g.listener(ln).Accept()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	closed, handled, below := accept(), accept(), accept()
	closed.Close()
	leave(closed)
	leave(wrapped{handled})
	handled.Close()
	below.(*admittedConn).NetConn().Close() // as what serves it does: the handler's return counts it out
	if g.live() != 1 {
		t.Errorf("%d live, expected 1", g.live())
	}
	leave(below)
	if g.live() != 0 || g.clients.shard(clientKey(addrOf(below))).idle.Len() != 1 {
		t.Errorf("%d live", g.live())
	}
}

type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

func TestMemoryGroups(t *testing.T) {
	root := t.TempDir()
	proc := filepath.Join(root, "proc", "self")
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/meminfo", "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:    300 kB\n")
	write("v2/memory.current", "1\n") // the root has no limit
	write("v2/system.slice/memory.max", "900000\n")
	write("v2/system.slice/memory.current", "800000\n")
	write("v2/system.slice/memory.stat", "anon 1\ninactive_file 1\n")
	write("v2/system.slice/g.service/memory.max", "max\n")
	write("v2/system.slice/g.service/memory.high", "500000\n")
	write("v2/system.slice/g.service/memory.current", "300000\n")
	write("v2/system.slice/g.service/memory.stat", "inactive_file 100000\nactive_file 60000\nfile_mapped 60000\n")
	write("v1 mem/a/memory.limit_in_bytes", "400000\n")
	write("v1 mem/a/memory.usage_in_bytes", "350000\n")
	write("v1 mem/a/memory.stat", "inactive_file 1\nactive_file 1\ntotal_inactive_file 30000\ntotal_active_file 30000\ntotal_mapped_file 10000\n")
	write("v1 mem/memory.limit_in_bytes", "9223372036854771712\n")
	write("v1 mem/memory.usage_in_bytes", "10000000\n")
	const v2, v1 = "30 1 0:26 / /v2 rw - cgroup2 cgroup2 rw\n", `31 1 0:27 / /v1\040mem rw shared:9 - cgroup cgroup rw,memory` + "\n"
	for _, tt := range []struct {
		name, cgroup, mounts string
		dirs                 []string
		limit                uint64
		look                 memoryUse // with 100000 bytes of Go's
	}{
		{"version 2", "0::/system.slice/g.service\n", v2, []string{"/v2/system.slice/g.service", "/v2/system.slice", "/v2"}, 500000, memoryUse{799999, 900000}},
		{"version 1", "4:memory:/a\n1:cpu:/b\n0::/\n", v1 + "32 1 0:28 / /cpu rw - cgroup cgroup rw,cpu\n", []string{"/v1 mem/a", "/v1 mem"}, 400000, memoryUse{300000, 400000}},
		{"both", "4:cpu,memory:/a\n0::/system.slice\n", v2 + v1, []string{"/v2/system.slice", "/v2", "/v1 mem/a", "/v1 mem"}, 400000, memoryUse{799999, 900000}},
		{"container with the host's names", "0::/system.slice/g.service\n", "30 1 0:26 /system.slice/g.service /v2/system.slice/g.service rw - cgroup2 c rw\n",
			[]string{"/v2/system.slice/g.service"}, 500000, memoryUse{200000, 500000}},
		{"container with its own", "0::/\n", "30 1 0:26 / /v2/system.slice rw - cgroup2 c rw\n", []string{"/v2/system.slice"}, 900000, memoryUse{799999, 900000}},
		{"moved out of sight", "0::/../other\n", "30 1 0:26 / /v2/system.slice rw - cgroup2 c rw\n", []string{"/v2/system.slice"}, 900000, memoryUse{799999, 900000}},
		{"none", "", "29 1 0:5 / /proc rw - proc proc rw\nrubbish\n", nil, 1000 << 10, memoryUse{100000, 100000 + 300<<10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			write("proc/self/cgroup", tt.cgroup)
			write("proc/self/mountinfo", tt.mounts)
			p := memoryProbe{proc, root}
			groups := p.groups()
			var dirs []string
			for _, g := range groups {
				dirs = append(dirs, strings.TrimPrefix(g.dir, root))
			}
			if !slices.Equal(dirs, tt.dirs) {
				t.Errorf("groups %q, expected %q", dirs, tt.dirs)
			}
			if n := p.limit(groups); n != tt.limit {
				t.Errorf("limit %d, expected %d", n, tt.limit)
			}
			if m := p.look(100000, groups, 100, 0); m != tt.look {
				t.Errorf("%+v, expected %+v", m, tt.look)
			}
		})
	}
}

// What lives may all begin a message at once. What the room above the limit is too
// small for counts as used.
func TestMemoryReserve(t *testing.T) {
	for _, tt := range []struct {
		percent int
		live    int64
		used    uint64
	}{
		{75, 0, 50 << 20}, {75, 200, 50 << 20}, {75, 201, 50<<20 + messageCost}, {75, -1, 50 << 20},
		{100, 2, 50<<20 + 2*messageCost}, {50, 400, 50 << 20}, {50, 600, 75 << 20},
	} {
		whole := memoryUse{50 << 20, 100 << 20}
		if m := whole.percent(tt.percent).reserve(whole.limit, tt.live); m.used != tt.used {
			t.Errorf("%d%%, %d live: %d bytes used, expected %d", tt.percent, tt.live, m.used, tt.used)
		}
	}
}

// On this machine each of the figures is one that can be true.
func TestRoomOfThisMachine(t *testing.T) {
	g := newGate(gateLimits{memory: 75})
	r := g.room.Load()
	if r.used < 1<<20 || r.limit < r.used || r.open < 3 || r.files < r.open || r.crowded {
		t.Errorf("%+v", r)
	}
	before := openFiles()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := openFiles(); n < before { // others may be opened and closed meanwhile
		t.Errorf("%d descriptors, and one more are %d", before, n)
	}
	if g.budget() <= 0 || uint64(g.budget()) > ownMemory.limit(nil) {
		t.Errorf("%d bytes to use", g.budget())
	}
}
