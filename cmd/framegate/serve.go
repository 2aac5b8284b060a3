package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"framegate/audit"
	"framegate/audit/ship"
	"framegate/intercept"
	"framegate/mitm"
)

// A service is a gateway that serves. Everything that changes its state comes
// through one loop.
type service struct {
	*gateway
	accepting     context.Context
	stopAccepting context.CancelFunc
	living        context.Context // of the connections
	end           context.CancelCauseFunc

	served  chan error // how each listener ended
	stops   map[net.Listener]context.CancelFunc
	waiting int   // listeners that have not
	err     error // of the first that failed

	signals  <-chan os.Signal // SIGTERM and SIGINT
	hangups  <-chan os.Signal // SIGHUP alone
	upgrades <-chan os.Signal // SIGUSR2 alone
	alive    <-chan time.Time // when the watchdog is to be told
	expired  <-chan time.Time // when what lives is to end; nil: that is not known
	drain    *mitm.Drain      // nil as long as nothing is being ended

	upgrade  *upgrade // under way; nil: none
	upgraded chan *upgrade
	next     *successor    // has taken over; nil: nobody has
	orders   chan string   // of next
	spare    *ship.Shipper // for when the log comes back from next
	orphaned bool          // next has ended before us
	stopping bool          // by a signal, or told by next
	closing  sync.WaitGroup
}

// An upgrade is one that is under way, and what became of it.
type upgrade struct {
	giveUp context.CancelFunc
	later  []os.Signal // that have to wait for it
	next   *successor
	err    error
}

// run serves until SIGTERM or SIGINT, or until another process has taken over,
// and returns once every connection has ended and is recorded.
func (gw *gateway) run(signals, hangups, upgrades <-chan os.Signal) error {
	if err := gw.log.Record(audit.Event{Event: audit.GatewayStart, Policy: gw.policy.Load().Version(), Reason: versionLine()},
		gw.policy.event(audit.PolicyLoad, "")); err != nil {
		gw.close()
		return usage(err)
	}
	s := &service{gateway: gw, signals: signals, hangups: hangups, upgrades: upgrades, upgraded: make(chan *upgrade, 1), orders: make(chan string)}
	s.accepting, s.stopAccepting = context.WithCancel(context.Background())
	s.living, s.end = context.WithCancelCause(context.Background())
	defer s.stopAccepting()
	defer s.end(nil)
	s.begin()
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	alive, stopWatchdog := watchdog()
	defer stopWatchdog()
	s.alive = alive

	left := gw.before.left()
	for s.waiting > 0 || left != nil {
		select {
		case <-s.alive:
			tell(daemon.SdNotifyWatchdog)
		case <-daily.C:
			gw.sayAuthority(gw.authority.Load())
		case err := <-s.served:
			s.waiting--
			if err != nil && s.err == nil {
				s.err = err // a listener is broken: keep what lives, and end
				s.stopAccepting()
			}
		case sig := <-s.signals:
			s.signal(sig)
		case sig := <-s.hangups:
			s.signal(sig)
		case sig := <-s.upgrades:
			s.signal(sig)
		case u := <-s.upgraded:
			s.handedOver(u)
		case word := <-s.orders:
			s.order(word)
		case <-left:
			left = nil
			gw.console.Info("the gateway before this one has ended")
		case <-s.expired:
			s.drainNow()
		}
	}
	return s.finish()
}

// begin accepts connections.
func (s *service) begin() {
	gw := s.gateway
	gw.watchRoom(s.accepting, s.living)
	s.served = make(chan error, len(gw.listeners)+1)
	s.stops = make(map[net.Listener]context.CancelFunc)
	for _, ln := range gw.listeners {
		s.serveRedirected(ln)
	}
	if gw.explicit != nil {
		s.serveExplicit(gw.explicit)
	}
	gw.admin.serve()
	gw.before.ready(gw.log)
	for _, socket := range gw.sockets {
		socket.ownPath(true)
	}
	p := gw.policy.Load()
	gw.warnOfPolicy(p)
	gw.console.Info("ready", "policy", p.Version()[:12], "rules", len(p.Rules()), "audit", gw.config.Audit.Dir,
		"level", gw.config.Audit.Level, "max_connections", gw.gate.max())
	tell(daemon.SdNotifyReady)
}

// serveRedirected serves what was redirected to ln.
func (s *service) serveRedirected(ln net.Listener) {
	dst, serve := s.capture(ln)
	s.serve(ln, s.config.Intercept.Mode, func(accepting context.Context) error {
		return intercept.Serve(accepting, s.gate.listener(ln), dst, s.gate.serve(s.living, serve))
	})
}

// serveExplicit serves the explicit proxy.
func (s *service) serveExplicit(ln net.Listener) {
	e := s.newExplicit(s.living)
	s.serve(ln, "explicit proxy", func(accepting context.Context) error {
		return e.Serve(accepting, s.gate.listener(ln))
	})
}

// serve accepts connections from ln until accepting is over or its stop is called.
func (s *service) serve(ln net.Listener, mode string, serve func(accepting context.Context) error) {
	accepting, stop := context.WithCancel(s.accepting)
	s.stops[ln] = stop
	s.waiting++
	go func() { s.served <- serve(accepting) }()
	s.console.Info("listening", "addr", ln.Addr().String(), "mode", mode)
}

