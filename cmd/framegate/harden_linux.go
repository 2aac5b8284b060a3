package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// harden gives up, before the first byte of an outsider comes in, what the
// gateway does not need, so that who breaks in does not get it either:
//
//   - no_new_privs: no program that is run from here can gain privileges by
//     set-user-ID or file capabilities (Documentation/userspace-api/no_new_privs.rst);
//   - not dumpable, and no core files: the memory, which holds keys and
//     plaintext, cannot be had by another process of the same user, nor from a
//     disk after a crash (PR_SET_DUMPABLE in prctl(2), ptrace(2));
//   - of the capabilities, all but CAP_NET_ADMIN, which SO_MARK and
//     IP_TRANSPARENT take (socket(7), ip(7)). The ports are bound by then. Root keeps its own: without
//     them it could not open what belongs to another user, such as a log.
func harden() error {
	if sealed, err := seal(); err != nil {
		return err
	} else if !sealed {
		slog.Warn("built with cgo: privileges are kept, build with CGO_ENABLED=0")
		return nil
	}
	if os.Geteuid() == 0 {
		slog.Warn("running as root, which the gateway does not need: see examples/systemd for a user of its own")
		return nil
	}
	return keepOnly(1 << unix.CAP_NET_ADMIN)
}

// seal does all of that but for the capabilities. It reports false where a
// process with cgo keeps its privileges.
func seal() (bool, error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return false, fmt.Errorf("dumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return false, fmt.Errorf("core limit: %w", err)
	}
	// The rest is a thread's own, so every thread has to do it.
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errors.Is(errno, unix.ENOTSUP) {
		return false, nil
	} else if errno != 0 {
		return false, fmt.Errorf("no_new_privs: %w", errno)
	}
	return true, nil
}

// keepOnly drops all capabilities of this process but those in set, and with
// the permitted ones the ambient (capabilities(7)).
func keepOnly(set uint32) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData // low and high 32 capabilities
	if err := unix.Capget(&header, &have[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	have[0].Effective &= set
	have[0].Permitted &= set
	have[0].Inheritable = 0
	have[1] = unix.CapUserData{}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&have[0])), 0)
	if errno != 0 {
		return fmt.Errorf("capabilities: %w", errno)
	}
	return nil
}
