package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"framegate/audit"
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
			"SIGHUP loads the configuration anew, with policy, roots, revocation lists and authority:\n" +
			"all of it or, if there is a mistake, nothing; no connection ends. The flags stand.\n" +
			"SIGTERM and SIGINT drain: no new connections, then limits.drain_timeout for the live\n" +
			"ones to end, then Close 1001 to both sides, spread over limits.drain_spread. SIGUSR2\n" +
			"upgrades: the program is started anew and takes over listeners and log, and the live\n" +
			"connections end here, within limits.handover_timeout.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			before, err := inheritGateway()
			if err != nil {
				return usage(err)
			}
			source := configSource{file: g.config, optional: !cmd.Flags().Changed("config"), read: before.hadConfig(), policies: files, shadow: shadow}
			c, err := source.load()
			if err != nil {
				return err
			}
			// From the first moment, so that no signal kills us half started.
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
			defer signal.Stop(signals)
			// However many SIGHUP come during a reload, one more reload is what they ask
			// for, and they take no place of the others. It is the same with SIGUSR2.
			hangups, upgrades := make(chan os.Signal, 1), make(chan os.Signal, 1)
			signal.Notify(hangups, syscall.SIGHUP)
			defer signal.Stop(hangups)
			signal.Notify(upgrades, syscall.SIGUSR2)
			defer signal.Stop(upgrades)

			gw, err := newGateway(cmd.Context(), c, before, cmd.ErrOrStderr())
			if err != nil {
				return mendable(err)
			}
			gw.source = source
			if err := harden(); err != nil {
				gw.close()
				return err
			}
			return gw.run(signals, hangups, upgrades)
		},
	}
	cmd.Flags().StringArrayVar(&files, "policy", nil, "policy `file` or glob instead of policy.files; may be repeated")
	cmd.Flags().StringArrayVar(&shadow, "shadow", nil, "policy `file` or glob to try beside the policy: its rules are recorded, never enforced; may be repeated")
	return cmd
}

// A gateway is everything that `framegate run` puts together.
type gateway struct {
	config    *config                // in force; of the goroutine of run
	inForce   atomic.Pointer[config] // the same, for all others
	source    configSource           // of the next
	plan      *plan                  // of config
	console   *slog.Logger
	policy    loadedPolicy
	trust     atomic.Pointer[chain.Trust]
	authority loadedAuthority

	trustFiles *chain.Trust // trust, without the authority

	log       *audit.Log
	packets   packetTap
	shipper   atomic.Pointer[ship.Shipper] // nil: nothing leaves
	settling  chan struct{}                // closed once shipper ships; nil: it does
	proxy     *mitm.Proxy
	settings  atomic.Pointer[mitm.Settings]
	gate      *gate
	listeners []net.Listener
	explicit  net.Listener // nil: none
	admin     *admin       // nil: none
	page      *onboarding.Page
	counts    counts

	sockets []inherited  // all listeners, and what for
	before  *predecessor // hands over to us; nil: nobody does
	program string       // what an upgrade starts
	stderr  io.Writer    // of console
}

// newGateway checks every precondition, and only then changes anything: it
// takes the ports, makes an authority if there is none, and opens the log.
func newGateway(ctx context.Context, c *config, before *predecessor, stderr io.Writer) (_ *gateway, err error) {
	gw := &gateway{config: c, before: before, program: startedFrom(), stderr: stderr, console: slog.New(slog.NewTextHandler(stderr, nil))}
	slog.SetDefault(gw.console)
	log.SetOutput(io.Discard) // where net/http's transport prints what a server sends unasked, payload and all
	defer func() {
		if err != nil {
			gw.close()
		}
	}()

	next := gw.newPlan(c)
	if err := next.mistake(); err != nil {
		return nil, err
	}
	gw.policy.Store(next.policy)
	gw.counts.policyLoaded.Store(time.Now().UnixNano())
	gw.page = next.page
	if err := gw.listen(ctx); err != nil {
		return nil, err
	}
	if err := gw.openStores(next); err != nil {
		return nil, err
	}
	gw.setTrust(next.trust, gw.authority.Load())
	gw.gate = newGate(c.gateLimits())
	gw.apply(next)
	gw.proxy = &mitm.Proxy{
		Certs:     &gw.authority,
		Policy:    gw.policy.Load,
		Rates:     policy.NewRates(),
		Audit:     gw.log,
		Keys:      gw.log,
		Trust:     gw.trust.Load,
		Settings:  gw.settings.Load,
		Handshake: gw.gate.mayHandshake,
		Stats:     mitm.NewStats(),
		Tap:       &gw.packets,
		Log:       gw.console,
	}
	ring, err := gw.openPackets(c)
	if err != nil {
		return nil, err
	}
	gw.packets.ring.Store(ring)
	return gw, nil
}

