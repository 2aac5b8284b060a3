package endtoend

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"framegate/internal/lab"
)

// With sudo the command is the user's: identity, home, no privilege, and the way
// to regain some; it cannot read the keys.
func testExecUser(t *testing.T, r *runner) {
	cmd := r.exec(soon(t), "--", "sh", "-c", `id -u; id -g; echo $HOME $USER; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status
		curl -sS -o /dev/null -w '%{http_code}\n' https://`+chatHost+`/page; ls "$TMPDIR"/framegate-exec-*/audit 2>/dev/null; pwd; echo ${SUDO_UID-none}`)
	cmd.Env = append(cmd.Env, "SUDO_UID=65534", "SUDO_GID=65534", "SUDO_USER=nobody", "HOME=/root")
	cmd.Dir = "/"
	code, out, stderr := finish(t, cmd)
	want := "65534\n65534\n/nonexistent nobody\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\n200\n/\nnone\n"
	if code != 0 || out != want {
		t.Errorf("exit %d, %q, expected %q\n%s", code, out, want, stderr)
	}
}

func testExecExit(t *testing.T, r *runner) {
	for script, want := range map[string]int{"true": 0, "exit 7": 7, "kill -9 $$": 137, "kill -TERM $$": 143} {
		if code, out, stderr := r.do(t, "--quiet", "--", "sh", "-c", script); code != want || out != "" || stderr != "" {
			t.Errorf("%s: exit %d, expected %d; %q %q", script, code, want, out, stderr)
		}
	}
	cmd := r.exec(soon(t), "--", "cat")
	cmd.Stdin = strings.NewReader("from stdin")
	if code, out, stderr := finish(t, cmd); code != 0 || out != "from stdin" {
		t.Errorf("exit %d, %q\n%s", code, out, stderr)
	}
}

// begin starts a command that prints a line when it is ready, and returns it.
func (r *runner) begin(t *testing.T, script string) (cmd *exec.Cmd, said string) {
	t.Helper()
	cmd = r.exec(soon(t), "--quiet", "--", "sh", "-c", script)
	cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir()) // who is killed leaves something there
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := stdout.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(string(buf[:n]))
}

// Signals are for the command, which says what comes of them.
func testExecSignals(t *testing.T, r *runner) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR2} {
		cmd, _ := r.begin(t, `trap "exit 4" INT TERM HUP USR2; echo ready; while :; do sleep 0.02; done`)
		cmd.Process.Signal(sig)
		if code := exitCode(cmd.Wait()); code != 4 {
			t.Errorf("%v: exit %d", sig, code)
		}
	}
	// Without a gateway there is no command.
	cmd, pid := r.begin(t, `echo $$; exec sleep 1000`)
	cmd.Process.Kill()
	cmd.Wait()
	gone(t, pid)
}

// A shell has the terminal, with the control of its jobs, and an interrupt that is
// typed comes once.
func testExecTerminal(t *testing.T, r *runner) {
	cmd := r.exec(soon(t), "--", "bash", "--norc", "-i")
	cmd.Args = append(cmd.Args[:4:4], append([]string{"/usr/bin/python3", "-c", `
import os, pty, signal, sys
def late(*_):
    sys.exit("waited in vain: %r" % seen)
signal.signal(signal.SIGALRM, late)
signal.alarm(30)
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
def expect(text):
    global seen
    while text not in seen:
        seen += os.read(terminal, 4096)
    seen = seen[seen.index(text) + len(text):]
def say(text):
    os.write(terminal, text)
say(b"PS1=; stty -echo; echo rea''dy\n"); expect(b"ready")
say(b"(echo on''e; exec sleep 1000)\n"); expect(b"one"); say(b"\x1a"); expect(b"Stopped")
say(b"""kill -9 %1; /usr/bin/python3 -c 'import signal; signal.signal(2, lambda *_: exit("caug" + "ht")); print("tw" + "o", flush=True); signal.pause()'\n""")
expect(b"two"); say(b"\x03"); expect(b"caught")
say(b"exit 5\n"); expect(b"connection")
try:
    while os.read(terminal, 4096): pass
except OSError: pass
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`}, cmd.Args[4:]...)...)
	if code, out, stderr := finish(t, cmd); code != 0 || out != "5\n" {
		t.Errorf("exit %d, %q\n%s", code, out, stderr)
	}
}

// What the command has started in the background ends with it.
func testExecLeftovers(t *testing.T, r *runner) {
	code, out, stderr := r.do(t, "--", "sh", "-c", `setsid sleep 1000 >/dev/null 2>&1 & echo $!; setsid sh -c 'trap "" TERM; exec sleep 1001' >/dev/null 2>&1 & echo $!; sleep 0.1`)
	if code != 0 || !strings.Contains(stderr, "framegate: ended 2 processes that the command had left behind\n") {
		t.Errorf("exit %d\n%s", code, stderr)
	}
	for _, pid := range strings.Fields(out) {
		gone(t, pid)
	}
}

// gone waits for a process to have ended.
func gone(t *testing.T, pid string) {
	t.Helper()
	if _, err := strconv.Atoi(pid); err != nil {
		t.Fatal(err)
	}
	for ctx := soon(t); ; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("process %s is still there: %s", pid, stat)
		}
	}
}

// Mistakes are told in a line, with what mends them, and nothing is run.
func testExecMistakes(t *testing.T, r *runner) {
	r.write(t, "bad.toml", "[policy]\nname = \"x\"\n[[rule]]\nid = 7\n")
	r.write(t, "plain.txt", "text")
	hide := `mount --bind /dev/null "$(readlink -f /usr/sbin/iptables-restore)"; exec "$@"`
	for name, tt := range map[string]struct {
		before, args []string
		want         string
	}{
		"no command":     {nil, nil, "framegate: no command to run\nframegate: hint: framegate exec -- CMD [ARG]...\n"},
		"not found":      {nil, []string{"--", "no-such-command"}, "framegate: no-such-command: command not found\nframegate: hint: "},
		"no file":        {nil, []string{"--", "./no/such"}, "framegate: ./no/such: "},
		"not executable": {nil, []string{"--", r.path("plain.txt")}, "framegate: " + r.path("plain.txt") + ": not executable\nframegate: hint: chmod +x"},
		"policy":         {nil, []string{"--policy", r.path("bad.toml"), "--", "true"}, "framegate: " + r.path("bad.toml") + ":3:1: "},
		"ports":          {nil, []string{"--ports", "80,http", "--", "true"}, "framegate: --ports http: expected numbers"},
		"not root":       {[]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, []string{"--", "true"}, "framegate: a network for the command takes root\nframegate: hint: sudo framegate exec -- true\n"},
		"no namespaces":  {[]string{"setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"}, []string{"--", "true"}, "framegate: namespaces: unshare: operation not permitted\nframegate: hint: a container needs CAP_SYS_ADMIN"},
		"no iptables":    {[]string{"unshare", "-m", "sh", "-ec", hide, "-"}, []string{"--", "true"}, "framegate: the rules of the command: iptables-restore not found\nframegate: hint: apt install iptables\n"},
		"log in use":     {nil, []string{"--dir", r.path("plain.txt"), "--", "true"}, "framegate: audit.dir: "},
	} {
		args := append(append(tt.before, program, "--config", r.config, "exec"), tt.args...)
		cmd := r.Command(soon(t), lab.Gateway, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "TMPDIR="+r.dir)
		if code, out, stderr := finish(t, cmd); code != 2 || out != "" || !strings.HasPrefix(stderr, tt.want) {
			t.Errorf("%s: exit %d, %q, expected %q", name, code, stderr, tt.want)
		}
	}
}
