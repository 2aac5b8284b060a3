package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// ownerPrefix begins the name of the locked file that stands for a lab
	// whose owner lives.
	ownerPrefix = "/run/framegate-lab-"

	// killPause and killRounds bound the wait for killed processes to be gone.
	killPause  = 10 * time.Millisecond
	killRounds = 500

	// removeLimit bounds one ip call of a removal.
	removeLimit = 10 * time.Second
)

// An owner is the lock that says: the process which made this lab lives. It is
// taken before anything else is made and given back after all is removed, so
// a sweep finds every remainder by it.
type owner struct {
	file *os.File
	path string
}

func own(id string) (*owner, error) {
	// A sweep must never see the file unlocked, so it gets its name last.
	f, err := os.OpenFile(ownerPrefix+id+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(f, "%d\n", os.Getpid()) // for people; the lock is what counts
	held, err := lock(f)
	if held {
		err = fmt.Errorf("%s: locked by somebody else", f.Name())
	}
	if err == nil {
		err = os.Rename(f.Name(), ownerPrefix+id)
	}
	if err != nil {
		os.Remove(f.Name())
		f.Close()
		return nil, err
	}
	return &owner{f, ownerPrefix + id}, nil
}

// release removes the file while the lock is still held. A sweep may have
// looked at it just after its owner gave it up, and finds it gone.
func (o *owner) release() error {
	err := os.Remove(o.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, o.file.Close())
}

// Down removes the network: it ends every Command, kills what else runs inside
// the namespaces and removes them with their files. It may be called more than
// once and from more than one goroutine; each call returns the same error.
func (n *Net) Down() error {
	n.once.Do(func() {
		n.kill()
		if n.downErr = remove(n.id, n.ip); n.downErr == nil {
			n.downErr = n.owner.release()
		} else {
			n.owner.file.Close() // a later sweep tries again
		}
	})
	return n.downErr
}

// remove takes down the network id, as far as it exists.
func remove(id, ip string) error {
	ctx, cancel := context.WithTimeout(context.Background(), removeLimit)
	defer cancel()
	var errs []error
	for _, p := range places {
		name := namespace(id, p)
		path := filepath.Join(netnsDir, name)
		handle, err := os.Stat(path)
		if err == nil {
			errs = append(errs, killAll(handle), runIP(ctx, ip, []string{"netns del " + name}))
		} else if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, os.RemoveAll(filepath.Join(etcDir, name)))
	}
	os.Remove(etcDir) // goes if it is empty
	return errors.Join(errs...)
}

// killAll kills every process in a namespace and waits until none is left:
// only programs started there by its owner, and their descendants, can be in
// it. A descendant that left its process group is found this way too.
func killAll(handle os.FileInfo) error {
	for range killRounds {
		pids := inside(handle)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(killPause)
	}
	return fmt.Errorf("processes %v of the lab do not die", inside(handle))
}

// inside lists the processes other than this one whose network namespace is
// handle's.
func inside(handle os.FileInfo) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process that has ended, reaped or not, has no namespace.
		ns, err := os.Stat(filepath.Join("/proc", e.Name(), "ns/net"))
		if err == nil && os.SameFile(ns, handle) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Sweep removes the networks whose owners are dead. Networks in use stay.
func Sweep() error {
	ip, err := ipCommand()
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(ownerPrefix + "*[0-9a-f]")
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		errs = append(errs, sweep(path, ip))
	}
	return errors.Join(errs...)
}

func sweep(path, ip string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner was faster
	}
	if err != nil {
		return err
	}
	held, err := lock(f)
	if held || err != nil {
		f.Close()
		return err
	}
	if err := remove(strings.TrimPrefix(path, ownerPrefix), ip); err != nil {
		f.Close()
		return err
	}
	return (&owner{f, path}).release()
}

// Leftovers lists what of the network still exists: namespaces, files,
// processes. After Down it is empty.
func (n *Net) Leftovers() []string {
	var left []string
	paths := []string{ownerPrefix + n.id}
	for _, p := range places {
		paths = append(paths, filepath.Join(netnsDir, n.Namespace(p)), filepath.Join(etcDir, n.Namespace(p)))
		if n.handle[p] == nil {
			continue
		}
		for _, pid := range inside(n.handle[p]) {
			left = append(left, fmt.Sprintf("process %d in %s", pid, p))
		}
	}
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, path)
		}
	}
	slices.Sort(left)
	return left
}
