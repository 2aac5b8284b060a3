package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"framegate/examples/policies"
	"framegate/internal/lab"
	"framegate/internal/lab/origin"
)

// The hosts of the demo, all of them on the one server.
const (
	chatHost    = "chat.demo.test"
	feedHost    = "feed.demo.test"
	bankHost    = "bank.demo.test"
	blockedHost = "blocked.demo.test"
	expiredHost = "expired.demo.test"
)

// A demoNetwork is the stage of a demo: three namespaces, a server with a CA
// of its own, and this very program as the gateway.
type demoNetwork struct {
	dir     string
	net     *lab.Net
	pki     *origin.PKI
	origin  *origin.Server
	gateway *exec.Cmd
	exited  chan error     // the gateway's exit
	roots   *x509.CertPool // what the client trusts: framegate's root, and nothing else
}

func (d *demoNetwork) configFile() string { return filepath.Join(d.dir, "framegate.toml") }
func (d *demoNetwork) auditDir() string   { return filepath.Join(d.dir, "audit") }

// up makes the network, starts the server, sets the rules and starts the gateway.
func (d *demoNetwork) up(ctx context.Context) (err error) {
	if d.net, err = lab.Up(ctx, lab.Options{}); err != nil {
		return err
	}
	if err := d.startOrigin(ctx); err != nil {
		return err
	}
	if err := d.writeFiles(); err != nil {
		return err
	}
	return d.install(ctx)
}

// install does what an administrator does: it makes the authority, which the
// client then trusts, sets the rules and starts the gateway.
func (d *demoNetwork) install(ctx context.Context) error {
	for _, args := range [][]string{{"ca", "init"}, {"redirect", "up"}} {
		if _, err := d.framegate(ctx, lab.Gateway, args...); err != nil {
			return err
		}
	}
	pem, err := d.framegate(ctx, lab.Gateway, "ca", "export")
	if err != nil {
		return err
	}
	d.roots = x509.NewCertPool()
	d.roots.AppendCertsFromPEM(pem)
	return d.startGateway(ctx)
}

// startOrigin serves all hosts on ports 80 and 443 of the server.
func (d *demoNetwork) startOrigin(ctx context.Context) (err error) {
	if d.pki, err = origin.NewPKI(); err != nil {
		return err
	}
	config, err := d.pki.Config(
		origin.Leaf{Names: []string{chatHost, feedHost, bankHost, blockedHost}},
		origin.Leaf{Names: []string{expiredHost}, Defect: origin.Expired},
	)
	if err != nil {
		return err
	}
	d.origin = origin.New()
	secure, err := d.net.Listen(ctx, lab.Server, "tcp", "[::]:443")
	if err != nil {
		return err
	}
	d.origin.ServeTLS(secure, config)
	plain, err := d.net.Listen(ctx, lab.Server, "tcp", "[::]:80")
	if err != nil {
		return err
	}
	d.origin.ServePlain(plain)
	return nil
}

func (d *demoNetwork) writeFiles() error {
	rules, err := policies.Files.ReadFile("demo.toml")
	if err != nil {
		return err
	}
	roots := filepath.Join(d.dir, "origin-root.pem")
	config := fmt.Sprintf("[intercept]\ninterfaces = [%q]\n\n[ca]\ndir = %q\n\n[tls]\nupstream_roots = [%q]\n\n"+
		"[policy]\nfiles = [%q]\n\n[audit]\ndir = %q\nlevel = \"frames\"\n",
		lab.ClientLink, filepath.Join(d.dir, "ca"), roots, filepath.Join(d.dir, "demo.toml"), d.auditDir())
	for name, data := range map[string][]byte{
		roots:                             d.pki.RootPEM(),
		filepath.Join(d.dir, "demo.toml"): rules,
		d.configFile():                    []byte(config),
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// framegate runs this program in a place of the network and returns what it
// printed to stdout.
func (d *demoNetwork) framegate(ctx context.Context, p lab.Place, args ...string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := d.net.Command(ctx, p, self, append([]string{"--config", d.configFile()}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("framegate %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// startGateway runs the gateway and waits until it says that it is ready, as
// systemd would.
func (d *demoNetwork) startGateway(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(d.dir, "notify"), Net: "unixgram"})
	if err != nil {
		return err
	}
	defer ready.Close()
	log, err := os.Create(filepath.Join(d.dir, "gateway.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.gateway = d.net.Command(context.WithoutCancel(ctx), lab.Gateway, self, "--config", d.configFile(), "run")
	d.gateway.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready.LocalAddr().String())
	d.gateway.Stdout, d.gateway.Stderr = log, log
	if err := d.gateway.Start(); err != nil {
		return err
	}
	d.exited = make(chan error, 1)
	go func() { d.exited <- d.gateway.Wait() }()

	said := make(chan error, 1)
	go func() {
		_, err := ready.Read(make([]byte, 64))
		said <- err
	}()
	select {
	case err = <-said:
		return err
	case err = <-d.exited:
		d.exited <- err
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("the gateway did not start: %w\n%s", err, text)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop drains the gateway.
func (d *demoNetwork) stop(ctx context.Context) error {
	if d.gateway == nil {
		return nil
	}
	d.gateway.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.exited:
		d.gateway = nil
		return err
	case <-ctx.Done():
		return errors.Join(errors.New("the gateway does not stop"), ctx.Err())
	}
}

// down takes everything away again, whatever state it is in.
func (d *demoNetwork) down() error {
	if d.net == nil {
		return nil
	}
	if d.origin != nil {
		d.origin.Close()
	}
	err := d.net.Down()
	if d.gateway != nil {
		select {
		case <-d.exited:
		case <-time.After(10 * time.Second):
			err = errors.Join(err, errors.New("the gateway does not end"))
		}
	}
	if left := d.net.Leftovers(); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %s", strings.Join(left, ", ")))
	}
	return err
}

// address is where a host of the demo can be dialled.
func (d *demoNetwork) address(family, host string, port uint16) netip.AddrPort {
	for _, a := range d.net.Lookup(host) {
		if a.Is4() == (family == "tcp4") {
			return netip.AddrPortFrom(a, port)
		}
	}
	return netip.AddrPort{}
}
