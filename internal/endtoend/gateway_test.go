package endtoend

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"framegate/internal/lab"
)

// A gateway is a running `framegate run`.
type gateway struct {
	*site
	cmd     *exec.Cmd
	console *console // what it says to people
	log     *journal

	exited chan struct{}
	err    error // of the exit; valid once exited is closed
}

// start runs the gateway and waits until it says that it is ready, as systemd
// would. It is killed with the network at the latest.
func (s *site) start(t *testing.T, args ...string) *gateway {
	t.Helper()
	os.Remove(s.path("notify"))
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	if err := os.Chmod(s.path("notify"), 0o777); err != nil { // whoever runs the gateway
		t.Fatal(err)
	}
	command := append(args, program, "--config", s.path("framegate.toml"), "run")
	command = append(command, s.flags...)
	g := &gateway{site: s, console: newConsole(), exited: make(chan struct{})}
	g.cmd = s.Command(context.Background(), lab.Gateway, command[0], command[1:]...)
	g.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+s.path("notify"), "GOTRACEBACK=all")
	said, console, err := os.Pipe() // not ended with the process: others may go on with it
	if err != nil {
		t.Fatal(err)
	}
	g.cmd.Stderr = console
	err = g.cmd.Start()
	console.Close()
	if err != nil {
		said.Close()
		t.Fatal(err)
	}
	silent := make(chan struct{})
	go func() {
		defer close(silent)
		defer said.Close()
		io.Copy(g.console, said)
	}()
	go func() {
		g.err = g.cmd.Wait()
		select {
		case <-silent:
		case <-time.After(time.Second): // what has taken over speaks on
		}
		close(g.exited)
	}()
	t.Cleanup(func() { g.noRace(t) })
	t.Cleanup(func() { // before what it writes to is removed
		g.cmd.Process.Kill()
		<-g.exited
	})

	got := make(chan error, 1)
	go func() {
		_, err := ready.Read(make([]byte, 64))
		got <- err
	}()
	select {
	case err = <-got:
	case <-g.exited:
		err = fmt.Errorf("the gateway ended: %v", g.err)
	case <-soon(t).Done():
		err = fmt.Errorf("the gateway does not get ready")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, g.console)
	}
	g.log = follow(t, s.path("audit"))
	return g
}

// noRace fails the test if the race detector in the gateway has spoken, or if
// a handler has panicked.
func (g *gateway) noRace(t *testing.T) {
	for _, bad := range []string{"DATA RACE", "panic in a connection", "panic:"} {
		if said := g.console.String(); strings.Contains(said, bad) {
			t.Errorf("%s in the gateway:\n%s", bad, said)
		}
	}
}

func (g *gateway) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the gateway to end and returns its exit code.
func (g *gateway) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-g.exited:
	case <-soon(t).Done():
		t.Fatalf("the gateway does not end\n%s", g.console)
	}
	return exitCode(g.err)
}

// descriptors lists what the open files of the gateway are.
func (g *gateway) descriptors(t *testing.T) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil { // else it was closed meanwhile
			list = append(list, target)
		}
	}
	return list
}

// A console keeps what a program prints and lets tests wait for it.
type console struct {
	mu      sync.Mutex
	text    []byte
	changed chan struct{} // closed and replaced by each Write
}

func newConsole() *console { return &console{changed: make(chan struct{})} }

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	close(c.changed)
	c.changed = make(chan struct{})
	return len(p), nil
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// wait waits until some line has all of the words, and returns it.
func (c *console) wait(t *testing.T, words ...string) string {
	t.Helper()
	ctx := soon(t)
	for {
		c.mu.Lock()
		text, changed := string(c.text), c.changed
		c.mu.Unlock()
		for line := range strings.Lines(text) {
			if containsAll(line, words) {
				return line
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no line with %q in:\n%s", words, text)
		case <-changed:
		}
	}
}

// waitTimes waits until n lines have the words.
func (c *console) waitTimes(t *testing.T, n int, words ...string) {
	t.Helper()
	ctx := soon(t)
	for {
		c.mu.Lock()
		text, changed := string(c.text), c.changed
		c.mu.Unlock()
		found := 0
		for line := range strings.Lines(text) {
			if containsAll(line, words) {
				found++
			}
		}
		if found >= n {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d lines with %q, expected %d, in:\n%s", found, words, n, text)
		case <-changed:
		}
	}
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}
