package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/BurntSushi/toml"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
	"framegate/policy"
)

// selfTestTime bounds the self-test; it takes two or three seconds.
const selfTestTime = 20 * time.Second

// selfTestText is the message that the self-test sends, and gets back.
const selfTestText = "framegate doctor: is this seen?"

// checkSelf sends one WebSocket of each family through a gateway with this
// configuration, in a network of its own. Rules, limits and policy are those of
// the configuration; authority and log are thrown away.
func (d *doctor) checkSelf(ctx context.Context) []diagnosis {
	switch {
	case d.noSelfTest:
		return nil
	case os.Geteuid() != 0:
		return []diagnosis{warn(d.asRoot(), "not run: needs root")}
	case d.policy == nil:
		return []diagnosis{warn(d.command("policy check"), "not run: the policy does not load")}
	}
	ctx, cancel := context.WithTimeout(ctx, selfTestTime)
	defer cancel()
	began := time.Now()
	t := &selfTest{config: d.config, files: d.config.Policy.Files}
	note := ""
	if !passes(d.policy) {
		t.files, note = nil, "; without the policy, which does not let the test's own message pass"
	}
	err := t.run(ctx)
	switch {
	case errors.Is(err, lab.ErrNoIP):
		return []diagnosis{warn("apt-get install iproute2", "not run: no ip command")}
	case errors.Is(err, errNoLab):
		return []diagnosis{warn("framegate demo  # shows each step", "not run: %v", err)}
	case err != nil:
		return []diagnosis{fail("framegate demo  # shows each step", "%v%s", err, note)}
	}
	return []diagnosis{pass("a WebSocket over IPv4 and one over IPv6 were redirected, opened, judged, recorded and echoed, in %v%s",
		time.Since(began).Round(100*time.Millisecond), note)}
}

// passes says whether a policy inspects the test's connections and lets their
// messages pass unchanged.
func passes(p *policy.Policy) bool {
	for _, client := range []string{"10.88.1.2", "fd88:1::2"} { // of package lab
		a := netip.MustParseAddr(client)
		if p.Connection(policy.Flow{Client: netip.AddrPortFrom(a, 1), Host: chatHost}).Action != policy.Inspect {
			return false
		}
		for _, dir := range []frames.Direction{frames.ToServer, frames.ToClient} {
			scope := p.Scope(policy.Upgrade{Client: a, Host: chatHost, Path: "/echo"})
			if scope.Message(dir, frames.Text, []byte(selfTestText)).Action >= policy.Redact {
				return false
			}
		}
	}
	return true
}

// errNoLab is about the network of the test, not about the gateway.
var errNoLab = errors.New("no network for the test")

// A selfTest is a demo with the configuration of an administrator, and nobody
// who watches.
type selfTest struct {
	demoNetwork
	config *config
	files  []string // of the policy
	port   uint16   // one of those that are captured
}

func (t *selfTest) run(ctx context.Context) (err error) {
	if t.dir, err = os.MkdirTemp("", "framegate-doctor-"); err != nil {
		return err
	}
	defer os.RemoveAll(t.dir)
	defer func() { err = errors.Join(err, t.down()) }()
	if t.net, err = lab.Up(ctx, lab.Options{}); err != nil {
		return fmt.Errorf("%w: %w", errNoLab, err)
	}
	if err := t.serve(ctx); err != nil {
		return err
	}
	if err := t.write(); err != nil {
		return err
	}
	if err := t.install(ctx); err != nil {
		return err
	}
	for _, family := range []string{"tcp4", "tcp6"} {
		if err := t.echo(ctx, family); err != nil {
			return fmt.Errorf("%s: %w", familyName(family), err)
		}
	}
	if err := t.stop(ctx); err != nil {
		return err
	}
	report, err := audit.Verify(t.auditDir(), audit.VerifyOptions{})
	if err == nil && len(report.Findings) > 0 {
		err = fmt.Errorf("its log does not verify: %s: %s", report.Findings[0].Place, report.Findings[0].Reason)
	}
	return err
}

