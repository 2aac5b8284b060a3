package main

import (
	"bufio"
	"cmp"
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readHidden prints prompt and reads a line from a terminal without echo, until
// ctx or a signal ends it. The terminal gets its state back.
func readHidden(ctx context.Context, tty *os.File, prompt string) ([]byte, error) {
	// Not by Fd, which would take the deadline below from the file.
	conn, err := tty.SyscallConn()
	if err != nil {
		return nil, err
	}
	var before *unix.Termios
	if e := conn.Control(func(fd uintptr) { before, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) }); e != nil || err != nil {
		return nil, cmp.Or(e, err)
	}
	set := func(state unix.Termios) error {
		var err error
		e := conn.Control(func(fd uintptr) { err = unix.IoctlSetTermios(int(fd), unix.TCSETS, &state) })
		return cmp.Or(e, err)
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ECHONL | unix.ICANON | unix.ISIG

	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Unix(1, 0)) })()
	defer set(*before)
	if err := set(hidden); err != nil {
		return nil, err
	}
	if _, err := tty.WriteString(prompt); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(tty).ReadString('\n')
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil && line == "" {
		return nil, err
	}
	return []byte(strings.TrimRight(line, "\r\n")), nil
}
