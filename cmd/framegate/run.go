package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"framegate/audit"
	"framegate/ca"
	"framegate/intercept"
	"framegate/mitm"
	"framegate/policy"
)

func newRunCommand(g *globals) *cobra.Command {
	var files, shadow []string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: "Run the gateway in the foreground.\n" +
			"SIGHUP loads the policy anew, SIGTERM and SIGINT drain: no new connections, then\n" +
			"limits.drain_timeout for the live ones to end, then Close 1001 to both sides.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load(cmd)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("policy") {
				c.Policy.Files = files
			}
			c.Policy.Shadow = shadow
			// From the first moment, so that no signal kills us half started.
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
			defer signal.Stop(signals)

			gw, err := newGateway(cmd.Context(), c, cmd.ErrOrStderr())
			if err != nil {
				return mendable(err)
			}
			return gw.run(signals)
		},
	}
	cmd.Flags().StringArrayVar(&files, "policy", nil, "policy `file` or glob instead of policy.files; may be repeated")
	cmd.Flags().StringArrayVar(&shadow, "shadow", nil, "policy `file` or glob to try beside the policy: its rules are recorded, never enforced; may be repeated")
	return cmd
}

// A gateway is everything that `framegate run` puts together.
type gateway struct {
	config    *config
	console   *slog.Logger
	policy    loadedPolicy
	log       *audit.Log
	proxy     *mitm.Proxy
	gate      *gate
	listeners []net.Listener
	explicit  net.Listener // nil: none
	admin     *admin       // nil: none
}

// newGateway checks every precondition, and only then changes anything: it
// takes the ports, makes an authority if there is none, and opens the log.
func newGateway(ctx context.Context, c *config, stderr io.Writer) (_ *gateway, err error) {
	gw := &gateway{config: c, console: slog.New(slog.NewTextHandler(stderr, nil))}
	slog.SetDefault(gw.console)
	defer func() {
		if err != nil {
			gw.close()
		}
	}()

	p, err := policy.LoadBeside(c.Policy.Files, c.Policy.Shadow)
	if err != nil {
		return nil, usage(err)
	}
	gw.policy.Store(p)
	roots, err := c.upstreamRoots()
	if err != nil {
		return nil, err
	}
	if err := intercept.CheckMark(c.Intercept.Mark); err != nil {
		return nil, err
	}
	for _, addr := range c.Intercept.Listen {
		ln, err := intercept.Listen(ctx, addr)
		if err != nil {
			return nil, err
		}
		gw.listeners = append(gw.listeners, ln)
	}
	if addr := c.Intercept.Explicit; addr != "" {
		if gw.explicit, err = intercept.Listen(ctx, addr); err != nil {
			return nil, err
		}
	}
	if gw.admin, err = newAdmin(ctx, c.Admin.Listen, gw.ready); err != nil {
		return nil, err
	}
	level, err := audit.ParseLevel(c.Audit.Level)
	if err != nil {
		return nil, usage(err)
	}
	certs, err := gw.openStores(level)
	if err != nil {
		return nil, err
	}
	gw.gate = newGate(c.Limits.MaxConnections, c.Limits.Memory)
	gw.proxy = &mitm.Proxy{
		Certs:                 certs,
		Policy:                gw.policy.Load,
		Rates:                 policy.NewRates(),
		Audit:                 gw.log,
		Level:                 level,
		Dialer:                intercept.Dialer(c.Intercept.Mark),
		Roots:                 roots,
		BlockClientCert:       c.TLS.ClientCert == "block",
		PassUnknownExtensions: c.Limits.UnknownExtension == "opaque",
		HandshakeTimeout:      c.Limits.HandshakeTimeout,
		IdleTimeout:           c.Limits.IdleTimeout,
		Hold:                  c.Limits.Hold,
		Stream:                c.Limits.Oversize == "stream",
		MaxMessage:            c.Limits.MaxMessage,
		MaxRatio:              int64(c.Limits.MaxRatio),
		Log:                   gw.console,
	}
	return gw, nil
}

// openStores opens the authority and the log. At the very first start it makes
// them, both or neither.
func (gw *gateway) openStores(level audit.Level) (*ca.Authority, error) {
	c := gw.config
	o := ca.Options{LeafValidity: c.CA.LeafValidity}
	certs, err := ca.Load(c.CA.Dir, o)
	first := errors.Is(err, ca.ErrNoAuthority)
	if err != nil && !first {
		return nil, err
	}
	_, err = os.Lstat(c.Audit.Dir)
	newLog := errors.Is(err, os.ErrNotExist)
	gw.log, err = audit.Open(audit.Options{Dir: c.Audit.Dir, Level: level, OnFailure: c.Audit.OnFailure, Logger: gw.console})
	if err != nil {
		return nil, usage(fmt.Errorf("audit.dir: %w", err)).hint("name a directory that this user may write to, and no other gateway does")
	}
	if first {
		if certs, err = ca.Create(c.CA.Dir, o); err != nil {
			gw.log.Close()
			gw.log = nil
			if newLog {
				os.RemoveAll(c.Audit.Dir)
			}
			return nil, err
		}
		gw.console.Warn("no authority was there, so one was made; devices have to trust its root: framegate ca export", "dir", c.CA.Dir)
	}
	gw.console.Info("authority", "dir", c.CA.Dir, "root", certs.Fingerprint())
	return certs, nil
}

