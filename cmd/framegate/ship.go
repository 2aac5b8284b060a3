package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
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
func (gw *gateway) newShipper() (*ship.Shipper, error) {
	c := &gw.config.Ship
	if len(c.CheckpointTo) == 0 && len(c.To) == 0 {
		return nil, nil
	}
	roots, certificate, err := gw.config.shipCredentials()
	if err != nil {
		return nil, err
	}
	cfg := ship.Config{
		Checkpoints: c.CheckpointTo,
		Records:     c.To,
		Queue:       c.Queue,
		Every:       c.CheckpointEvery,
		Witnesses:   c.Witnesses,
		Roots:       roots,
		Certificate: certificate,
		Dial:        intercept.Dialer(gw.config.Intercept.Mark).DialContext,
		Dir:         gw.config.Audit.Dir,
		Version:     currentBuild().Version,
		Logger:      gw.console,
	}
	return ship.New(cfg)
}

// shipCredentials reads what the servers of targets are verified by (nil: the
// system's roots) and what is shown to those that ask (nil: nothing).
func (c *config) shipCredentials() (roots *x509.CertPool, certificate *tls.Certificate, err error) {
	if len(c.Ship.Roots) > 0 {
		if roots, err = x509.SystemCertPool(); err != nil {
			return nil, nil, fmt.Errorf("the system's roots: %w", err)
		}
	}
	for _, name := range c.Ship.Roots {
		if err := addRoots(roots, name, io.Discard); err != nil {
			return nil, nil, usage(fmt.Errorf("audit.ship_roots: %w", err)).
				hint("give it PEM files of certificates, or take the file out of audit.ship_roots")
		}
	}
	if c.Ship.Cert == "" {
		return roots, nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Ship.Cert, c.Ship.Key)
	if err != nil {
		return nil, nil, usage(fmt.Errorf("audit.ship_cert: %w", err)).hint("name a certificate and its key, both PEM")
	}
	return roots, &pair, nil
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
	if gw.shipper == nil {
		return gw.log.Close()
	}
	return gw.shipper.Stop(shipTimeout, gw.log.Close)
}