// signal does what a signal asks for.
func (s *service) signal(sig os.Signal) {
	gw := s.gateway
	switch {
	case sig == syscall.SIGUSR2 && s.upgrade != nil:
		gw.console.Warn("upgrade refused: one is under way")
	case s.upgrade != nil:
		// Either process may be the one to do it.
		if sig != syscall.SIGHUP {
			s.upgrade.giveUp()
		}
		s.upgrade.later = append(s.upgrade.later, sig)
	case sig == syscall.SIGUSR2 && s.accepting.Err() != nil:
		gw.console.Warn("upgrade refused: draining, no new connections are accepted")
	case sig == syscall.SIGUSR2:
		s.beginUpgrade()
	case sig == syscall.SIGHUP && s.next != nil && !s.orphaned:
		s.next.process.Signal(sig) // which has us follow
	case sig == syscall.SIGHUP:
		s.reload()
	case !s.stopping && !s.orphaned:
		if s.next == nil {
			tell(daemon.SdNotifyStopping)
		}
		s.stop(sig.String())
	default:
		s.cut(sig.String())
	}
}

// stop accepts no more, and gives what lives the time of limits.drain_timeout.
func (s *service) stop(why string) {
	limit := s.config.Limits.DrainTimeout
	s.console.Info("draining: no new connections", "signal", why, "live", s.gate.live(), "timeout", limit)
	s.stopping = true
	s.stopAccepting()
	s.before.say(sayStop)
	s.expired = time.After(limit)
}

// drainNow ends what lives, each connection at a moment of its own.
func (s *service) drainNow() {
	if s.drain == nil {
		spread := s.config.Limits.DrainSpread
		s.console.Info("draining: closing what is left", "live", s.gate.live(), "spread", spread)
		s.drain = mitm.NewDrain(spread)
		s.end(s.drain)
	}
}

// cut ends what lives at once.
func (s *service) cut(why string) {
	s.console.Info("draining: closing at once", "signal", why, "live", s.gate.live())
	s.before.say(sayCut)
	if s.drain == nil {
		s.drain = mitm.NewDrain(0)
		s.end(s.drain)
	}
	s.drain.AtOnce()
}

// beginUpgrade starts another process to take over. It serves meanwhile, and
// hears of the outcome by upgraded.
func (s *service) beginUpgrade() {
	s.console.Info("upgrade: starting the program anew", "program", s.program, "live", s.gate.live())
	ctx, giveUp := context.WithCancel(context.Background())
	s.upgrade = &upgrade{giveUp: giveUp}
	u := s.upgrade
	go func() {
		u.next, u.err = s.handOver(ctx)
		s.upgraded <- u
	}()
}

// handedOver goes on after an upgrade: as before if it has failed, and else
// with what lives here alone.
func (s *service) handedOver(u *upgrade) {
	gw := s.gateway
	u.giveUp()
	s.upgrade = nil
	e := audit.Event{Event: audit.GatewayHandover, Policy: gw.policy.Load().Version()}
	if u.err != nil {
		gw.console.Error("upgrade failed, this process goes on", "err", u.err)
		e.Action = "failed"
		e.Reason, _, _ = strings.Cut(u.err.Error(), lastWordsAre)
		gw.log.Record(e)
		for _, sig := range u.later {
			s.signal(sig)
		}
		return
	}
	s.next = u.next
	live := gw.gate.live()
	e.Action, e.Reason = "done", fmt.Sprintf("from %s to %s, %d live connections", versionLine(), u.next.build, live)
	gw.log.Record(e)
	// The admin port's requests end by themselves; what waits to be shipped is. The
	// rest is for the other process to ship.
	for _, socket := range gw.sockets {
		socket.ownPath(false)
	}
	s.closing.Go(gw.admin.finish)
	s.spare = gw.restShipping()
	s.closing.Go(gw.closePackets)
	s.stopAccepting()
	// From here on systemd listens to the other process only.
	tell("MAINPID=" + strconv.Itoa(u.next.process.Pid))
	s.alive = nil
	u.next.words.say(sayMain)
	for _, sig := range u.later {
		u.next.process.Signal(sig)
	}
	limit := gw.config.handoverTimeout()
	gw.console.Info("upgrade: handed over, draining", "pid", u.next.process.Pid, "build", u.next.build, "live", live, "timeout", limit)
	s.expired = time.After(limit)
	go func() {
		u.next.words.listen(func(word string) { s.orders <- word })
		s.orders <- "" // it has ended
	}()
}

// order does what the process says that has taken over, or what is to be done
// when it has ended.
func (s *service) order(word string) {
	switch word {
	case sayReload:
		s.reload()
	case sayStop:
		if !s.stopping {
			s.stop("of the next gateway")
		}
	case saySoon:
		s.before.say(saySoon)
		s.drainNow()
	case sayCut:
		s.cut("of the next gateway")
	case "":
		// Who starts a gateway now wants the directory of the log.
		s.console.Error("the gateway that has taken over is gone: ending what lives here")
		s.orphaned = true
		s.exchangeShippers(s.spare)
		s.before.say(saySoon)
		s.drainNow()
	}
}

// finish ends the records and gives everything back.
func (s *service) finish() error {
	gw := s.gateway
	e := audit.Event{Event: audit.GatewayStop, Policy: gw.policy.Load().Version()}
	if s.err != nil {
		e.Reason = s.err.Error()
	}
	if s.next != nil && !s.orphaned {
		e.Event, e.Action = audit.GatewayHandover, "drained"
	} else {
		gw.admin.close()
		gw.closePackets()
	}
	s.closing.Wait()
	err := errors.Join(s.err, gw.log.Record(e), gw.closeLog())
	gw.console.Info("stopped", "connections", gw.gate.total())
	return err
}
