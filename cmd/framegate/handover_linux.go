package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketPair returns two ends of a stream: one for this process, one for
// another.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// keepPrivileges lets the program of cmd have what [harden] has left to us: a
// process that is not root hands nothing on to a program by itself
// (capabilities(7), "Ambient").
func keepPrivileges(cmd *exec.Cmd) error {
	if os.Geteuid() == 0 {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if have[0].Permitted&(1<<unix.CAP_NET_ADMIN) != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: []uintptr{unix.CAP_NET_ADMIN}}
	}
	return nil
}

// speakTo makes f our standard error.
func speakTo(f *os.File) error {
	return os.NewSyscallError("dup3", unix.Dup3(int(f.Fd()), int(os.Stderr.Fd()), 0))
}

// inheritedFile is descriptor fd, which the process that has started us has
// left open; what we start does not get it.
func inheritedFile(fd int, name string) (*os.File, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("descriptor %d (%s): %w", fd, name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