// serve starts the server, on the port that is captured.
func (t *selfTest) serve(ctx context.Context) (err error) {
	if t.port = 443; !slices.Contains(t.config.Intercept.Ports, t.port) {
		t.port = t.config.Intercept.Ports[0]
	}
	if t.pki, err = origin.NewPKI(); err != nil {
		return err
	}
	config, err := t.pki.Config(origin.Leaf{Names: []string{chatHost}})
	if err != nil {
		return err
	}
	ln, err := t.net.Listen(ctx, lab.Server, "tcp", fmt.Sprintf("[::]:%d", t.port))
	if err != nil {
		return err
	}
	t.origin = origin.New()
	t.origin.ServeTLS(ln, config)
	return nil
}

// write writes the configuration of the test: what of the real one says how
// connections are intercepted and judged. Interfaces and addresses are those of
// the test's network, which no exclusion may keep from being captured.
func (t *selfTest) write() error {
	c := t.config
	rules, err := c.rules()
	if err != nil {
		return err
	}
	exclude := []string{}
	for _, p := range c.Intercept.Exclude {
		if !slices.ContainsFunc(labNetworks, p.Overlaps) {
			exclude = append(exclude, p.String())
		}
	}
	files := []string{}
	for _, name := range t.files {
		if name, err = filepath.Abs(name); err != nil {
			return err
		}
		files = append(files, name)
	}
	roots := filepath.Join(t.dir, "origin-root.pem")
	table := map[string]any{
		"intercept": map[string]any{
			"mode": c.Intercept.Mode, "listen": []string{fmt.Sprintf(":%d", rules.ListenPort)}, "ports": c.Intercept.Ports,
			"interfaces": []string{lab.ClientLink}, "exclude": exclude, "mark": c.Intercept.Mark, "quic": c.Intercept.QUIC,
		},
		"ca":  map[string]any{"dir": filepath.Join(t.dir, "ca"), "leaf_validity": c.CA.LeafValidity.String()},
		"tls": map[string]any{"upstream_roots": []string{roots}, "client_cert": c.TLS.ClientCert},
		"limits": map[string]any{
			"hold": fmt.Sprintf("%dB", c.Limits.Hold), "max_message": fmt.Sprintf("%dB", c.Limits.MaxMessage), "oversize": c.Limits.Oversize,
			"max_ratio": c.Limits.MaxRatio, "unknown_extension": c.Limits.UnknownExtension,
			"handshake_timeout": c.Limits.HandshakeTimeout.String(),
		},
		"policy": map[string]any{"files": files},
		"audit":  map[string]any{"dir": t.auditDir(), "level": "messages"},
		"admin":  map[string]any{"listen": ""},
	}
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(table); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(roots, t.pki.RootPEM(), 0o600),
		os.WriteFile(t.configFile(), text.Bytes(), 0o600),
	)
}

// labNetworks are those of package lab.
var labNetworks = []netip.Prefix{netip.MustParsePrefix("10.88.0.0/16"), netip.MustParsePrefix("fd88::/16")}

// echo sends the message to the server and waits for it to come back, and for
// both to be in the log. The client trusts the test's authority and no other, so
// that a handshake at all means a leaf of ours.
func (t *selfTest) echo(ctx context.Context, family string) error {
	c, err := clients.DialRaw(ctx, clients.RawOptions{
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return t.net.Dial(ctx, lab.Client, network, address)
		},
		Network: family,
		Address: t.address(family, chatHost, t.port).String(),
		TLS:     clients.Trust(t.roots, chatHost),
	})
	if err != nil {
		return fmt.Errorf("not intercepted: %w", err)
	}
	defer c.Close()
	if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo")); err != nil {
		return fmt.Errorf("no WebSocket: %w", err)
	}
	if err := c.Send(true, frames.Text, []byte(selfTestText)); err != nil {
		return err
	}
	_, payload, err := c.Frame()
	if err == nil && string(payload) != selfTestText {
		err = fmt.Errorf("got %q", payload)
	}
	if err != nil {
		return fmt.Errorf("the message did not come back: %w", err)
	}
	if _, err := c.Bye(frames.NormalClosure, ""); err != nil {
		return fmt.Errorf("not closed: %w", err)
	}
	records, err := t.recordsOf(ctx, c.LocalAddr())
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(selfTestText))
	for _, dir := range []frames.Direction{frames.ToServer, frames.ToClient} {
		if !slices.ContainsFunc(records, func(r demoRecord) bool {
			return r.Event == audit.WSMessage && r.Dir == dir.String() && r.SHA256 == hex.EncodeToString(sum[:])
		}) {
			return fmt.Errorf("the message %s is not in the log", dir)
		}
	}
	return nil
}