// openStores opens the log, with the authority that p has. At the very first
// start it makes them, both or neither.
func (gw *gateway) openStores(p *plan) error {
	c := p.config
	certs, first := p.authority, p.authorityErr != nil
	_, err := os.Lstat(c.Audit.Dir)
	newLog := errors.Is(err, os.ErrNotExist)
	shipper, err := gw.newShipper(p)
	if err != nil {
		return err
	}
	if err := gw.before.prepared(c.Audit.Dir); err != nil {
		return err
	}
	gw.log, err = audit.Open(gw.auditOptions(p, follower(shipper)))
	if err != nil {
		return usage(fmt.Errorf("audit.dir: %w", err)).hint("name a directory that this user may write to, and no other gateway does")
	}
	if first {
		o := gw.caOptions(c)
		_, o.Encrypt = c.passphraseFile()
		if certs, err = ca.Create(c.CA.Dir, o); err != nil {
			gw.log.Close()
			gw.log = nil
			if newLog {
				os.RemoveAll(c.Audit.Dir)
			}
			return err
		}
		gw.console.Warn("no authority was there, so one was made; devices have to trust its root: framegate ca export", "dir", c.CA.Dir)
	}
	gw.console.Info("authority", "dir", c.CA.Dir, "root", certs.Fingerprint())
	gw.sayAuthority(certs)
	gw.authority.Store(certs)
	if shipper != nil {
		gw.shipper.Store(shipper)
		shipper.Start(gw.log)
	}
	return nil
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
	gw.before.close()
}

// capture says how the connections of ln tell where they were going, and what
// serves them.
func (gw *gateway) capture(ln net.Listener) (dst func(net.Conn) (netip.AddrPort, error), serve intercept.Handler) {
	if own, ok := ln.(*commandListener); ok {
		return own.destination, gw.proxy.ServeConn
	}
	if gw.config.Intercept.Mode == "tproxy" {
		return intercept.LocalDst(ln.Addr()), intercept.KeepSource(gw.proxy.ServeConn)
	}
	return intercept.OriginalDst, gw.proxy.ServeConn
}

// newExplicit makes the explicit proxy; what its clients CONNECT to goes the way
// of redirected connections.
func (gw *gateway) newExplicit(living context.Context) *intercept.Explicit {
	return intercept.NewExplicit(intercept.ExplicitConfig{
		Connect: func(ctx context.Context, c net.Conn, host string, dst []netip.AddrPort) {
			serve := gw.gate.serve(mitm.WithTarget(living, host), gw.proxy.ServeConn)
			serve(ctx, c, firstReachable(ctx, gw.settings.Load().Dialer, dst))
		},
		Plain: func(w http.ResponseWriter, r *http.Request, dst []netip.AddrPort) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(living, cancel)()
			gw.proxy.ServePlain(w, r.WithContext(ctx), dst)
		},
		Ports:    func() []uint16 { return gw.inForce.Load().Intercept.Ports },
		Resolver: ownName(func() string { return gw.inForce.Load().Admin.Onboarding }),
		Timeout:  gw.config.Limits.HandshakeTimeout,
	})
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

// ready says why the gateway would not serve a new connection, nil if it would.
func (gw *gateway) ready() error {
	if err := gw.log.Failed(); err != nil && gw.inForce.Load().Audit.OnFailure == "block" {
		return err
	}
	return gw.gate.full()
}
