package main

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// An execUser is whom the command runs as.
type execUser struct {
	credential *syscall.Credential // nil: as we do
	account    *user.User          // nil: unknown
	name       string
}

// callingUser is who has called sudo (sudo(8), "ENVIRONMENT"), and else who we are.
func callingUser() *execUser {
	uid, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32)
	gid, gerr := strconv.ParseUint(os.Getenv("SUDO_GID"), 10, 32)
	if err != nil || gerr != nil || uid == 0 {
		return new(execUser)
	}
	u := &execUser{
		credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{uint32(gid)}},
		name:       os.Getenv("SUDO_USER"),
	}
	// An account that is in no file of this machine has the group that sudo tells of.
	if u.account, err = user.LookupId(strconv.FormatUint(uid, 10)); err != nil {
		u.account = nil
		return u
	}
	u.name = u.account.Username
	ids, _ := u.account.GroupIds()
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil && !slices.Contains(u.credential.Groups, uint32(n)) {
			u.credential.Groups = append(u.credential.Groups, uint32(n))
		}
	}
	return u
}

// environment is env as the user has it, where sudo has put that of root.
func (u *execUser) environment(env []string) []string {
	if u.credential == nil {
		return env
	}
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"SUDO_COMMAND", "SUDO_USER", "SUDO_UID", "SUDO_GID"}, name)
	})
	if u.name != "" {
		env = append(env, "USER="+u.name, "LOGNAME="+u.name)
	}
	home := os.Getenv("SUDO_HOME")
	if u.account != nil {
		home = u.account.HomeDir
	}
	if home != "" {
		env = append(env, "HOME="+home)
	}
	return env
}
