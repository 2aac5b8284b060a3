package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"framegate/audit"
)

// checkAudit looks at who may read and write the log.
func (d *doctor) checkAudit(context.Context) []diagnosis {
	dir := d.config.Audit.Dir
	info, err := os.Stat(dir)
	word := shellWord(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if owner, uid := ownerOf(existing(dir)), d.serviceUser(); uid > 0 && owner != uid {
			return []diagnosis{fail(fmt.Sprintf("install -d -m 0700 -o %d %s", uid, word), "%s: none yet, and the gateway cannot make it", dir)}
		}
		return []diagnosis{pass("%s: none yet, the gateway makes it", dir)}
	case err != nil:
		return []diagnosis{warn(d.asRoot(), "not checked: %v", err)}
	case !info.IsDir():
		return []diagnosis{fail("mv "+word+" "+shellWord(dir+".old"), "%s is no directory", dir)}
	case info.Mode().Perm()&0o027 != 0: // a group of auditors may read
		return []diagnosis{fail("chmod go-w,o-rwx "+word, "%s: mode %04o, others may read or change it", dir, info.Mode().Perm())}
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if d.gateway != nil && d.gateway.uid >= 0 {
		owner = d.gateway.uid
	}
	for _, name := range []string{dir, filepath.Join(dir, "seg"), filepath.Join(dir, "key")} {
		if have := ownerOf(name); have >= 0 && have != owner {
			return []diagnosis{fail(fmt.Sprintf("chown -R %d %s", owner, word), "%s belongs to %s, expected %s", name, ownerName(have), ownerName(owner))}
		}
	}
	key := filepath.Join(dir, "key")
	if info, err := os.Lstat(key); err == nil && info.Mode().Perm()&0o077 != 0 {
		return []diagnosis{fail("chmod 600 "+shellWord(key), "%s: mode %04o: whoever else reads the key can forge the log", key, info.Mode().Perm())}
	}
	return []diagnosis{pass("%s, of %s", dir, ownerName(owner))}
}

// existing is the nearest directory above path that is there.
func existing(path string) string {
	path, err := filepath.Abs(path)
	for err == nil && path != "/" {
		if _, err := os.Stat(path); err == nil {
			break
		}
		path = filepath.Dir(path)
	}
	return path
}

// What a disk has to have left, so that the log of an hour or so fits.
const (
	leastDisk   = 256 << 20
	leastInodes = 1000
	lowDisk     = 1 << 30
)

// checkDisk compares what is free with what audit.max_size allows, or with what
// audit.keep will take if traffic stays as it was.
func (d *doctor) checkDisk(context.Context) []diagnosis {
	dir := existing(d.config.Audit.Dir)
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return []diagnosis{warn(d.asRoot(), "not checked: %s: %v", dir, err)}
	}
	fix := "df -h " + shellWord(dir) + "  # make room, or lower audit.keep or audit.max_size"
	free := st.Bavail * uint64(st.Bsize)
	const hint = `audit.on_failure = %q when it is full`
	switch {
	case free < leastDisk:
		return []diagnosis{fail(fix, "%s: %s free; "+hint, dir, binarySize(free), d.config.Audit.OnFailure)}
	case st.Files > 0 && st.Ffree < leastInodes: // some file systems make inodes as they need them
		return []diagnosis{fail("df -i "+shellWord(dir)+"  # remove files, or make the file system anew with more inodes", "%s: %d inodes free", dir, st.Ffree)}
	}
	want, why := d.logGrowth()
	switch {
	case want > free:
		return []diagnosis{warn(fix, "%s: %s free, and %s takes another %s", dir, binarySize(free), why, binarySize(want))}
	case free < lowDisk:
		return []diagnosis{warn(fix, "%s: %s free; "+hint, dir, binarySize(free), d.config.Audit.OnFailure)}
	}
	return []diagnosis{pass("%s: %s free", dir, binarySize(free))}
}

// logGrowth is by how much the log grows until its oldest segment goes, and why;
// 0 if nothing is known of it.
func (d *doctor) logGrowth() (more uint64, why string) {
	l, err := audit.ReadLatest(d.config.Audit.Dir)
	if err != nil {
		l.Size = 0
	}
	if limit := d.config.Audit.MaxSize; limit > 0 {
		return uint64(max(limit-l.Size, 0)), "audit.max_size"
	}
	if span := l.Written.Sub(l.Oldest); d.config.Audit.Keep > span && span > 24*time.Hour { // less says nothing of the days to come
		total := float64(l.Size) * float64(d.config.Audit.Keep) / float64(span)
		return uint64(total) - uint64(l.Size), "audit.keep, at the rate so far,"
	}
	return 0, ""
}

// checkCheckpoint looks at the signature of the newest checkpoint, and whether
// checkpoints follow what is written.
func (d *doctor) checkCheckpoint(context.Context) []diagnosis {
	dir := d.config.Audit.Dir
	verify := d.command("audit verify --dir %s", shellWord(dir))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return []diagnosis{pass("no log yet")}
	}
	l, err := audit.ReadLatest(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return []diagnosis{warn(d.asRoot(), "not checked: %v", err)}
	case errors.Is(err, fs.ErrNotExist) && l.Size == 0:
		return []diagnosis{pass("no log yet")}
	case err != nil:
		return []diagnosis{fail(verify+"  # says what is intact; then move "+shellWord(dir)+" away, a new log is made", "%v", err)}
	}
	// At most a second is not signed yet of a log that is written to.
	const tolerance = 15 * time.Second
	age := l.Written.Sub(l.Signed).Round(time.Second)
	said := fmt.Sprintf("%d blocks signed on %s", l.Checkpoint.Size, l.Signed.UTC().Format(time.RFC3339))
	switch {
	case d.gateway == nil && l.Unclosed:
		return []diagnosis{warn(verify, "%s; the log was not closed: the next start repairs its end, and records what was lost", said)}
	case age > tolerance:
		return []diagnosis{fail("journalctl -u framegate -n 50  # says why; then "+verify, "%s, and what was written in the %v after that is not", said, age)}
	}
	return []diagnosis{pass("%s", said)}
}
