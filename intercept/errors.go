package intercept

import "errors"

// ErrNotRedirected is the error of [OriginalDst] for a connection that no rule
// redirected: somebody dialled our port itself.
var ErrNotRedirected = errors.New("connection made straight to this port, not redirected to it")

// ErrOtherMode is the error of [LocalDst] for a connection that a REDIRECT rule
// brought to a listener that waits for those of TPROXY rules.
var ErrOtherMode = errors.New("connection redirected by rules of another mode; hint: framegate redirect up")

// ErrNoConntrack is the error of [OriginalDst] on a kernel without connection
// tracking, where nothing can have been redirected.
var ErrNoConntrack = errors.New("no connection tracking in this kernel, so no original destination; hint: modprobe nf_conntrack")

// A SetupError is a precondition that this machine does not meet and that its
// administrator can mend: a port in use, a missing tool, a missing privilege.
type SetupError struct {
	Err  error  // what is wrong
	Hint string // how to mend it, one line
}

func (e *SetupError) Error() string { return e.Err.Error() + "; hint: " + e.Hint }

func (e *SetupError) Unwrap() error { return e.Err }
