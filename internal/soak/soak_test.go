package soak

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	length  = flag.Duration("soak", 9*time.Second, "how long the soak lasts")
	clients = flag.Int("clients", 150, "how many connections are kept up")
)

// patience bounds every single wait for something that has to come.
const patience = 60 * time.Second

// program is the framegate that is soaked, built once.
var program string

// roleServer, in the environment, makes this binary a server: its addresses and
// the file with its certificate and key, as JSON.
const roleServer = "FRAMEGATE_SOAK_SERVER"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleServer); role != "" {
		var arg serverArg
		err := json.Unmarshal([]byte(role), &arg)
		if err == nil {
			err = serve(arg.Addrs, arg.Certificate)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "framegate-soak-")
	if err == nil {
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "framegate")
		err = build(program)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build builds the program, with the race detector if these tests have it.
func build(path string) error {
	args := []string{"build", "-buildvcs=false", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "framegate/cmd/framegate")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return nil
}

// A plan is what one gateway has to live through, besides what all have.
type plan struct {
	name      string
	onFailure string
	upgrades  bool // the program is replaced, and the disk is never full
}

func TestSoak(t *testing.T) {
	plans := []plan{{"block", "block", false}, {"gap", "gap", false}, {"upgrade", "block", true}}
	for _, p := range plans {
		t.Run(p.name, func(t *testing.T) { soak(t, p, *length/time.Duration(len(plans))) })
	}
}

// soak is one gateway's life.
func soak(t *testing.T, p plan, length time.Duration) {
	// Machines that do other things, too, stand still for seconds now and then.
	s := newSite(t, p.onFailure, min(max(length/6, 5*time.Second), 15*time.Second).Round(time.Second))
	g := s.start(t)
	w := &crowd{net: s.Net, secure: s.trust, hosts: s.hosts, stall: min(max(length/6, time.Second), 20*time.Second)}

	// What a process takes once and keeps is taken in a warm-up.
	warm, cancel := context.WithTimeout(t.Context(), min(max(length/10, 1500*time.Millisecond), time.Minute))
	w.load(warm, *clients)
	cancel()
	g.settle(t)
	before := g.measure(t)

	loaded, cancel := context.WithTimeout(t.Context(), length)
	faults := s.hurt(t, loaded, g, p)
	watched := g.watch(loaded)
	w.load(loaded, *clients)
	cancel()
	injected := <-faults
	g.left(t)
	g.settle(t)
	after := g.measure(t)
	counted := g.scrape(t)
	g.stop(t)
	s.stopServers()

	b := &books{t: t, onFailure: p.onFailure, injected: injected, clients: w.all, servers: s.notes, counted: counted}
	b.read(s.path("audit"))
	b.reconcile()
	verified := s.verify(t)
	most := <-watched
	checkGrowth(t, before, after)
	if most.resident[1] > most.resident[0]+most.resident[0]/4+residentRoom/4 {
		t.Errorf("%d bytes resident in the second half, %d in the first", most.resident[1], most.resident[0])
	}

	var r strings.Builder
	line := func(name string, value any) { fmt.Fprintf(&r, "  %-28s %v\n", name, value) }
	line("plan", p.name)
	line("length", length)
	b.report(line)
	injected.report(line)
	line("live at once, at most", max(most.sockets[0], most.sockets[1]))
	line("resident KiB under load", fmt.Sprintf("%d in the first half, %d in the second", most.resident[0]>>10, most.resident[1]>>10))
	line("descriptors", fmt.Sprintf("%d, before %d", after.descriptors, before.descriptors))
	line("goroutines", fmt.Sprintf("%d, before %d", after.goroutines, before.goroutines))
	line("live heap KiB", fmt.Sprintf("%d, before %d", after.heap>>10, before.heap>>10))
	line("resident KiB", fmt.Sprintf("%d, before %d", after.resident>>10, before.resident>>10))
	line("audit verify", verified)
	fmt.Print("soak\n" + r.String())
}

// checkGrowth compares an idle gateway with what it was before.
func checkGrowth(t *testing.T, before, after measures) {
	// The few are what the runtime, the log and our own question hold at a time.
	if after.descriptors > before.descriptors+4 {
		t.Errorf("%d descriptors are open, %d were before the load:\n%s", after.descriptors, before.descriptors, after.files)
	}
	if after.goroutines > before.goroutines+8 {
		t.Errorf("%d goroutines, %d before the load:\n%s", after.goroutines, before.goroutines, after.stacks)
	}
	if after.heap > before.heap+heapRoom {
		t.Errorf("%d bytes of live heap, %d before the load", after.heap, before.heap)
	}
	if after.resident > 2*before.resident+residentRoom {
		t.Errorf("%d bytes resident, %d before the load", after.resident, before.resident)
	}
}

const (
	// heapRoom is for caches that are filled further: leaves, sessions.
	heapRoom = 16 << 20
	// residentRoom is what the collector has not given back yet.
	residentRoom = 128 << 20
)
