package packaging

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A machine is a view of this one that is thrown away after the test, with a
// systemd and a network of its own; testdata/machine.sh says what it shares.
type machine struct{ process string }

// boot starts a machine that has the directory shared as its /mnt.
func boot(t *testing.T, shared string) machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("run as root: it takes mounts and namespaces")
	}
	name := fmt.Sprintf("framegate-packaging-%d", os.Getpid())
	var said bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "sh", "testdata/machine.sh", t.TempDir(), shared, name)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var m machine
	t.Cleanup(func() {
		if t.Failed() && m.process != "" {
			out, _ := m.run("journalctl", "--no-pager")
			t.Logf("the journal of the machine:\n%s", out)
		}
		cmd.Process.Kill() // and so process 1 of the machine, and all the others
		cmd.Wait()
		removeCgroup(t, name)
	})
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
	for range 300 {
		time.Sleep(100 * time.Millisecond)
		if b, err := os.ReadFile(children); err == nil {
			m.process = strings.TrimSpace(string(b))
		}
		if m.process == "" {
			continue
		}
		if out, _ := m.run("systemctl", "is-system-running"); out == "running\n" {
			return m
		}
	}
	t.Fatalf("the machine does not run:\n%s", said.String())
	return m
}

// removeCgroup removes what machine.sh has made in the hierarchy of this machine.
func removeCgroup(t *testing.T, name string) {
	const script = `mount -t cgroup2 cgroup2 "$1" && cd "$1" && for _ in $(seq 100); do
		find "$2" -depth -type d -exec rmdir {} + 2>/dev/null; [ -e "$2" ] || exit 0; sleep 0.1; done; exit 1`
	if out, err := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", t.TempDir(), name).CombinedOutput(); err != nil {
		t.Errorf("the cgroup %s stays: %v\n%s", name, err, out)
	}
}

// run runs a command in the machine and returns all that it printed.
func (m machine) run(args ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"--target", m.process, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// sh runs a script, every command of which has to succeed.
func (m machine) sh(t *testing.T, script string) string {
	t.Helper()
	out, err := m.run("bash", "-euc", script)
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return out
}
