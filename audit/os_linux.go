package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// lockDir takes the directory for one writer. The lock goes with the process.
func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		d.Close()
		return nil, &HeldError{Dir: dir, PID: readHolder(filepath.Join(dir, openFile)).alive()}
	case err != nil:
		d.Close()
		return nil, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	return d, nil
}

// startOf returns when a process began, in clock ticks since the machine did:
// field 22 of proc_pid_stat(5). The second field may have blanks and parentheses.
// 0: there is no such process, or nobody may know.
func startOf(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0
	}
	start, _ := strconv.ParseUint(string(fields[19]), 10, 64)
	return start
}

// checkOwner refuses to write into the log of another user: the files would be
// of one whom the gateway is not, and it could not go on.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if uid := os.Geteuid(); ok && int(st.Uid) != uid {
		return fmt.Errorf("%s belongs to the user %d, and this is %d: %w", dir, st.Uid, uid, os.ErrPermission)
	}
	return nil
}

func fdatasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}
