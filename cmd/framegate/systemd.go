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

// The names of inherited sockets (FileDescriptorName= in a socket unit) that
// are not for redirected connections; those with any other name are.
const (
	explicitSocket = "explicit"
	adminSocket    = "admin"
)

// sockets are the listeners that systemd has bound for us (sd_listen_fds(3)):
// they outlive the process, so that a restart refuses nobody.
type sockets struct {
	redirected      []net.Listener
	explicit, admin net.Listener // nil: none
}

// inheritSockets takes what there is, once: the environment that tells of it is
// emptied.
func inheritSockets() (s sockets, err error) {
	defer func() {
		if err != nil {
			for _, ln := range append(s.redirected, s.explicit, s.admin) {
				if ln != nil {
					ln.Close()
				}
			}
		}
	}()
	for _, f := range activation.Files(true) {
		name := f.Name()
		ln, err := net.FileListener(f) // a copy
		f.Close()
		if err != nil {
			return s, fmt.Errorf("socket %q of systemd: expected one that listens (ListenStream=)", name)
		}
		if name != adminSocket {
			if ln, err = intercept.Inherit(ln); err != nil {
				return s, fmt.Errorf("socket %q of systemd: %w", name, err)
			}
		}
		switch {
		case name == adminSocket && s.admin == nil:
			s.admin = ln
		case name == explicitSocket && s.explicit == nil:
			s.explicit = ln
		case name == adminSocket || name == explicitSocket:
			ln.Close()
			return s, fmt.Errorf("two sockets of systemd are named %q: expected one", name)
		default:
			s.redirected = append(s.redirected, ln)
		}
	}
	return s, nil
}

// listen takes the sockets that systemd has bound, and binds those that it has
// not: systemd's stand for intercept.listen, intercept.explicit and
// admin.listen.
func (gw *gateway) listen(ctx context.Context) error {
	s, err := inheritSockets()
	if err != nil {
		return err
	}
	gw.listeners, gw.explicit, gw.admin = s.redirected, s.explicit, gw.newAdmin(s.admin)
	c := gw.config
	if len(gw.listeners) == 0 {
		for _, addr := range c.Intercept.Listen {
			ln, err := intercept.Listen(ctx, addr)
			if err != nil {
				return err
			}
			gw.listeners = append(gw.listeners, ln)
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
		if gw.explicit, err = intercept.Listen(ctx, addr); err != nil {
			return err
		}
	}
	if addr := c.Admin.Listen; addr != "" && gw.admin == nil {
		ln, err := listenAdmin(ctx, addr)
		if err != nil {
			return fmt.Errorf("admin.listen: %w", err)
		}
		gw.admin = gw.newAdmin(ln)
	}
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
