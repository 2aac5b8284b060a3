package ca

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"
)

// Error is a fault of the authority's files: where, what, and the command that mends it. It
// prints as one line.
type Error struct {
	Path    string
	Problem string
	Hint    string
	Err     error // may be nil
}

func (e *Error) Error() string {
	return fmt.Sprintf("ca: %s: %s; hint: %s", shellWord(e.Path), e.Problem, e.Hint)
}

func (e *Error) Unwrap() error { return e.Err }

func noAuthority(dir string) *Error {
	return &Error{Path: dir, Problem: ErrNoAuthority.Error(), Hint: "framegate ca init --dir " + shellWord(dir), Err: ErrNoAuthority}
}

func existsError(dir, name string) *Error {
	return &Error{Path: dir, Problem: ErrExists.Error() + " (" + name + ")", Hint: "framegate ca show --dir " + shellWord(dir), Err: ErrExists}
}

// accessError says what the operating system refused.
func accessError(path string, err error) *Error {
	e := &Error{Path: path, Problem: "cannot be used", Hint: "ls -ld " + shellWord(path), Err: err}
	// The rest of err is an operation and the path again.
	var errno syscall.Errno
	if errors.As(err, &errno) {
		e.Problem += ": " + errno.Error()
	}
	if errors.Is(err, fs.ErrPermission) {
		e.Hint = fmt.Sprintf("chown -R %d %s", os.Geteuid(), shellWord(path))
	}
	return e
}

// oneLine is the message of an error that may have come with what others wrote.
func oneLine(err error) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, err.Error())
}

// checkDir returns the owner of a directory that nobody else can look into.
func checkDir(dir string) (owner uint32, err error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, noAuthority(dir)
	case err != nil:
		return 0, accessError(dir, err)
	case !info.IsDir():
		return 0, &Error{Path: dir, Problem: "not a directory", Hint: "give --dir a directory"}
	case info.Mode().Perm()&0o077 != 0:
		return 0, &Error{
			Path:    dir,
			Problem: fmt.Sprintf("mode %04o, must be 0700 or stricter", info.Mode().Perm()),
			Hint:    "chmod 700 " + shellWord(dir),
		}
	}
	owner, self := fileOwner(info), uint32(os.Geteuid())
	// The superuser may look at the authority of a service user: it chose the directory.
	if self != 0 && owner != self && owner != 0 {
		return 0, ownerError(dir, owner)
	}
	return owner, nil
}

// readFile reads a file of the authority; a secret one must be private. The check is made on
// the open file, so it is of the file that is read.
func readFile(path string, secret bool, dirOwner uint32) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // or a pipe would be waited for
	if err != nil {
		return nil, accessError(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, accessError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{Path: path, Problem: "not a regular file", Hint: "ls -l " + shellWord(path)}
	}
	if secret {
		if perm := info.Mode().Perm(); perm&^0o600 != 0 {
			return nil, &Error{
				Path:    path,
				Problem: fmt.Sprintf("mode %04o, must be 0600 or stricter", perm),
				Hint:    "chmod 600 " + shellWord(path),
			}
		}
		// Who owns the file can change its mode and content at any time.
		if owner := fileOwner(info); owner != uint32(os.Geteuid()) && owner != 0 && owner != dirOwner {
			return nil, ownerError(path, owner)
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, accessError(path, err)
	}
	return data, nil
}

func ownerError(path string, owner uint32) *Error {
	return &Error{
		Path:    path,
		Problem: fmt.Sprintf("belongs to user %d, must belong to user %d or to root", owner, os.Geteuid()),
		Hint:    fmt.Sprintf("chown %d %s", os.Geteuid(), shellWord(path)),
	}
}

// shellWord returns s as one word for a shell, and as text safe for a terminal.
func shellWord(s string) string {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@,", r))
	}
	unprintable := func(r rune) bool { return !strconv.IsPrint(r) }
	switch {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable):
		return strconv.Quote(s)
	case s == "" || strings.ContainsFunc(s, odd):
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
