package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// A HeldError says that another process has the log open.
type HeldError struct {
	Dir string
	PID int // 0: not known
}

func (e *HeldError) Error() string {
	who := ""
	if e.PID > 0 {
		who = fmt.Sprintf(" (process %d)", e.PID)
	}
	return fmt.Sprintf("%s is being written by another gateway%s: stop that one, or give each a directory of its own", e.Dir, who)
}

// lockWithin is how long a log waits for a directory that it had before. Who has
// it meanwhile is the process it was given to, at its end, or somebody who erases.
const lockWithin = time.Second

// waitForLock is lockDir, for so long.
func waitForLock(dir string, wait time.Duration) (*os.File, error) {
	for end := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		lock, err := lockDir(dir)
		var held *HeldError
		if !errors.As(err, &held) || !time.Now().Before(end) {
			return lock, err
		}
	}
}

// A holder is what the file open has: the process that has the directory, or had
// it and did not come to an orderly end. It holds nothing, the lock does. What it
// says is for people, and so only said of a process that is still the same one.
type holder struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since the machine started
}

func thisProcess() holder {
	pid := os.Getpid()
	return holder{pid, startOf(pid)}
}

func (h holder) line() []byte {
	b, err := json.Marshal(h)
	if err != nil {
		return nil // two numbers always can
	}
	return append(b, '\n')
}

// readHolder reads a file open; that of an older framegate is empty.
func readHolder(path string) (h holder) {
	if b, err := os.ReadFile(path); err != nil || json.Unmarshal(b, &h) != nil {
		return holder{}
	}
	return h
}

// alive returns the id of the process if that is still the one that was meant.
func (h holder) alive() int {
	if h.PID <= 0 || h.Start == 0 || startOf(h.PID) != h.Start {
		return 0
	}
	return h.PID
}
