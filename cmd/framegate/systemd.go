package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"framegate/intercept"
)

// The names of sockets (FileDescriptorName= in a socket unit). One with any
// other name is for redirected connections.
const (
	redirectedSocket = "redirected"
	explicitSocket   = "explicit"
	adminSocket      = "admin"
)

// inheritSockets takes the listeners that systemd has bound for us
// (sd_listen_fds(3)), once: the environment that tells of them is emptied. They
// outlive the process, so that a restart refuses nobody.
func inheritSockets() (list []inherited, err error) {
	defer func() {
		if err != nil {
			for _, s := range list {
				s.ln.Close()
			}
		}
	}()
	for _, f := range activation.Files(true) {
		name := f.Name()
		ln, err := net.FileListener(f) // a copy
		f.Close()
		if err != nil {
			return list, fmt.Errorf("socket %q of systemd: expected one that listens (ListenStream=)", name)
		}
		if name != adminSocket {
			if ln, err = intercept.Inherit(ln); err != nil {
				return list, fmt.Errorf("socket %q of systemd: %w", name, err)
			}
		}
		list = append(list, inherited{Name: name, ln: ln})
	}
	return list, nil
}

// listen takes the sockets that systemd has bound, and binds those that it has
// not: systemd's stand for intercept.listen, intercept.explicit and
// admin.listen. What the gateway before us listens on is not bound again.
func (gw *gateway) listen(ctx context.Context) error {
	given, err := inheritSockets()
	if err != nil {
		return err
	}
	given = append(given, gw.before.fromSystemd()...)
	for i, s := range given {
		if err := gw.use(s); err != nil {
			for _, s := range given[i:] {
				s.ln.Close()
			}
			return err
		}
	}
	c := gw.config
	if len(gw.listeners) == 0 {
		for _, addr := range c.Intercept.Listen {
			if err := gw.bind(ctx, redirectedSocket, addr, intercept.Listen); err != nil {
				return err
			}
		}
	}
	if c.Intercept.Mode == "tproxy" {
		for _, ln := range gw.listeners {
			if err := intercept.Transparent(ln); err != nil {
				return err
			}
		}
	}
	if addr := c.Intercept.Explicit; addr != "" && gw.explicit == nil {
		if err := gw.bind(ctx, explicitSocket, addr, intercept.Listen); err != nil {
			return err
		}
	}
	if addr := c.Admin.Listen; addr != "" && gw.admin == nil {
		if err := gw.bind(ctx, adminSocket, addr, listenAdmin); err != nil {
			return fmt.Errorf("admin.listen: %w", err)
		}
	}
	gw.before.leave()
	return nil
}

// bind listens on addr, unless the gateway before us does.
func (gw *gateway) bind(ctx context.Context, name, addr string, listen func(context.Context, string) (net.Listener, error)) error {
	ln := gw.before.take(addr)
	if ln == nil {
		var err error
		if ln, err = listen(ctx, addr); err != nil {
			return err
		}
	}
	return gw.use(inherited{name, addr, ln})
}

// use puts a listener to its use.
func (gw *gateway) use(s inherited) error {
	switch {
	case s.Name == adminSocket && gw.admin == nil:
		gw.admin = gw.newAdmin(s.ln)
	case s.Name == explicitSocket && gw.explicit == nil:
		gw.explicit = s.ln
	case s.Name == adminSocket || s.Name == explicitSocket:
		return fmt.Errorf("two sockets of systemd are named %q: expected one", s.Name)
	default:
		gw.listeners = append(gw.listeners, s.ln)
	}
	gw.sockets = append(gw.sockets, s)
	return nil
}

// tell tells systemd of a change of state (sd_notify(3)). Without systemd it
// does nothing.
func tell(state ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		slog.Warn("systemd cannot be told", "state", state[0], "err", err)
	}
}

// watchdog says when to tell systemd that the process lives: twice in the time
// that WatchdogSec= gives. A nil channel: systemd does not want to know.
//
// It is told by the loop that takes signals, and so proves that the gateway can
// still be stopped and reloaded. It says nothing of the disk or of the network:
// those a restart does not mend, and it would end every connection.
func watchdog() (ticks <-chan time.Time, stop func()) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		slog.Warn("the watchdog of systemd", "err", err)
	}
	if every == 0 {
		return nil, func() {}
	}
	t := time.NewTicker(every / 2)
	return t.C, t.Stop
}
