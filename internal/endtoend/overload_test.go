package endtoend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
)

// A memoryGroup is a memory cgroup of the test's own, in version 2 or 1, whichever
// of them the machine has the memory controller in.
type memoryGroup struct {
	dir    string
	mount  string // the file system, as mount(8) has it
	events string // the file that counts kills
}

func newMemoryGroup(t *testing.T, limit int64) *memoryGroup {
	t.Helper()
	name := fmt.Sprintf("framegate-test-%d", os.Getpid())
	g := &memoryGroup{filepath.Join("/sys/fs/cgroup/memory", name), "-t cgroup -o memory", "memory.oom_control"}
	files := [][2]string{{"memory.limit_in_bytes", fmt.Sprint(limit)}, {"memory.memsw.limit_in_bytes", fmt.Sprint(limit)}}
	if b, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil && bytes.Contains(b, []byte("memory")) {
		os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0)
		g = &memoryGroup{filepath.Join("/sys/fs/cgroup", name), "-t cgroup2", "memory.events"}
		files = [][2]string{{"memory.max", fmt.Sprint(limit)}, {"memory.swap.max", "0"}}
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Skipf("this machine lets nobody make a memory cgroup: %v", err)
	}
	t.Cleanup(func() {
		for end := time.Now().Add(patience); os.Remove(g.dir) != nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%s is left", g.dir)
				return
			}
		}
	})
	for _, f := range files {
		err := os.WriteFile(filepath.Join(g.dir, f[0]), []byte(f[1]), 0)
		if err != nil && !strings.Contains(f[0], "sw") { // without swap there may be no file for it
			t.Fatal(err)
		}
	}
	return g
}

// command is what has a program run in the group, which it then sees: a network
// namespace has a /sys of its own.
func (g *memoryGroup) command() []string {
	return []string{"sh", "-ec", fmt.Sprintf(`mount %s none /sys/fs/cgroup; echo $$ > /sys/fs/cgroup/%s/cgroup.procs; exec "$0" "$@"`,
		g.mount, filepath.Base(g.dir))}
}

// kills is how many processes the kernel has killed for the group's limit.
func (g *memoryGroup) kills(t *testing.T) (n int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, g.events))
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(b), "oom_kill ")
	if _, err := fmt.Sscan(after, &n); !ok || err != nil {
		t.Fatalf("%s: %q", g.events, b)
	}
	return n
}

// A crowd is many WebSockets of one client, and what became of those that were
// not let in.
type crowd struct {
	g       *gateway
	refused atomic.Int64

	mu sync.Mutex
	in []*clients.Raw
}

// join opens a WebSocket, and reports whether it was let in. Who is not has to
// be reset.
func (c *crowd) join(t *testing.T, network string) (in bool, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	raw, err := clients.DialRaw(ctx, clients.RawOptions{
		Dial: c.g.dialer(), Network: network, Address: c.g.address(t, network, chatHost, 443).String(), TLS: clients.Trust(c.g.roots, chatHost),
	})
	if err == nil {
		if _, err = raw.Upgrade(clients.OddHead(chatHost, "/echo?crowd")); err == nil {
			c.mu.Lock()
			c.in = append(c.in, raw)
			c.mu.Unlock()
			return true, nil
		}
		raw.Cut()
	}
	if !wasReset(err) {
		return false, err
	}
	c.refused.Add(1)
	return false, nil
}

func wasReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// enter has n of the crowd get in.
func (c *crowd) enter(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if in, err := c.join(t, families[i%2]); !in {
			t.Fatalf("%d of %d got in: %v", i, n, err)
		}
	}
}

// press has the crowd try, so many at once, until as many were refused as are in
// and it is full.
func (c *crowd) press(t *testing.T, atOnce int, full func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			for ctx.Err() == nil {
				in, err := c.join(t, families[i%2])
				if err != nil {
					t.Errorf("neither in nor reset: %v", err)
					return
				}
				if !in {
					time.Sleep(100 * time.Millisecond) // nobody comes back at once
				}
			}
		})
	}
	for ctx.Err() == nil && !(c.twice() && full()) {
		time.Sleep(200 * time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("there is room for everybody")
	}
	cancel()
	wg.Wait()
}

