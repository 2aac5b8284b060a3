package main

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An nsID tells one namespace from all others.
type nsID struct{ dev, ino uint64 }

// nsIDOf returns the namespace of a process.
func nsIDOf(process, kind string) (nsID, error) {
	var st unix.Stat_t
	path := filepath.Join("/proc", process, "ns", kind)
	if err := unix.Stat(path, &st); err != nil {
		return nsID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return nsID{st.Dev, st.Ino}, nil
}

// processes are those in the namespace. A sandbox that has left the one kind is
// still in the other.
func (n *execNamespace) processes() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		net, err := nsIDOf(e.Name(), "net") // or it has ended
		if err == nil && net == n.net {
			pids = append(pids, pid)
		} else if mnt, err := nsIDOf(e.Name(), "mnt"); err == nil && mnt == n.mnt {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endTime is how long what the command has left behind may take to end.
const endTime = time.Second

// killAll ends what runs in the namespace, and returns how many processes that
// were: they get SIGTERM, and those that stay SIGKILL.
func (n *execNamespace) killAll() int {
	left := n.processes()
	for _, pid := range left {
		syscall.Kill(pid, syscall.SIGTERM)
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		now := n.processes()
		if len(now) == 0 || time.Since(began) > 3*endTime {
			return len(left)
		}
		if time.Since(began) > endTime {
			for _, pid := range now {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// inForeground reports whether we are in the foreground of a terminal.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
