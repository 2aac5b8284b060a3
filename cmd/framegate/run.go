package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"framegate/audit"
	"framegate/audit/capture"
	"framegate/audit/ship"
	"framegate/ca"
	"framegate/intercept"
	"framegate/internal/onboarding"
	"framegate/mitm"
	"framegate/mitm/chain"
	"framegate/policy"
)

func newRunCommand(g *globals) *cobra.Command {
	var files, shadow []string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: "Run the gateway in the foreground.\n" +
			"SIGHUP loads policy, roots, revocation lists and authority anew; SIGTERM and SIGINT\n" +
			"drain: no new connections, then limits.drain_timeout for the live ones to end, then\n" +
			"Close 1001 to both sides.",
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
			if err := harden(); err != nil {
				gw.close()
				return err
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
	trust     atomic.Pointer[chain.Trust]
	authority loadedAuthority

	trustFiles *chain.Trust // trust, without the authority

	log       *audit.Log
	packets   *capture.Ring // nil: none
	shipper   *ship.Shipper // nil: nothing leaves
	proxy     *mitm.Proxy
	gate      *gate
	listeners []net.Listener
	explicit  net.Listener // nil: none
	admin     *admin       // nil: none
	page      *onboarding.Page
	counts    counts
}

// newGateway checks every precondition, and only then changes anything: it
// takes the ports, makes an authority if there is none, and opens the log.
func newGateway(ctx context.Context, c *config, stderr io.Writer) (_ *gateway, err error) {
	gw := &gateway{config: c, console: slog.New(slog.NewTextHandler(stderr, nil))}
	slog.SetDefault(gw.console)
	log.SetOutput(io.Discard) // where net/http's transport prints what a server sends unasked, payload and all
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
	gw.counts.policyLoaded.Store(time.Now().UnixNano())
	trust, err := c.loadTrust()
	if err != nil {
		return nil, err
	}
	if err := intercept.CheckMark(c.Intercept.Mark); err != nil {
		return nil, err
	}
	gw.page = gw.newPage()
	if err := gw.listen(ctx); err != nil {
		return nil, err
	}
	level, err := audit.ParseLevel(c.Audit.Level)
	if err != nil {
		return nil, usage(err)
	}
	payload, recipients, err := c.payloads()
	if err != nil {
		return nil, err
	}
	certs, err := gw.openStores(level, recipients)
	if err != nil {
		return nil, err
	}
	gw.authority.Store(certs)
	gw.setTrust(trust, certs)
	gw.gate = newGate(c.Limits.MaxConnections, c.Limits.Memory)
	gw.proxy = &mitm.Proxy{
		Certs:                 &gw.authority,
		Policy:                gw.policy.Load,
		Rates:                 policy.NewRates(),
		Audit:                 gw.log,
		Level:                 level,
		Payload:               payload,
		Keys:                  gw.log,
		Dialer:                intercept.Dialer(c.Intercept.Mark),
		Trust:                 gw.trust.Load,
		BlockClientCert:       c.TLS.ClientCert == "block",
		BypassPinned:          c.TLS.Pinned == "bypass",
		PassUnknownExtensions: c.Limits.UnknownExtension == "opaque",
		HandshakeTimeout:      c.Limits.HandshakeTimeout,
		MaxHalfOpen:           gw.gate.halfOpen(),
		IdleTimeout:           c.Limits.IdleTimeout,
		Hold:                  c.Limits.Hold,
		Stream:                c.Limits.Oversize == "stream",
		MaxMessage:            c.Limits.MaxMessage,
		MaxRatio:              int64(c.Limits.MaxRatio),
		Local:                 gw.local(),
		Stats:                 mitm.NewStats(),
		Log:                   gw.console,
	}
	if gw.packets, err = gw.openPackets(); err != nil {
		return nil, err
	}
	if gw.packets != nil {
		gw.proxy.Tap = packetTap{gw.packets}
	}
	return gw, nil
}

// openStores opens the authority and the log. At the very first start it makes
// them, both or neither.
func (gw *gateway) openStores(level audit.Level, recipients *audit.Recipients) (*ca.Authority, error) {
	c := gw.config
	o := gw.caOptions()
	certs, err := ca.Load(c.CA.Dir, o)
	first := errors.Is(err, ca.ErrNoAuthority)
	if err != nil && !first {
		return nil, err
	}
	_, err = os.Lstat(c.Audit.Dir)
	newLog := errors.Is(err, os.ErrNotExist)
	shipper, err := gw.newShipper()
	if err != nil {
		return nil, err
	}
	gw.log, err = audit.Open(audit.Options{Dir: c.Audit.Dir, Level: level, OnFailure: c.Audit.OnFailure,
		Keep: c.Audit.Keep, MaxSize: c.Audit.MaxSize, Recipients: recipients, Logger: gw.console, Follower: follower(shipper)})
	if err != nil {
		return nil, usage(fmt.Errorf("audit.dir: %w", err)).hint("name a directory that this user may write to, and no other gateway does")
	}
	if first {
		_, o.Encrypt = c.passphraseFile()
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
	gw.sayAuthority(certs)
	if gw.shipper = shipper; shipper != nil {
		shipper.Start(gw.log)
	}
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
	gw.closePackets()
	if gw.log != nil {
		gw.closeLog()
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
			dst, serve := gw.capture(ln)
			served <- intercept.Serve(accepting, ln, dst, gw.gate.guard(living, serve))
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
	tell(daemon.SdNotifyReady)

	var err error
	var drained <-chan time.Time
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	alive, stopWatchdog := watchdog()
	defer stopWatchdog()
	for waiting > 0 {
		select {
		case <-alive:
			tell(daemon.SdNotifyWatchdog)
		case <-daily.C:
			gw.sayAuthority(gw.authority.Load())
		case e := <-served:
			waiting--
			if e != nil && err == nil {
				err = e // a listener is broken: keep what lives, and end
				stopAccepting()
			}
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				tell(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
				gw.reload()
				tell(daemon.SdNotifyReady)
			case accepting.Err() == nil:
				gw.console.Info("draining: no new connections", "signal", s.String(), "live", gw.gate.live(), "timeout", gw.config.Limits.DrainTimeout)
				tell(daemon.SdNotifyStopping)
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
	gw.closePackets()
	e := audit.Event{Event: audit.GatewayStop, Policy: gw.policy.Load().Version()}
	if err != nil {
		e.Reason = err.Error()
	}
	err = errors.Join(err, gw.log.Record(e), gw.closeLog())
	gw.console.Info("stopped", "connections", gw.gate.total())
	return err
}

// capture says how the connections of ln tell where they were going, and what
// serves them.
func (gw *gateway) capture(ln net.Listener) (dst func(net.Conn) (netip.AddrPort, error), serve intercept.Handler) {
	if gw.config.Intercept.Mode == "tproxy" {
		return intercept.LocalDst(ln.Addr()), intercept.KeepSource(gw.proxy.ServeConn)
	}
	return intercept.OriginalDst, gw.proxy.ServeConn
}

// serveExplicit serves the explicit proxy port; what its clients CONNECT to
// goes the way of redirected connections.
func (gw *gateway) serveExplicit(accepting, living context.Context) error {
	e := intercept.NewExplicit(intercept.ExplicitConfig{
		Connect: func(ctx context.Context, c net.Conn, host string, dst []netip.AddrPort) {
			serve := gw.gate.guard(mitm.WithTarget(living, host), gw.proxy.ServeConn)
			serve(ctx, c, firstReachable(ctx, gw.proxy.Dialer, dst))
		},
		Plain:    gw.proxy.ServePlain,
		Ports:    gw.config.Intercept.Ports,
		Resolver: ownName(gw.config.Admin.Onboarding),
		Timeout:  gw.config.Limits.HandshakeTimeout,
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

// reload loads trust and policy anew. What has a mistake changes nothing.
func (gw *gateway) reload() {
	gw.reloadAuthority()
	gw.reloadTrust(gw.authority.Load())
	p, err := policy.LoadBeside(gw.config.Policy.Files, gw.config.Policy.Shadow)
	if err != nil {
		gw.console.Error("policy rejected, the one in force stays", "policy", gw.policy.Load().Version()[:12], "err", err)
		gw.log.Record(gw.policy.event(audit.PolicyReject, err.Error()))
		gw.counts.policy.rejected.Add(1)
		return
	}
	old := gw.policy.Load()
	gw.policy.Store(p)
	gw.counts.policy.loaded.Add(1)
	gw.counts.policyLoaded.Store(time.Now().UnixNano())
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