func (c *crowd) twice() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.in) > 0 && c.refused.Load() >= int64(len(c.in))
}

func (c *crowd) leave() {
	for _, raw := range c.in {
		raw.Cut()
	}
	c.in = nil
}

// echo sends a message on each WebSocket that is in, and expects it back as it is.
func (c *crowd) echo(t *testing.T, text string) {
	t.Helper()
	for i, raw := range c.in {
		want := fmt.Sprint(text, " ", i, strings.Repeat("~", i*100))
		raw.SetDeadline(time.Now().Add(patience))
		if err := raw.Send(true, frames.Text, []byte(want)); err != nil {
			t.Errorf("%s: WebSocket %d: %v", text, i, err)
			return
		}
		if _, got, err := raw.Frame(); err != nil || string(got) != want {
			t.Errorf("%s: WebSocket %d: %.40q (%v), expected %.40q", text, i, got, err, want)
			return
		}
	}
}

// burst has each WebSocket that is in begin a message for which no memory is
// claimed, and end it when all have.
func (c *crowd) burst(t *testing.T) {
	t.Helper()
	message := frames.Header{Fin: true, Opcode: frames.Binary, Masked: true, Length: 60 << 10}.Append(nil)
	message = append(message, make([]byte, 60<<10)...)
	const rest = 100
	each := func(do func(raw *clients.Raw) error) {
		t.Helper()
		var all sync.WaitGroup
		for _, raw := range c.in {
			all.Go(func() {
				raw.SetDeadline(time.Now().Add(patience))
				if err := do(raw); err != nil {
					t.Errorf("in a burst: %v", err)
				}
			})
		}
		all.Wait()
	}
	each(func(raw *clients.Raw) error {
		_, err := raw.Write(message[:len(message)-rest])
		return err
	})
	each(func(raw *clients.Raw) error {
		if _, err := raw.Write(message[len(message)-rest:]); err != nil {
			return err
		}
		_, got, err := raw.Frame()
		if err == nil && len(got) != 60<<10 {
			err = fmt.Errorf("%d bytes came back", len(got))
		}
		return err
	})
}

