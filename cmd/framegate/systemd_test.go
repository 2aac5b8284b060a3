package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody is the user without any right of its own.
const nobody = 65534

// TestSystemd runs the gateway as a unit of examples/systemd does: as a user
// who has CAP_NET_ADMIN and no more, with sockets bound by somebody else, and
// told to report. It takes a build without cgo, as the product is.
func TestSystemd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("run as root: it takes another user")
	}
	dir, err := os.MkdirTemp("/tmp", "framegate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "framegate")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := filepath.Join(dir, "framegate.toml")
	text := fmt.Sprintf("[intercept]\nlisten = [\"192.0.2.1:1\"]\n[ca]\ndir = %q\n[policy]\nfiles = []\n[audit]\ndir = %q\n[admin]\nlisten = \"192.0.2.1:2\"\n",
		filepath.Join(dir, "ca"), filepath.Join(dir, "audit"))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}

	said, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	os.Chmod(filepath.Join(dir, "notify"), 0o777)
	redirected, redirectedFile := boundSocket(t)
	admin, adminFile := boundSocket(t)

	// LISTEN_PID is that of the process that systemd starts, which exec keeps.
	cmd := exec.Command("sh", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@"`, "sh",
		"setpriv", "--reuid", strconv.Itoa(nobody), "--regid", strconv.Itoa(nobody), "--clear-groups",
		"--inh-caps", "+net_admin,+net_bind_service", "--ambient-caps", "+net_admin,+net_bind_service",
		program, "--config", config, "run")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "WATCHDOG_USEC=20000",
		"LISTEN_FDS=2", "LISTEN_FDNAMES=redirected:admin")
	cmd.ExtraFiles = []*os.File{redirectedFile, adminFile}
	console, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	cmd.Stderr = console
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			cmd.Process.Kill()
			cmd.Wait()
		}
		if t.Failed() {
			said, _ := os.ReadFile(console.Name())
			t.Logf("the gateway said:\n%s", said)
		}
	})

	hears := func(want string) string {
		t.Helper()
		said.SetReadDeadline(time.Now().Add(30 * time.Second))
		b := make([]byte, 4096)
		for {
			n, err := said.Read(b)
			if err != nil {
				t.Fatalf("systemd did not hear %s: %v", want, err)
			}
			if strings.HasPrefix(string(b[:n]), want) {
				return string(b[:n])
			}
		}
	}
	says := func(words ...string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; {
			// Somebody has to hear of the watchdog, or the gateway waits.
			said.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			said.Read(make([]byte, 4096))
			b, err := os.ReadFile(console.Name())
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("not said: %q (%v)\n%s", words, err, b)
			}
			for line := range strings.Lines(string(b)) {
				if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
					return
				}
			}
		}
	}
	hears("READY=1")
	hears("WATCHDOG=1")

	privileges := func(t *testing.T, pid int) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{
			"Uid:\t65534\t65534\t65534\t65534", "NoNewPrivs:\t1",
			"CapInh:\t0000000000000000", "CapPrm:\t0000000000001000", "CapEff:\t0000000000001000", "CapAmb:\t0000000000000000",
		} {
			if !strings.Contains(string(status), line+"\n") {
				t.Errorf("no line %q in\n%s", line, status)
			}
		}
		// Every thread, as privileges are a thread's own.
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, name := range threads {
			b, err := os.ReadFile(name)
			if err == nil && !(strings.Contains(string(b), "CapEff:\t0000000000001000\n") && strings.Contains(string(b), "NoNewPrivs:\t1\n")) {
				t.Errorf("a thread has kept its privileges:\n%s", b)
			}
		}
		limits, _ := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if !strings.Contains(string(limits), "Max core file size        0                    0 ") {
			t.Errorf("core files are not off:\n%s", limits)
		}
		// Another process of the same user cannot have its memory.
		out, err := exec.Command("setpriv", "--reuid", strconv.Itoa(nobody), "--regid", strconv.Itoa(nobody), "--clear-groups",
			"head", "-c1", fmt.Sprintf("/proc/%d/mem", pid)).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Permission denied") {
			t.Errorf("reading the memory as the same user: %v, %s", err, out)
		}
	}
	t.Run("privileges", func(t *testing.T) { privileges(t, cmd.Process.Pid) })

	sockets := func(t *testing.T) {
		resp, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, _ := io.ReadAll(resp.Body); string(b) != "ready\n" {
			t.Errorf("/readyz says %q", b)
		}
		// Nothing was redirected to the port, so the gateway refuses, perhaps
		// before Dial has returned: it serves.
		c, err := net.Dial("tcp", redirected)
		if err == nil {
			defer c.Close()
			c.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || os.IsTimeout(err) || errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a connection made straight to the port: %v", err)
		}
	}
	t.Run("sockets", sockets)

	cmd.Process.Signal(syscall.SIGHUP)
	hears("RELOADING=1\nMONOTONIC_USEC=")
	hears("READY=1")

	// An upgrade that fails changes nothing, one that does not the process.
	if err := os.WriteFile(config, []byte("[audit]\nlevle = \"all\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGUSR2)
	says(`level=ERROR msg="upgrade failed, this process goes on"`, `unknown key \"levle\"`)
	t.Run("after a failed upgrade", sockets)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGUSR2)
	var next int
	if _, err := fmt.Sscanf(hears("MAINPID="), "MAINPID=%d", &next); err != nil || next == cmd.Process.Pid {
		t.Fatalf("MAINPID=%d (%v)", next, err)
	}
	defer syscall.Kill(next, syscall.SIGKILL)
	hears("READY=1")
	hears("WATCHDOG=1")
	if err := cmd.Wait(); err != nil { // nothing lives there
		t.Errorf("the gateway ended with %v", err)
	}
	ended = true
	t.Run("privileges of the successor", func(t *testing.T) { privileges(t, next) })
	t.Run("sockets of the successor", sockets)
	syscall.Kill(next, syscall.SIGTERM)
	hears("STOPPING=1")
	says("msg=stopped connections=1") // that of sockets
	says("listening", redirected)
}

