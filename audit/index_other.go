//go:build !linux

package audit

import "io/fs"

// sameAuthority: the owner of a file is not looked at on this system.
func sameAuthority(index, segment fs.FileInfo) bool { return true }
