//go:build unix && !aix && !solaris

package ca

import (
	"os"
	"syscall"
	"time"
)

// lockWait is how long others may hold the lock. A change takes some seconds, or as long as
// somebody takes to type a passphrase.
const lockWait = 10 * time.Second

// lock takes the lock of a directory: shared for those who read the authority, exclusive for
// who changes it. It ends when the file is closed, so also with the process.
func lock(dir *os.File, exclusive bool) error {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for end := time.Now().Add(lockWait); ; {
		err := syscall.Flock(int(dir.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == syscall.EINTR:
		case err != syscall.EWOULDBLOCK || time.Now().After(end):
			return err
		default:
			time.Sleep(20 * time.Millisecond)
		}
	}
}
