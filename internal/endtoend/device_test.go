package endtoend

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"framegate/internal/lab"
)

// A device is a machine in the client's network of which /etc, /usr, /var and the
// home are its own: what is installed there is gone with it, and the machine
// that runs the test never sees it.
type device struct {
	*gateway
	dir string // where its own files are; empty for everybody else
	pid int    // of a process that holds its mounts
}

// mounts makes the mounts of a device and keeps them. ip netns exec has given it
// a mount namespace of its own, and there the names of the lab in /etc.
const mounts = `
set -e
mount --make-rprivate /
mount -t tmpfs device "$1"
mkdir "$1/names" "$1/home"
cp /etc/hosts /etc/resolv.conf /etc/nsswitch.conf "$1/names"
for d in etc usr var; do
	mkdir -p "$1/$d/upper" "$1/$d/work"
	mount -t overlay -o "lowerdir=/$d,upperdir=$1/$d/upper,workdir=$1/$d/work" device "/$d"
done
rm -f /etc/hosts /etc/resolv.conf /etc/nsswitch.conf
cp "$1/names/"* /etc
echo ready
exec sleep 3600
`

func newDevice(t *testing.T, g *gateway) *device {
	t.Helper()
	d := &device{gateway: g, dir: t.TempDir()}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := g.Command(ctx, lab.Client, "sh", "-c", mounts, "sh", d.dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
	})
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("no device: %v\n%s", err, stderr.Bytes())
	}
	d.pid = cmd.Process.Pid
	return d
}

// command prepares a shell script to run on the device.
func (d *device) command(ctx context.Context, script string, env ...string) *exec.Cmd {
	cmd := d.Command(ctx, lab.Client, "nsenter", "--mount", "--target", strconv.Itoa(d.pid), "sh", "-c",
		`sudo() { "$@"; }`+"\nset -e\n"+script)
	cmd.Env = append([]string{
		"HOME=" + d.home(), "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}, env...)
	return cmd
}

func (d *device) home() string { return filepath.Join(d.dir, "home") }

// run runs a shell script on the device and returns all that it prints.
func (d *device) run(t *testing.T, script string, env ...string) (string, error) {
	t.Helper()
	out, err := d.command(soon(t), script, env...).CombinedOutput()
	return string(out), err
}

// must runs a shell script that has to succeed.
func (d *device) must(t *testing.T, script string) {
	t.Helper()
	if out, err := d.run(t, script); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// A deviceBundle is a bundle that was exported for a test.
type deviceBundle struct {
	dir    string
	readme string
}

// export has framegate write the bundle for a kind of device.
func (s *site) export(t *testing.T, platform string) deviceBundle {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	s.framegate(t, "ca", "export", "--for", platform, "--out", dir)
	readme, err := os.ReadFile(filepath.Join(dir, "README.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return deviceBundle{dir, string(readme)}
}

// steps returns a script of the commands that README.txt gives below a heading:
// those lines that are indented by four, and of these the ones with one of words,
// or all.
func (b deviceBundle) steps(t *testing.T, heading string, words ...string) string {
	t.Helper()
	_, section, ok := strings.Cut(b.readme, "\n"+heading+"\n-")
	section, _, _ = strings.Cut(section, "\n---") // the next heading is no command
	script := fmt.Sprintf("cd '%s'\n", b.dir)
	found := 0
	for line := range strings.Lines(section) {
		command, indented := strings.CutPrefix(line, "    ")
		if !indented {
			continue
		}
		wanted := len(words) == 0
		for _, w := range words {
			wanted = wanted || strings.Contains(command, w)
		}
		if wanted {
			script += command
			found++
		}
	}
	if !ok || found < max(1, len(words)) {
		t.Fatalf("README.txt has %d commands with %q below %q", found, words, heading)
	}
	return script
}
