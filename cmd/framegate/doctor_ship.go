package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"framegate/audit/ship"
)

// reachTime is how long one target may take to answer.
const reachTime = 3 * time.Second

// checkShipping connects to each place that checkpoints and records go to, and
// sends nothing but a TLS handshake.
func (d *doctor) checkShipping(ctx context.Context) []diagnosis {
	c := &d.config.Ship
	targets := slices.Concat(c.CheckpointTo, c.To)
	if len(targets) == 0 {
		return []diagnosis{warn(`# set audit.checkpoint_to, see docs/AUDIT-SHIPPING.md`, "no checkpoint leaves this machine: whoever has it can write the log anew")}
	}
	credentials, err := d.config.shipCredentials()
	if err != nil {
		return []diagnosis{d.mistake(err)}
	}
	config := &tls.Config{RootCAs: credentials.roots, MinVersion: tls.VersionTLS12}
	if pair := credentials.certificate; pair != nil {
		config.Certificates = []tls.Certificate{*pair}
	}
	list := make([]diagnosis, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() { list[i] = d.reach(ctx, t, config) })
	}
	all.Wait()
	return list
}

func (d *doctor) reach(ctx context.Context, t ship.Target, config *tls.Config) diagnosis {
	if t.Kind() == "file" {
		return d.reachFile(t)
	}
	host, port, _ := net.SplitHostPort(t.Address())
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", t.Address())
	if err != nil {
		return fail(fmt.Sprintf("nc -vz %s %s  # start that service, or let %s through to it", shellWord(host), port, t.Kind()), "network: %v: %v", t, err)
	}
	defer conn.Close()
	if !t.Encrypted() {
		return pass("network: %v: reachable", t)
	}
	config = config.Clone()
	config.ServerName = host
	if err := tls.Client(conn, config).HandshakeContext(ctx); err != nil {
		return fail(fmt.Sprintf("openssl s_client -connect %s </dev/null  # shows its certificate; audit.ship_roots says who may sign it", shellWord(t.Address())),
			"network: %v: %v", t, err)
	}
	return pass("network: %v: reachable, certificate verified", t)
}

// reachFile looks whether the directory is there: it may be one that is mounted.
func (d *doctor) reachFile(t ship.Target) diagnosis {
	u, err := url.Parse(t.String())
	if err != nil {
		return fail("# mend audit.checkpoint_to", "%v: %v", t, err)
	}
	dir := filepath.Dir(u.Path)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return warn(d.asRoot(), "%v: not checked: %v", t, err)
	case err != nil || !info.IsDir():
		fix := "install -d -m 0700 " + shellWord(dir)
		if uid := d.serviceUser(); uid > 0 {
			fix = fmt.Sprintf("install -d -m 0700 -o %d %s", uid, shellWord(dir))
		}
		return fail(fix, "%v: there is no directory %s", t, dir)
	}
	return pass("%v: the directory is there", t)
}
