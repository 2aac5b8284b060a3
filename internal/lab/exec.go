package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// afterKill is how long Wait waits for a killed program's descendants to let
// go of its output.
const afterKill = 2 * time.Second

// Command prepares a program to run inside a place, in a process group of its
// own. The whole group is killed when ctx ends, on [Net.Down], and (the program
// itself) when the thread that started it dies, so that nothing outlives a
// killed owner. The program is a direct child: signals sent to its Process
// reach it.
func (n *Net) Command(ctx context.Context, p Place, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(n.alive, cancel)
	cmd := exec.CommandContext(ctx, n.ip, append([]string{"netns", "exec", n.Namespace(p), name}, args...)...)
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = afterKill
	return cmd
}

// Do calls f on a thread that is inside the place's network namespace. Sockets
// that f opens stay there; goroutines that f starts do not run there.
func (n *Net) Do(p Place, f func() error) error {
	return inNamespace(filepath.Join(netnsDir, n.Namespace(p)), f)
}

// Listen listens inside a place. The caller closes the listener.
func (n *Net) Listen(ctx context.Context, p Place, network, address string) (net.Listener, error) {
	var ln net.Listener
	err := n.Do(p, func() (err error) {
		var lc net.ListenConfig
		ln, err = lc.Listen(ctx, network, address)
		return err
	})
	return ln, err
}

// Dial connects from inside a place to an address or to a name of the lab. Of
// a name's addresses it takes the first that fits network: "tcp4", "tcp6" or
// "tcp", which means IPv4 for a name that has both. The caller closes the
// connection.
func (n *Net) Dial(ctx context.Context, p Place, network, address string) (net.Conn, error) {
	name, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		if ip, err = n.pick(network, name); err != nil {
			return nil, err
		}
	}
	to := netip.AddrPortFrom(ip, uint16(port)).String()
	var conn net.Conn
	err = n.Do(p, func() (err error) {
		// Ports in TIME_WAIT are taken.
		for range lastPort - firstPort {
			// A literal address is dialled on the calling goroutine.
			var d net.Dialer
			if strings.HasPrefix(network, "tcp") {
				d.LocalAddr = &net.TCPAddr{Port: n.port()}
			}
			if conn, err = d.DialContext(ctx, network, to); !errors.Is(err, syscall.EADDRINUSE) {
				break
			}
		}
		return err
	})
	return conn, err
}

// The ports of those who Dial are below those that the kernel gives by itself.
const firstPort, lastPort = 12000, 32000

// port returns the ports in turn. The kernel would use one for two connections to
// different servers; redirected, both lead to the gateway's port, and so conntrack
// gives the second another one there: the log would not have the client's own.
func (n *Net) port() int {
	return firstPort + int((n.ports.Add(1)-1)%(lastPort-firstPort))
}

func (n *Net) pick(network, name string) (netip.Addr, error) {
	for _, a := range n.Lookup(name) {
		if !strings.HasSuffix(network, "4") && !strings.HasSuffix(network, "6") || strings.HasSuffix(network, "4") == a.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%q has no address for %s in the lab: %w", name, network, errNoHost)
}

var errNoHost = errors.New("no such host")
