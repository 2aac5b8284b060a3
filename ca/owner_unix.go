//go:build unix

package ca

import (
	"io/fs"
	"syscall"
)

// fileOwner returns the user id that owns the file.
func fileOwner(info fs.FileInfo) uint32 {
	return info.Sys().(*syscall.Stat_t).Uid
}
