package intercept

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Runner runs the commands of iptables and iproute2. [Exec] is the real one, [Fake] one
// for tests.
type Runner interface {
	// Run runs argv with stdin as its input and returns its output.
	Run(ctx context.Context, stdin string, argv ...string) (stdout string, err error)
}

// Exec runs commands on this machine. The zero Exec is ready.
type Exec struct {
	// Dirs are searched for a command that PATH lacks. Nil means /usr/sbin and
	// /sbin, which the PATH of many users leaves out.
	Dirs []string
}

// A CommandError is a command that failed, and what it said.
type CommandError struct {
	Argv   []string
	Stderr string // on one line
	Err    error  // most often an *exec.ExitError
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("%s: %v: %s", strings.Join(e.Argv, " "), e.Err, e.Stderr)
}

func (e *CommandError) Unwrap() error { return e.Err }

// Run implements [Runner]. The error is a [SetupError] if the command is
// missing or lacks the privilege, and a [CommandError] otherwise.
func (e Exec) Run(ctx context.Context, stdin string, argv ...string) (string, error) {
	path, err := e.find(argv[0])
	if err != nil {
		hint := "apt install iptables"
		if argv[0] == "ip" {
			hint = "apt install iproute2"
		}
		return "", &SetupError{fmt.Errorf("%s %w", argv[0], errNoCommand), hint}
	}
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		failed := &CommandError{argv, oneLine(stderr.String()), err}
		for _, s := range []string{"you must be root", "Permission denied", "Operation not permitted"} {
			if strings.Contains(failed.Stderr, s) {
				return "", &SetupError{failed, needRoot}
			}
		}
		return "", failed
	}
	return stdout.String(), nil
}

// errNoCommand is the error of a [Runner] without the command.
var errNoCommand = errors.New("not found")

const needRoot = "run as root, the rules take CAP_NET_ADMIN"

func (e Exec) find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	dirs := e.Dirs
	if dirs == nil {
		dirs = []string{"/usr/sbin", "/sbin"}
	}
	for _, dir := range dirs {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// oneLine joins the lines of stderr without the advice on --help.
func oneLine(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Try `") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}

// A machine is what [Up] and its like need of the system besides the commands.
type machine interface {
	// lock keeps others from changing our rules until unlock. iptables' own
	// lock covers one command only, and its nft variant has none.
	lock(ctx context.Context) (unlock func(), err error)
	// hasIPv6 reports whether the kernel knows IPv6 at all, even if no
	// interface uses it now.
	hasIPv6() bool
}

// machineOf returns the machine that r runs its commands on.
func machineOf(r Runner) machine {
	if m, ok := r.(machine); ok {
		return m
	}
	return Exec{}
}

// lockFile is on a tmpfs like /run/xtables.lock, and like it is left behind:
// to remove a lock file that somebody waits for would let two in.
const lockFile = "/run/framegate.lock"

const lockTimeout = 15 * time.Second

func (Exec) lock(ctx context.Context) (func(), error) {
	f, err := os.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return nil, &SetupError{err, needRoot}
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: lockFile, Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, &SetupError{
				fmt.Errorf("another change of the redirect rules is going on: %w", ctx.Err()),
				"`fuser -v " + lockFile + "` shows whose",
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// hasIPv6 looks for the list of IPv6 addresses, which a kernel without IPv6 or
// booted with ipv6.disable=1 does not have. Where only the sysctl disable_ipv6
// is set it is there, and rightly: the sysctl can be unset at any time.
func (Exec) hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}
