package main

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"framegate/audit"
	"framegate/intercept"
	"framegate/policy"
)

// A gate refuses new connections when there are too many or memory is short,
// and never touches those that live.
type gate struct {
	max     int64  // connections at once
	memory  uint64 // bytes
	now     atomic.Int64
	served  atomic.Int64
	refused atomic.Int64
	starved atomic.Int64  // refused because of memory
	ending  atomic.Bool   // new connections are no longer accepted
	crowded atomic.Bool   // memory is above the limit
	used    atomic.Uint64 // bytes of memory, when it was last looked at
}

// spareFiles are the descriptors that are not for connections: listeners, the
// log, the admin port, name look-ups.
const spareFiles = 64

// newGate derives a limit of 0 connections from that of descriptors, of which
// each connection takes two, and the memory limit from what this process may use.
func newGate(connections, memoryPercent int) *gate {
	g := &gate{max: int64(connections), memory: memoryLimit() / 100 * uint64(memoryPercent)}
	if connections == 0 {
		var r syscall.Rlimit
		g.max = 1024
		if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) == nil {
			g.max = max(1, (int64(min(r.Cur, math.MaxInt32))-spareFiles)/2)
		}
	}
	return g
}

// memoryLimit is what this process may use: the limit of its cgroup, else the
// memory of the machine.
func memoryLimit() uint64 {
	if b, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil {
			return n
		}
	}
	var s syscall.Sysinfo_t
	if syscall.Sysinfo(&s) == nil {
		return uint64(s.Totalram) * uint64(s.Unit)
	}
	return math.MaxUint64
}

// halfOpen is how many connections may be waiting for their first request. The
// rest is for those that got through, whoever knocks.
func (g *gate) halfOpen() int { return int(max(1, g.max/4)) }

// start watches memory until ctx is done, the end of accepting, and says when
// connections are refused.
func (g *gate) start(ctx context.Context) {
	context.AfterFunc(ctx, func() { g.ending.Store(true) })
	go g.watch(ctx)
}

func (g *gate) watch(ctx context.Context) {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	var said int64
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		metrics.Read(sample)
		used := sample[0].Value.Uint64() - sample[1].Value.Uint64()
		g.used.Store(used)
		if crowded := used > g.memory; crowded != g.crowded.Swap(crowded) {
			slog.Warn("memory", "above_limit", crowded, "used", used, "limit", g.memory)
		}
		if n := g.refused.Load(); n > said && round%4 == 0 {
			slog.Warn("new connections refused", "count", n-said, "live", g.live(), "err", g.full())
			said = n
		}
	}
}

var (
	errTooMany = errors.New("limits.max_connections reached")
	errMemory  = errors.New("limits.memory reached")
	errEnding  = errors.New("draining, no new connections are accepted")
)

// full says why a new connection would be refused, nil if it would not.
func (g *gate) full() error {
	switch {
	case g.ending.Load():
		return errEnding
	case g.crowded.Load():
		return errMemory
	case g.now.Load() >= g.max:
		return errTooMany
	}
	return nil
}

// guard lets h serve a connection if there is room, and resets it if not. h
// gets living as its context, which outlasts the end of accepting.
func (g *gate) guard(living context.Context, h intercept.Handler) intercept.Handler {
	return func(_ context.Context, c net.Conn, dst netip.AddrPort) {
		n := g.now.Add(1)
		defer g.now.Add(-1)
		if crowded := g.crowded.Load(); n > g.max || crowded {
			g.refused.Add(1)
			if crowded {
				g.starved.Add(1)
			}
			if t, ok := c.(interface{ SetLinger(sec int) error }); ok {
				t.SetLinger(0)
			}
			c.Close()
			return
		}
		g.served.Add(1)
		h(living, c, dst)
	}
}

// refusals are the refused, by the reason of full.
func (g *gate) refusals() map[string]int64 {
	starved := g.starved.Load()
	return map[string]int64{"memory": starved, "max_connections": g.refused.Load() - starved}
}

func (g *gate) live() int64  { return g.now.Load() }
func (g *gate) total() int64 { return g.served.Load() }

// A loadedPolicy is the policy in force.
type loadedPolicy struct{ atomic.Pointer[policy.Policy] }

// event begins a record about the policy in force.
func (p *loadedPolicy) event(name, reason string) audit.Event {
	return audit.Event{Event: name, Policy: p.Load().Version(), Reason: reason}
}
