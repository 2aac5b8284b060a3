package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"

	"framegate/ca"
	"framegate/intercept"
)

// An exitError is an error that knows the exit code, and what may mend it.
type exitError struct {
	code  int
	err   error
	hints []string
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usage marks err as the fault of the command line, of the configuration or
// of a precondition: exit 2, and nothing was changed.
func usage(err error) *exitError { return &exitError{code: exitUsage, err: err} }

// failed marks err as a failure of the work itself: exit 1. Every unmarked
// error is one too; the mark is for adding a hint.
func failed(err error) *exitError { return &exitError{code: exitFailed, err: err} }

// hint adds one line of advice.
func (e *exitError) hint(format string, args ...any) *exitError {
	e.hints = append(e.hints, fmt.Sprintf(format, args...))
	return e
}

// mendable turns an error that says how to mend its cause into one that exits
// with 2 and has the advice on a line of its own. Others stay as they are.
func mendable(err error) error {
	var setup *intercept.SetupError
	var files *ca.Error
	var hint string
	switch {
	case errors.As(err, &setup):
		hint = setup.Hint
	case errors.As(err, &files):
		hint = files.Hint
	case errors.Is(err, fs.ErrPermission):
		return usage(err).hint("run as root, or as the user that the gateway runs as")
	default:
		return err
	}
	// Both print the advice at the end of their message.
	message := strings.Replace(err.Error(), "; hint: "+hint, "", 1)
	return usage(errors.New(message)).hint("%s", hint)
}

// printError prints err for a person: one line for each error that was
// joined into it, then the hints.
func printError(w io.Writer, err error) {
	var e *exitError
	if !errors.As(err, &e) {
		e = failed(err)
	}
	for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
		say(w, "%s", line)
	}
	for _, h := range e.hints {
		say(w, "hint: %s", h)
	}
}

// say prints one line for a person.
func say(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "framegate: %s\n", printable(fmt.Sprintf(format, args...)))
}

// counted is n with a noun, such as "1 gap", "2 gaps" and "2 processes".
func counted[N int | int64](n N, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printable returns s with everything escaped that could move the cursor,
// change the terminal's state or the apparent order of the text: control
// characters, bidirectional overrides, invalid UTF-8.
func printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsGraphic(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}
