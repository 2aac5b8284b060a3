package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// A signalRelay takes the signals that are for the command.
type signalRelay struct{ taken chan os.Signal }

// forwardedSignals begins to take them. SIGHUP stays ignored where it is, which
// is what nohup is for.
func forwardedSignals() signalRelay {
	list := []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	r := signalRelay{make(chan os.Signal, 16)}
	signal.Notify(r.taken, list...)
	return r
}

func (r signalRelay) stop() { signal.Stop(r.taken) }

// early returns what a signal makes of us that came before there was a command.
func (r signalRelay) early() error {
	select {
	case sig := <-r.taken:
		return commandStatus(128 + int(sig.(syscall.Signal)))
	default:
		return nil
	}
}

// forward hands a signal on, unless the command has it already: what is typed at
// a terminal goes to all of the process group in its foreground, of which the
// command is one.
func forward(sig os.Signal, command *exec.Cmd) {
	typed := sig == syscall.SIGINT || sig == syscall.SIGQUIT
	if !typed || !inForeground() {
		command.Process.Signal(sig)
	}
}

// cutAfter is how long the connections may take to end once the command has.
const cutAfter = 3 * time.Second

// accompany serves the command until it ends, and then ends what it has left
// behind and the gateway. It returns the exit code as a shell would tell it.
func (x *execution) accompany(gw *gateway, ns *execNamespace, command *exec.Cmd, signals signalRelay) (status int, err error) {
	stop := make(chan os.Signal, 2)
	served := make(chan error, 1)
	go func() { served <- gw.run(stop, nil, nil) }()
	exited := make(chan error, 1)
	go func() { exited <- ns.wait(command) }()

	for running := true; running; {
		select {
		case sig := <-signals.taken:
			forward(sig, command)
		case err = <-exited:
			running = false
		case err := <-served:
			ns.killAll()
			<-exited
			return 0, errors.Join(errors.New("the gateway has ended before the command"), err)
		}
	}
	if left := ns.killAll(); left > 0 && !x.quiet {
		say(x.stderr, "ended %s that the command had left behind", counted(left, "process"))
	}
	stop <- syscall.SIGTERM
	late := time.AfterFunc(cutAfter, func() { stop <- syscall.SIGTERM })
	defer late.Stop()
	if err := errors.Join(exitStatusOnly(err), <-served); err != nil {
		return 0, err
	}
	ws, _ := command.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return command.ProcessState.ExitCode(), nil
}

// exitStatusOnly forgets an error that says no more than how the command ended.
func exitStatusOnly(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}
