package audit

import (
	"io/fs"
	"os"
	"syscall"
)

// sameAuthority says whether an index is from somebody who can write to the
// segment too, or reads it: root, the segment's owner, this user.
func sameAuthority(index, segment fs.FileInfo) bool {
	i, ok := index.Sys().(*syscall.Stat_t)
	s, segmentOK := segment.Sys().(*syscall.Stat_t)
	return ok && segmentOK && (i.Uid == 0 || i.Uid == s.Uid || int(i.Uid) == os.Geteuid())
}
