package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
)

// ErrNotRoot is returned by [Up] and [Sweep] without root's rights.
var ErrNotRoot = errors.New("network namespaces need root: run it with sudo")

// ErrNoIP is returned by [Up] and [Sweep] where iproute2 is missing.
var ErrNoIP = errors.New("no ip command found: apt-get install iproute2")

// A Place is one of the three namespaces.
type Place uint8

// The places, in the order in which a connection crosses them.
const (
	Client Place = iota
	Gateway
	Server
)

var places = [...]Place{Client, Gateway, Server}

func (p Place) String() string {
	switch p {
	case Client:
		return "client"
	case Gateway:
		return "gateway"
	case Server:
		return "server"
	}
	return fmt.Sprintf("place %d", uint8(p))
}

// The interfaces. The gateway's are named for what they lead to.
const (
	ClientLink = "to-client" // in the gateway, towards the client
	ServerLink = "to-server" // in the gateway, towards the server
	EdgeLink   = "eth0"      // in client and server
)

// DefaultHosts resolve in every lab.
var DefaultHosts = []string{
	"chat.demo.test",
	"feed.demo.test",
	"bank.demo.test",
	"blocked.demo.test",
	"expired.demo.test",
}

// maxHosts keeps the last byte of a host's address below 250.
const maxHosts = 200

// Options of a lab. The zero value is a working one.
type Options struct {
	// Hosts are names that resolve to the server besides DefaultHosts.
	Hosts []string
}

// A Net is a network that is up. Its methods may be called concurrently.
type Net struct {
	id    string
	ip    string // path of the ip command
	hosts []host
	owner *owner

	alive  context.Context // ends with Down; every Command ends with it
	kill   context.CancelFunc
	handle [len(places)]os.FileInfo // identity of each namespace, to find the processes in it

	ports atomic.Uint32 // given to connections of Dial so far

	once    sync.Once
	downErr error
}

type host struct {
	name   string
	v4, v6 netip.Addr
}

// Up makes a network. It first sweeps what dead owners left behind.
// If it fails, it has undone what it did.
func Up(ctx context.Context, o Options) (*Net, error) {
	ip, err := ipCommand()
	if err != nil {
		return nil, err
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	hosts, err := assign(o.Hosts)
	if err != nil {
		return nil, err
	}
	var random [4]byte
	rand.Read(random[:])
	n := &Net{id: hex.EncodeToString(random[:]), ip: ip, hosts: hosts}
	if n.owner, err = own(n.id); err != nil {
		return nil, err
	}
	n.alive, n.kill = context.WithCancel(context.Background())
	if err := n.build(ctx); err != nil {
		return nil, errors.Join(err, n.Down())
	}
	return n, nil
}

// assign gives every name its addresses on the server.
func assign(more []string) ([]host, error) {
	var hosts []host
	seen := make(map[string]bool)
	for _, name := range append(append([]string(nil), DefaultHosts...), more...) {
		if seen[name] || strings.ContainsAny(name, " \t\n#") || name == "" {
			return nil, fmt.Errorf("host name %q is empty, doubled or not one word", name)
		}
		seen[name] = true
		last := byte(10 + len(hosts))
		hosts = append(hosts, host{
			name: name,
			v4:   netip.AddrFrom4([4]byte{10, 88, 2, last}),
			v6:   netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x88, 3: 2, 15: last}),
		})
	}
	if len(hosts) > maxHosts {
		return nil, fmt.Errorf("%d host names, at most %d fit", len(hosts), maxHosts)
	}
	return hosts, nil
}

// Namespace returns the name of a place's namespace, as ip netns shows it.
func (n *Net) Namespace(p Place) string { return namespace(n.id, p) }

func namespace(id string, p Place) string { return "fg-" + id + "-" + p.String() }

// Addr returns a place's own address of either family; the gateway's is the
// one that the client sees.
func (n *Net) Addr(p Place, v6 bool) netip.Addr {
	link, last := byte(1), byte(1)
	switch p {
	case Client:
		last = 2
	case Server:
		link, last = 2, 2
	}
	if v6 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x88, 3: link, 15: last})
	}
	return netip.AddrFrom4([4]byte{10, 88, link, last})
}

// Lookup returns the addresses that a name has inside the lab, IPv4 first, or
// none. "v4." and "v6." in front of a name select one family.
func (n *Net) Lookup(name string) []netip.Addr {
	name4, only4 := strings.CutPrefix(name, "v4.")
	name6, only6 := strings.CutPrefix(name, "v6.")
	for _, h := range n.hosts {
		switch {
		case h.name == name:
			return []netip.Addr{h.v4, h.v6}
		case only4 && h.name == name4:
			return []netip.Addr{h.v4}
		case only6 && h.name == name6:
			return []netip.Addr{h.v6}
		}
	}
	return nil
}

// hostsFile is the /etc/hosts of all three places.
func (n *Net) hostsFile() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, h := range n.hosts {
		fmt.Fprintf(&b, "%s %s v4.%s\n%s %s v6.%s\n", h.v4, h.name, h.name, h.v6, h.name, h.name)
	}
	return b.String()
}

// ipCommand checks the preconditions and returns the path of ip. An ordinary
// user's PATH on Debian lacks /usr/sbin, and sudo may keep that PATH.
func ipCommand() (string, error) {
	if os.Geteuid() != 0 {
		return "", ErrNotRoot
	}
	for _, name := range []string{"ip", "/usr/sbin/ip", "/sbin/ip"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoIP
}
