package soak

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"framegate/internal/lab"
)

// A gateway is a running framegate, which may have been replaced by another
// process of the same program.
type gateway struct {
	*site
	cmd     *exec.Cmd // of the first process
	console string    // path of what they say
	pid     atomic.Int64
	news    chan struct{} // has room for one: pid is another
	before  []int64       // the processes before, which may still have connections
	exited  chan struct{} // the first process has
	err     error         // and how; valid once exited is closed
}

// mainPID is what a process tells systemd when another one takes over.
var mainPID = regexp.MustCompile(`(?m)^MAINPID=([0-9]+)$`)

func (s *site) start(t *testing.T) *gateway {
	t.Helper()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{site: s, console: s.path("console"), news: make(chan struct{}, 1), exited: make(chan struct{})}
	console, err := os.Create(g.console) // and not a pipe, which would end with the first process
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	g.cmd = s.Command(context.Background(), lab.Gateway, program, "--config", s.path("framegate.toml"), "run")
	g.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+s.path("notify"), "GOTRACEBACK=all")
	g.cmd.Stderr = console
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.pid.Store(int64(g.cmd.Process.Pid))
	go func() {
		g.err = g.cmd.Wait()
		close(g.exited)
	}()
	t.Cleanup(func() {
		notify.Close()
		for _, pid := range append(g.before, g.pid.Load()) {
			syscall.Kill(int(pid), syscall.SIGKILL)
		}
		<-g.exited
		for _, bad := range []string{"DATA RACE", "panic"} {
			if said := g.said(); strings.Contains(said, bad) {
				t.Errorf("%s in the gateway:\n%s", bad, said)
			}
		}
	})
	notify.SetReadDeadline(time.Now().Add(patience))
	if _, err := notify.Read(make([]byte, 64)); err != nil {
		t.Fatalf("the gateway does not get ready: %v\n%s", err, g.said())
	}
	notify.SetReadDeadline(time.Time{})
	go g.listen(notify)
	return g
}

// listen hears what the gateway tells systemd.
func (g *gateway) listen(notify *net.UnixConn) {
	for b := make([]byte, 4096); ; {
		n, err := notify.Read(b)
		if err != nil {
			return
		}
		if m := mainPID.FindSubmatch(b[:n]); m != nil {
			pid, _ := strconv.ParseInt(string(m[1]), 10, 64) // digits, as m says
			g.pid.Store(pid)
			select {
			case g.news <- struct{}{}:
			default:
			}
		}
	}
}

func (g *gateway) said() string {
	b, err := os.ReadFile(g.console)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (g *gateway) signal(s syscall.Signal) { syscall.Kill(int(g.pid.Load()), s) }

// upgrade has the gateway replaced by a new process.
func (g *gateway) upgrade() error {
	old := g.pid.Load()
	g.signal(syscall.SIGUSR2)
	select {
	case <-g.news:
		g.before = append(g.before, old)
		return nil
	case <-time.After(patience):
		return errors.New("no process has taken over:\n" + g.said())
	}
}

// left waits until the processes before the last have ended.
func (g *gateway) left(t *testing.T) {
	t.Helper()
	for _, pid := range g.before {
		for late := time.Now().Add(patience); alive(pid); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("process %d, which another one has replaced, does not end\n%s", pid, g.said())
			}
		}
	}
}

// alive reports whether a process is there and is no zombie.
func alive(pid int64) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

// stop ends the gateway in good order.
func (g *gateway) stop(t *testing.T) {
	t.Helper()
	g.signal(syscall.SIGTERM)
	g.before = append(g.before, g.pid.Load())
	g.left(t)
	<-g.exited
	if g.err != nil {
		t.Errorf("the gateway ended with %v\n%s", g.err, g.said())
	}
}