// TestOverload: at twice what there is room for, those that are in stay and hear
// of nothing, the others are reset and counted, nothing is killed, and afterwards
// there is room again.
func TestOverload(t *testing.T) {
	const memory = 80 << 20
	s := newSite(t, settings{})
	config, err := os.ReadFile(s.path("framegate.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if raced() { // whose memory is another
		path := s.path("framegate")
		if err := build(path, false); err != nil {
			t.Fatal(err)
		}
		defer func(old string) { program = old }(program)
		program = path
	}
	for _, tt := range []struct {
		reason string
		limits string
		file   string // limit of open files
		atOnce int    // who want in: a quarter of the connections may be half-open
	}{
		{"memory", "", "", 64},
		{"max_connections", "max_connections = 60", "", 12},
		{"descriptors", "max_connections = 5000", "220", 12},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			s.write(t, "framegate.toml", strings.Replace(string(config), "[limits]\n", "[limits]\n"+tt.limits+"\n", 1))
			group := newMemoryGroup(t, memory)
			command := group.command()
			if tt.reason != "memory" {
				command = []string{"sh", "-ec", `ulimit -n ` + tt.file + `; exec "$0" "$@"`}
				if tt.file == "" {
					command = nil
				}
			}
			g := s.start(t, command...)
			live := &crowd{g: g}
			t.Cleanup(live.leave)
			live.enter(t, 20)
			live.echo(t, "before")

			load := &crowd{g: g}
			t.Cleanup(load.leave)
			load.press(t, tt.atOnce, func() bool {
				x, _ := g.scrape(t)
				return tt.reason != "memory" || x.sum("framegate_caches_shed_total") > 0
			})
			refused := load.refused.Load()
			t.Logf("%d fitted in, %d were refused", len(live.in)+len(load.in), refused)
			live.echo(t, "in the crowd")
			x, _ := g.scrape(t)
			if n := x.sum("framegate_connections_refused_total", `"`+tt.reason+`"`); n != refused || x.sum("framegate_connections_refused_total") != n {
				t.Errorf("%d counted as refused for %s, %d for anything; expected %d", n, tt.reason, x.sum("framegate_connections_refused_total"), refused)
			}
			if n := x.sum("framegate_websockets"); n != int64(len(live.in)+len(load.in)) {
				t.Errorf("%d WebSockets are open, expected %d", n, len(live.in)+len(load.in))
			}
			g.log.wait(t, "the hard rung", func(list []record) bool { return overloaded(list, tt.reason+" hard: ") })
			if tt.reason == "memory" {
				if n := x.sum("framegate_memory_limit_bytes"); n > memory*3/4 {
					t.Errorf("limits.memory is %d bytes", n)
				}
				load.burst(t)
			} else {
				load.echo(t, "of the crowd")
			}

			load.leave()
			recovered(t, g, func() bool {
				status, _ := g.curl(t, adminURL+"/readyz")
				return status == "200"
			})
			g.log.wait(t, "the way down", func(list []record) bool {
				return overloaded(list, tt.reason+" soft: ") || overloaded(list, tt.reason+" normal: ")
			})
			again := &crowd{g: g}
			t.Cleanup(again.leave)
			again.enter(t, 10)
			again.echo(t, "afterwards")
			live.echo(t, "afterwards")
			if n := group.kills(t); n != 0 {
				t.Errorf("the kernel has killed %d", n)
			}
			if strings.Contains(g.console.String(), "accept failed") {
				t.Errorf("accept has failed:\n%s", g.console)
			}
			if tt.reason == "max_connections" {
				idleProxyClients(t, g)
			}
			live.leave() // or the gateway waits for their Close
			again.leave()
			g.signal(t, syscall.SIGTERM)
			if code := g.wait(t); code != 0 {
				t.Errorf("exit %d\n%s", code, g.console)
			}
			s.framegate(t, "audit", "verify")
		})
	}
}

// overloaded reports whether the log has an overload with such a reason.
func overloaded(list []record, reason string) bool {
	for _, r := range list {
		if r.Event == audit.GatewayOverload && strings.HasPrefix(r.Reason, reason) {
			return true
		}
	}
	return false
}

func recovered(t *testing.T, g *gateway, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not recover\n%s", g.console)
		}
	}
}

// idleProxyClients: connections to the explicit proxy count before they have
// asked for anything.
func idleProxyClients(t *testing.T, g *gateway) {
	t.Helper()
	idle := 0
	dial := func() (net.Conn, error) {
		c, err := g.Dial(soon(t), lab.Client, "tcp4", g.proxyAddress("tcp4"))
		if err == nil {
			t.Cleanup(func() { c.Close() })
			idle++
		}
		return c, err
	}
	var list []net.Conn
	ready := func() bool {
		status, body := g.curl(t, adminURL+"/readyz")
		if status != "200" && !strings.Contains(body, "max_connections") {
			t.Errorf("/readyz: %s %s", status, body)
		}
		return status == "200"
	}
	recovered(t, g, func() bool {
		c, err := dial()
		if err == nil {
			list = append(list, c)
		}
		return !ready()
	})
	if idle < 20 {
		t.Errorf("full with %d idle connections", idle)
	}
	c, err := dial()
	if err == nil {
		c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if !wasReset(err) {
		t.Errorf("one too many at the explicit proxy: %v, expected a reset", err)
	}
	for _, c := range list {
		c.Close()
	}
	recovered(t, g, ready)
}
