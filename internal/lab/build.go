package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	netnsDir = "/run/netns" // where ip keeps the handles
	etcDir   = "/etc/netns" // what ip netns exec shows instead of /etc
)

func (n *Net) build(ctx context.Context) error {
	for _, p := range places {
		if err := n.writeEtc(p); err != nil {
			return err
		}
		if err := n.runIP(ctx, []string{"netns add " + n.Namespace(p)}); err != nil {
			return err
		}
		var err error
		if n.handle[p], err = os.Stat(filepath.Join(netnsDir, n.Namespace(p))); err != nil {
			return err
		}
		if err := n.Do(p, func() error { return sysctls(p) }); err != nil {
			return err
		}
	}
	server := []netip.Addr{n.Addr(Server, false), n.Addr(Server, true)}
	for _, h := range n.hosts {
		server = append(server, h.v4, h.v6)
	}
	for _, step := range []struct {
		place Place
		lines []string
	}{
		{Client, []string{"link add " + EdgeLink + " type veth peer name " + ClientLink + " netns " + n.Namespace(Gateway)}},
		{Server, []string{"link add " + EdgeLink + " type veth peer name " + ServerLink + " netns " + n.Namespace(Gateway)}},
		{Gateway, link(ClientLink, n.Addr(Gateway, false), n.Addr(Gateway, true))},
		{Gateway, link(ServerLink, netip.MustParseAddr("10.88.2.1"), netip.MustParseAddr("fd88:2::1"))},
		{Client, append(link(EdgeLink, n.Addr(Client, false), n.Addr(Client, true)),
			"route add default via 10.88.1.1", "route add default via fd88:1::1")},
		{Server, append(link(EdgeLink, server...),
			"route add default via 10.88.2.1", "route add default via fd88:2::1")},
	} {
		if err := n.runIP(ctx, step.lines, "-n", n.Namespace(step.place)); err != nil {
			return err
		}
	}
	return nil
}

// link gives a link its addresses and raises it. nodad: an address is usable
// at once, there is nobody else on the wire (RFC 4862, Section 5.4).
func link(name string, addrs ...netip.Addr) []string {
	lines := []string{"link set lo up"}
	for _, a := range addrs {
		if a.Is4() {
			lines = append(lines, fmt.Sprintf("addr add %s/24 dev %s", a, name))
		} else {
			lines = append(lines, fmt.Sprintf("addr add %s/64 dev %s nodad", a, name))
		}
	}
	return append(lines, "link set "+name+" up")
}

// sysctls runs inside the namespace: /proc/sys/net is that of the thread which
// opens it (network_namespaces(7)).
func sysctls(p Place) error {
	values := [][2]string{
		{"ipv6/conf/all/disable_ipv6", "0"}, // a host without IPv6 hands that down to new namespaces
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
	}
	if p == Gateway {
		values = append(values, [2]string{"ipv4/ip_forward", "1"}, [2]string{"ipv6/conf/all/forwarding", "1"})
	}
	for _, v := range values {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", v[0]), []byte(v[1]), 0); err != nil {
			return err
		}
	}
	return nil
}

// writeEtc writes what programs in the namespace see as /etc/hosts and so on.
// nsswitch.conf, where the host has one, keeps a resolver daemon of the host
// from answering before the hosts file does.
func (n *Net) writeEtc(p Place) error {
	dir := filepath.Join(etcDir, n.Namespace(p))
	err := os.MkdirAll(dir, 0o755)
	for range 10 {
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		err = os.MkdirAll(dir, 0o755) // another lab has just removed the empty parent
	}
	if err != nil {
		return err
	}
	files := map[string]string{
		"hosts":         n.hostsFile(),
		"resolv.conf":   "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
	}
	for name, content := range files {
		if _, err := os.Stat("/etc/" + name); errors.Is(err, fs.ErrNotExist) {
			continue // ip can only bind over a file that exists
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// runIP runs lines of ip commands in one process, which stops at the first
// that fails.
func (n *Net) runIP(ctx context.Context, lines []string, flags ...string) error {
	return runIP(ctx, n.ip, lines, flags...)
}

func runIP(ctx context.Context, ip string, lines []string, flags ...string) error {
	cmd := exec.CommandContext(ctx, ip, append(flags, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	ownGroup(cmd)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(flags, " "), err, strings.TrimSpace(stderr.String()))
	}
	return nil
}