// close gives back what a start that failed had taken.
func (gw *gateway) close() {
	for _, ln := range gw.listeners {
		ln.Close()
	}
	if gw.explicit != nil {
		gw.explicit.Close()
	}
	gw.admin.close()
	if gw.log != nil {
		gw.log.Close()
	}
}

// run serves until SIGTERM or SIGINT and returns once every connection has
// ended and is recorded.
func (gw *gateway) run(signals <-chan os.Signal) error {
	if err := gw.log.Record(audit.Event{Event: audit.GatewayStart, Policy: gw.policy.Load().Version(), Reason: versionLine()},
		gw.policy.event(audit.PolicyLoad, "")); err != nil {
		gw.close()
		return usage(err)
	}
	accepting, stopAccepting := context.WithCancel(context.Background())
	living, cut := context.WithCancel(context.Background())
	defer stopAccepting()
	defer cut()
	gw.gate.start(accepting)

	served := make(chan error, len(gw.listeners)+1)
	waiting := 0
	for _, ln := range gw.listeners {
		waiting++
		go func() {
			served <- intercept.Serve(accepting, ln, intercept.OriginalDst, gw.gate.guard(living, gw.proxy.ServeConn))
		}()
		gw.console.Info("listening", "addr", ln.Addr().String(), "mode", gw.config.Intercept.Mode)
	}
	if gw.explicit != nil {
		waiting++
		go func() { served <- gw.serveExplicit(accepting, living) }()
		gw.console.Info("listening", "addr", gw.explicit.Addr().String(), "mode", "explicit proxy")
	}
	gw.admin.serve()
	p := gw.policy.Load()
	gw.console.Info("ready", "policy", p.Version()[:12], "rules", len(p.Rules()), "audit", gw.config.Audit.Dir,
		"level", gw.config.Audit.Level, "max_connections", gw.gate.max)
	if notify("READY=1") != nil {
		gw.console.Warn("systemd cannot be told that we are ready")
	}

	var err error
	var drained <-chan time.Time
	for waiting > 0 {
		select {
		case e := <-served:
			waiting--
			if e != nil && err == nil {
				err = e // a listener is broken: keep what lives, and end
				stopAccepting()
			}
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				gw.reload()
			case accepting.Err() == nil:
				gw.console.Info("draining: no new connections", "signal", s.String(), "live", gw.gate.live(), "timeout", gw.config.Limits.DrainTimeout)
				notify("STOPPING=1")
				stopAccepting()
				drained = time.After(gw.config.Limits.DrainTimeout)
			default:
				gw.console.Info("draining: closing at once", "signal", s.String(), "live", gw.gate.live())
				cut()
			}
		case <-drained:
			gw.console.Info("draining: closing what is left", "live", gw.gate.live())
			cut()
		}
	}
	gw.admin.close()
	e := audit.Event{Event: audit.GatewayStop, Policy: gw.policy.Load().Version()}
	if err != nil {
		e.Reason = err.Error()
	}
	err = errors.Join(err, gw.log.Record(e), gw.log.Close())
	gw.console.Info("stopped", "connections", gw.gate.total())
	return err
}

// serveExplicit serves the explicit proxy port; what its clients CONNECT to
// goes the way of redirected connections.
func (gw *gateway) serveExplicit(accepting, living context.Context) error {
	serve := gw.gate.guard(living, gw.proxy.ServeConn)
	e := intercept.NewExplicit(intercept.ExplicitConfig{
		Connect: func(ctx context.Context, c net.Conn, host string, dst []netip.AddrPort) {
			serve(ctx, c, firstReachable(ctx, gw.proxy.Dialer, dst))
		},
		Plain:   gw.proxy.ServePlain,
		Ports:   gw.config.Intercept.Ports,
		Timeout: gw.config.Limits.HandshakeTimeout,
	})
	return e.Serve(accepting, gw.explicit)
}

// firstReachable picks the address that a client would have ended up with:
// the first that accepts a connection, or the first of all.
func firstReachable(ctx context.Context, d *net.Dialer, dst []netip.AddrPort) netip.AddrPort {
	for _, a := range dst[:len(dst)-1] {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		c, err := d.DialContext(ctx, "tcp", a.String())
		cancel()
		if err == nil {
			c.Close()
			return a
		}
	}
	return dst[len(dst)-1]
}

// reload loads the policy anew. A policy with a mistake changes nothing.
func (gw *gateway) reload() {
	p, err := policy.LoadBeside(gw.config.Policy.Files, gw.config.Policy.Shadow)
	if err != nil {
		gw.console.Error("policy rejected, the one in force stays", "policy", gw.policy.Load().Version()[:12], "err", err)
		gw.log.Record(gw.policy.event(audit.PolicyReject, err.Error()))
		return
	}
	old := gw.policy.Load()
	gw.policy.Store(p)
	gw.console.Info("policy loaded", "policy", p.Version()[:12], "before", old.Version()[:12], "rules", len(p.Rules()))
	gw.log.Record(gw.policy.event(audit.PolicyLoad, fmt.Sprintf("%d rules, before %s", len(p.Rules()), old.Version())))
}

// ready says why the gateway would not serve a new connection, nil if it would.
func (gw *gateway) ready() error {
	if err := gw.log.Failed(); err != nil && gw.config.Audit.OnFailure == "block" {
		return err
	}
	return gw.gate.full()
}
