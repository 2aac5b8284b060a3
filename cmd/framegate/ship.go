package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"framegate/audit"
	"framegate/audit/ship"
	"framegate/intercept"
)

// shipTimeout is how long the gateway waits at its end for targets to take what
// they have not got.
const shipTimeout = 5 * time.Second

// parsed makes a parser for values of the file of one for strings.
func parsed[T any](parse func(string) (T, error)) parser[T] {
	return func(v any) (x T, err error) {
		s, ok := v.(string)
		if !ok {
			return x, mismatch(v, "a string")
		}
		return parse(s)
	}
}

// shipQueue has to hold a few blocks at least, of 256 KiB each.
func shipQueue(v any) (int64, error) {
	n, err := size(v)
	if err == nil && n < 1<<20 {
		err = mismatch(v, `"1MiB" or more`)
	}
	return n, err
}

// checkShipping says in which key two values do not go together.
func (c *config) checkShipping() (key string, err error) {
	witness := slices.IndexFunc(c.Ship.CheckpointTo, func(t ship.Target) bool { return t.Kind() == "https" || t.Kind() == "http" })
	switch {
	case witness >= 0 && len(c.Ship.Witnesses) == 0:
		return "audit.checkpoint_to", fmt.Errorf("%s is a witness: expected its public key in audit.witness_keys", c.Ship.CheckpointTo[witness])
	case witness < 0 && len(c.Ship.Witnesses) > 0:
		return "audit.witness_keys", errors.New("no witness in audit.checkpoint_to, expected an https:// URL there")
	case c.Ship.Cert != "" && c.Ship.Key == "":
		return "audit.ship_cert", errors.New("a certificate without audit.ship_key")
	case c.Ship.Key != "" && c.Ship.Cert == "":
		return "audit.ship_key", errors.New("a key without audit.ship_cert")
	}
	return "", nil
}

// newShipper makes what takes checkpoints and records off the machine, nil if
// nothing does.
func (gw *gateway) newShipper(p *plan) (*ship.Shipper, error) {
	c := &p.config.Ship
	if len(c.CheckpointTo) == 0 && len(c.To) == 0 {
		return nil, nil
	}
	cfg := ship.Config{
		Checkpoints: c.CheckpointTo,
		Records:     c.To,
		Queue:       c.Queue,
		Every:       c.CheckpointEvery,
		Witnesses:   c.Witnesses,
		Roots:       p.credentials.roots,
		Certificate: p.credentials.certificate,
		Dial:        intercept.Dialer(p.config.Intercept.Mark).DialContext,
		Dir:         p.config.Audit.Dir,
		Version:     currentBuild().Version,
		Logger:      gw.console,
	}
	return ship.New(cfg)
}

// credentials are for the servers of targets.
type credentials struct {
	roots       *x509.CertPool   // that verify them; nil: the system's
	certificate *tls.Certificate // for those that ask; nil: none
	version     string           // of what the files hold
}

// shipCredentials reads them.
func (c *config) shipCredentials() (_ *credentials, err error) {
	all, sum := new(credentials), sha256.New()
	if len(c.Ship.Roots) > 0 {
		if all.roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("the system's roots: %w", err)
		}
	}
	for _, name := range c.Ship.Roots {
		if err := addRoots(all.roots, name, sum); err != nil {
			return nil, usage(fmt.Errorf("audit.ship_roots: %w", err)).
				hint("give it PEM files of certificates, or take the file out of audit.ship_roots")
		}
	}
	if c.Ship.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Ship.Cert, c.Ship.Key)
		if err != nil {
			return nil, usage(fmt.Errorf("audit.ship_cert: %w", err)).hint("name a certificate and its key, both PEM")
		}
		all.certificate = &pair
		for _, der := range pair.Certificate {
			sum.Write(der)
		}
	}
	all.version = hex.EncodeToString(sum.Sum(nil))
	return all, nil
}

// follower is the shipper as the log wants it: no shipper is no follower.
func follower(s *ship.Shipper) audit.Follower {
	if s == nil {
		return nil
	}
	return s
}

// closeLog ends the log, and gives what it has shipped a
// bounded time to arrive.
func (gw *gateway) closeLog() error {
	if s := gw.ships(); s != nil {
		return s.Stop(shipTimeout, gw.log.Close)
	}
	return gw.log.Close()
}

// restShipping has another process ship what comes. The log is given a shipper all
// the same, which is returned and starts if the log should come back.
func (gw *gateway) restShipping() *ship.Shipper {
	gw.exchangeShippers(nil)
	spare, err := gw.newShipper(gw.plan)
	if err == nil && spare != nil {
		err = gw.log.Reopen(gw.auditOptions(gw.plan, spare))
	}
	if err != nil {
		gw.console.Error("audit records will not be shipped if the log comes back", "err", err)
		return nil
	}
	return spare
}

// ships returns the shipper once it is at work; nil: nothing is shipped.
func (gw *gateway) ships() *ship.Shipper {
	if gw.settling != nil {
		<-gw.settling
	}
	return gw.shipper.Load()
}

// exchangeShippers has next, which hears from the log by now, ship in place of the
// one before it, once that has had a bounded time to bring what it has to where it
// is due: a target gets the records in their order. Nobody waits for that.
func (gw *gateway) exchangeShippers(next *ship.Shipper) {
	before, settled, done := gw.shipper.Swap(next), gw.settling, make(chan struct{})
	gw.settling = done
	go func() {
		defer close(done)
		if settled != nil {
			<-settled
		}
		if before != nil {
			before.Stop(shipTimeout, func() error { return nil })
		}
		if next != nil {
			next.Start(gw.log)
		}
	}()
}
