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
		return nil, fmt.Errorf("%s is being written by another gateway: each needs a directory of its own", dir)
	case err != nil:
		d.Close()
		return nil, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	return d, nil
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
