package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"framegate/ca"
)

// checkAuthority reads the authority as the gateway does, keys included.
func (d *doctor) checkAuthority(context.Context) []diagnosis {
	dir := d.config.CA.Dir
	// The authority is for its owner and root: what others find wrong with it may be right,
	// and a fix would be made to measure for them.
	if owner, self := ownerOf(dir), os.Geteuid(); owner >= 0 && self != 0 && owner != self {
		return []diagnosis{warn(d.asRoot(), "not checked: %s belongs to %s", dir, ownerName(owner))}
	}
	a, err := ca.Load(dir, ca.Options{}) // encrypted keys stay closed
	var fault *ca.Error
	switch {
	case errors.Is(err, os.ErrPermission) && os.Geteuid() != 0:
		return []diagnosis{warn(d.asRoot(), "not checked: %v", err)}
	case errors.Is(err, ca.ErrNoAuthority):
		return []diagnosis{fail(d.as(dir, d.command("ca init --dir %s", shellWord(dir))), "%s: none yet, and devices have to trust its root", dir)}
	case errors.As(err, &fault):
		return []diagnosis{fail(pasteable(fault.Hint), "%s: %s", fault.Path, fault.Problem)}
	case err != nil:
		return []diagnosis{fail("ls -la "+shellWord(dir), "%v", err)}
	}
	d.authority = a
	if f, bad := d.foreignKey(dir); bad {
		return []diagnosis{f}
	}
	for _, c := range a.Describe() {
		if c.KeyState == "encrypted" && !strings.HasSuffix(c.Role, "root") {
			return []diagnosis{d.checkPassphrase(c.KeyPath)}
		}
	}
	return []diagnosis{pass("%s, root sha-256 %s", dir, a.Fingerprint())}
}

// checkPassphrase opens the keys, if what opens them can be had here.
func (d *doctor) checkPassphrase(key string) diagnosis {
	_, found := d.config.passphraseFile()
	if !found {
		if d.gateway != nil {
			return pass("the keys are encrypted, and the gateway that runs has opened them")
		}
		return warn("# set ca.passphrase_file, or LoadCredential="+credential+":FILE in the unit, which alone would see it",
			"%s is encrypted, and there is no passphrase here", key)
	}
	if _, err := ca.Load(d.config.CA.Dir, ca.Options{Passphrase: d.config.caPassphrase()}); err != nil {
		return d.mistake(err)
	}
	return pass("the keys are encrypted, and there is a passphrase that opens them")
}

// foreignKey finds a file of the authority that root may read, and the user of
// the gateway may not.
func (d *doctor) foreignKey(dir string) (diagnosis, bool) {
	uid := d.serviceUser()
	if uid <= 0 {
		return diagnosis{}, false
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range append([]string{dir}, names...) {
		if base := filepath.Base(name); base == "root.key" || base == "standby-root.key" {
			continue // the gateway has no use for them
		}
		if owner := ownerOf(name); owner >= 0 && owner != uid {
			return fail(fmt.Sprintf("chown -R %d %s", uid, shellWord(dir)),
				"%s belongs to %s, and the gateway runs as %s", name, ownerName(owner), ownerName(uid)), true
		}
	}
	return diagnosis{}, false
}

// serviceUser is the user that the gateway runs as: that of its process, else
// the one whom its log belongs to; -1 if neither is known.
func (d *doctor) serviceUser() int {
	if d.gateway != nil && d.gateway.uid >= 0 {
		return d.gateway.uid
	}
	return ownerOf(d.config.Audit.Dir)
}

// as makes a command of root run as the one in whose directory it makes files.
func (d *doctor) as(path, command string) string {
	uid := d.serviceUser()
	for uid < 0 && path != filepath.Dir(path) {
		uid = ownerOf(path)
		path = filepath.Dir(path)
	}
	if uid <= 0 || uid == os.Geteuid() {
		return command
	}
	return "setpriv --reuid " + strconv.Itoa(uid) + " --clear-groups " + command
}

// ownerOf is the user that a file belongs to, -1 if that cannot be seen.
func ownerOf(name string) int {
	info, err := os.Stat(name)
	if err != nil {
		return -1
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

func ownerName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "user " + u.Username
	}
	return "user " + strconv.Itoa(uid)
}

// checkExpiry says what of the authority ends soon.
func (d *doctor) checkExpiry(context.Context) []diagnosis {
	if d.authority == nil {
		return []diagnosis{warn("", "not checked: there is no authority to look at")}
	}
	var list []diagnosis
	dir := " --dir " + shellWord(d.config.CA.Dir)
	renew := "csr" + dir + " >requests.pem  # for the authority above it"
	for _, c := range d.authority.Describe() {
		if c.Role == "root" && c.KeyState != "" {
			renew = "rotate" + dir
		}
	}
	for _, w := range d.authority.Warnings() {
		fix := d.command("ca show%s", dir)
		switch {
		case strings.HasPrefix(w, "root "):
			fix = d.command("ca rotate --root%s", dir) + "  # then install it on the devices, and --activate"
		case strings.HasPrefix(w, "issuing-"):
			fix = d.command("ca %s", renew)
		}
		list = append(list, warn(fix, "%s", w))
	}
	if list == nil {
		return []diagnosis{pass("nothing ends soon")}
	}
	return list
}
