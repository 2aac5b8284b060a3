//go:build !linux

package lab

import (
	"errors"
	"os"
	"os/exec"
)

// Network namespaces are Linux's.

func inNamespace(string, func() error) error { return errors.ErrUnsupported }
func ownGroup(*exec.Cmd)                     {}
func killGroup(int) error                    { return errors.ErrUnsupported }
func lock(*os.File) (bool, error)            { return false, errors.ErrUnsupported }
