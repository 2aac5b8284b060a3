package audit

import (
	"errors"
	"fmt"
	"os"
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
		return nil, &heldError{dir}
	case err != nil:
		d.Close()
		return nil, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	return d, nil
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
