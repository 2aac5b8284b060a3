package endtoend

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A cell is a machine of its own as far as the demo can tell: its own network,
// /run, /etc and /tmp, in which nobody else makes networks meanwhile. What is
// there before and after a demo can be compared as a whole.
type cell struct {
	pid     int    // of a process that keeps the namespaces
	program string // nobody else runs it under this name
}

// furnish makes the directories that the demo writes to the cell's own.
const furnish = `set -e
mkdir "$1/etc"
mount -t tmpfs cell "$1/etc"
cp -a /etc/. "$1/etc"
mount --move "$1/etc" /etc
mount -t tmpfs cell /run
mount -t tmpfs cell /tmp
ip link set lo up
echo ready
exec sleep infinity`

func newCell(t *testing.T) *cell {
	t.Helper()
	// Not below /tmp, which the cell sees empty.
	dir, err := os.MkdirTemp("/var/tmp", "framegate-endtoend-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &cell{program: filepath.Join(dir, "framegate")}
	if out, err := exec.Command("cp", program, c.program).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	keeper := exec.Command("unshare", "--mount", "--net", "sh", "-c", furnish, "sh", dir)
	keeper.Stderr = os.Stderr
	out, err := keeper.StdoutPipe()
	if err == nil {
		err = keeper.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		keeper.Process.Kill()
		keeper.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("unshare: %q (%v)", line, err)
	}
	c.pid = keeper.Process.Pid
	return c
}

// command prepares a program to run in the cell. nsenter becomes it, so that
// signals reach it.
func (c *cell) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(soon(t), "nsenter", append([]string{"--target", strconv.Itoa(c.pid), "--mount", "--net", "--", name}, args...)...)
	cmd.Dir = "/"
	return cmd
}

// state lists everything that a demo could leave behind. Two things stay by
// design: the directory of ip netns, and the file by which changes of the rules
// lock each other out.
func (c *cell) state(t *testing.T) []string {
	t.Helper()
	out, err := c.command(t, "sh", "-c", `
set -e
ip netns list
ip -oneline link | sed 's/^[0-9]*: //'
iptables-save | sed '/^#/d; s/\[[0-9:]*\]//'
ip6tables-save | sed '/^#/d; s/\[[0-9:]*\]//'
find /run /tmp /etc ! -path /run/netns ! -path /run/framegate.lock
`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Split(string(out), "\n")
}

// processes lists those that run the cell's program, wherever they are.
func (c *cell) processes(t *testing.T) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && exe == c.program {
			list = append(list, link)
		}
	}
	return list
}

// TestDemo: the demo finds all its claims to hold and leaves nothing behind.
func TestDemo(t *testing.T) {
	c := newCell(t)
	before := c.state(t)
	cmd := c.command(t, c.program, "demo")
	var said, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &complaint
	if code := exitCode(cmd.Run()); code != 0 || complaint.Len() > 0 {
		t.Errorf("exit %d, %q", code, complaint.String())
	}
	for _, must := range []string{
		"request head: ", "101 head: ", "over IPv4", "over IPv6", "checks of the verdicts, the frames and the records above hold",
		"ok  no namespace, no rule and no process is left behind",
	} {
		if !strings.Contains(said.String(), must) {
			t.Errorf("%q is not in the output", must)
		}
	}
	if strings.Contains(said.String(), "NOT ") || t.Failed() {
		t.Errorf("the demo said\n%s", said.String())
	}
	c.same(t, before)
}

// TestDemoInterrupted: on Ctrl-C in the middle it cleans up all the same, and
// does not claim to have succeeded.
func TestDemoInterrupted(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"interrupt": syscall.SIGINT, "terminated": syscall.SIGTERM, "hang-up": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			c := newCell(t)
			before := c.state(t)
			cmd := c.command(t, c.program, "demo")
			said := newConsole()
			cmd.Stdout, cmd.Stderr = said, said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			said.wait(t, "One handshake over IPv6") // the gateway runs
			if n := len(c.processes(t)); n < 2 {
				t.Errorf("%d processes of the demo, expected the gateway as well", n)
			}
			cmd.Process.Signal(signal)
			if code := exitCode(<-ended); code != 1 {
				t.Errorf("exit %d, expected 1:\n%s", code, said)
			}
			if strings.Contains(said.String(), "the last record") || strings.Contains(said.String(), "goroutine ") {
				t.Errorf("the demo said\n%s", said)
			}
			c.same(t, before)
		})
	}
}

// same compares the cell with what it was.
func (c *cell) same(t *testing.T, before []string) {
	t.Helper()
	after := c.state(t)
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("left behind: %s", line)
		}
	}
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("taken away: %s", line)
		}
	}
	if left := c.processes(t); len(left) > 0 {
		t.Errorf("still running: %q", left)
	}
}
