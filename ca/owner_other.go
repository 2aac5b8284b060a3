//go:build !unix

package ca

import "io/fs"

// fileOwner: there are no user ids.
func fileOwner(fs.FileInfo) uint32 { return 0 }