// TestSystemdSockets is about sockets that cannot be used: the start fails and
// says why.
func TestSystemdSockets(t *testing.T) {
	dgram, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dgram.Close()
	udp, err := dgram.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	unixFile, err := ln.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer unixFile.Close()
	multi, err := net.Listen("tcp", "127.0.0.1:0") // Multipath TCP is Go's default
	if err != nil {
		t.Fatal(err)
	}
	defer multi.Close()
	multipath, err := multi.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer multipath.Close()
	// A name by which this program is framegate, see TestMain.
	program := filepath.Join(t.TempDir(), "framegate")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	_, one := boundSocket(t)
	_, two := boundSocket(t)
	for _, tt := range []struct {
		names, want string
		files       []*os.File
	}{
		{"framegate.socket", `socket "framegate.socket" of systemd: expected one that listens (ListenStream=)`, []*os.File{udp}},
		{"framegate.socket", `socket "framegate.socket" of systemd: expected a TCP socket, not one of unix `, []*os.File{unixFile}},
		{"framegate.socket", `socket "framegate.socket" of systemd: expected plain TCP`, []*os.File{multipath}},
		{"explicit", `socket "explicit" of systemd: expected a TCP socket, not one of unix `, []*os.File{unixFile}},
		{"admin:admin", `two sockets of systemd are named "admin": expected one`, []*os.File{one, two}},
	} {
		dir := t.TempDir()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", `export LISTEN_PID=$$; exec "$@"`, "sh", program, "--config", filepath.Join(dir, "none.toml"), "run")
		os.WriteFile(filepath.Join(dir, "none.toml"), fmt.Appendf(nil, "[ca]\ndir = %q\n[policy]\nfiles = []\n[audit]\ndir = %q\n", dir+"/ca", dir+"/audit"), 0o600)
		cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(tt.files)), "LISTEN_FDNAMES="+tt.names)
		cmd.ExtraFiles = tt.files
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v, got %q, want %q", tt.names, err, out, tt.want)
		}
		if _, err := os.Stat(dir + "/audit"); err == nil {
			t.Errorf("%s: a start that failed has made a log", tt.names)
		}
	}
}

// boundSocket returns a listening socket of ours as a descriptor to hand over.
func boundSocket(t *testing.T) (addr string, f *os.File) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // as systemd does
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if f, err = ln.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return ln.Addr().String(), f
}

// TestSystemdUnits: systemd takes the units of examples/systemd without a word,
// and calls the service well confined. What it does not know it ignores, so that
// a misspelt line would confine nothing.
func TestSystemdUnits(t *testing.T) {
	examples := filepath.Join("..", "..", "examples", "systemd")
	dir := t.TempDir()
	drop := filepath.Join(dir, "framegate.service.d")
	if err := os.Mkdir(drop, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"framegate.service": dir, "framegate.socket": dir, "fail-closed.conf": drop} {
		b, err := os.ReadFile(filepath.Join(examples, name))
		if err != nil {
			t.Fatal(err)
		}
		// A program that is there, as verify asks for it.
		b = bytes.ReplaceAll(b, []byte("/usr/bin/framegate "), []byte("/bin/true "))
		if err := os.WriteFile(filepath.Join(to, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	service := filepath.Join(dir, "framegate.service")
	analyze := func(args ...string) (said string, err error) {
		out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "framegate") { // not of units of this machine that ours stand after
				said += line
			}
		}
		return said, err
	}
	if said, err := analyze("verify", service, filepath.Join(dir, "framegate.socket")); err != nil || said != "" {
		t.Errorf("verify: %v\n%s", err, said)
	}
	const most = "20" // tenths of the exposure, of 100
	if said, err := analyze("security", "--offline=true", "--threshold="+most, service); err != nil {
		t.Errorf("security: %v\n%s", err, said)
	}
}
