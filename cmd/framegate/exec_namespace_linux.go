package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"framegate/intercept"
)

// The addresses of the command. It has no others, and the network of this
// machine none of these: one is for benchmarks (RFC 2544, Appendix C), the other a
// unique local one (RFC 4193), by which programs with a choice take IPv4 (RFC
// 6724, Section 5, rule 6). That is the safe choice: what they connect to at once
// is we, whether or not this machine gets to the server.
var (
	execAddr4 = netip.AddrFrom4([4]byte{198, 18, 0, 1})
	execAddr6 = netip.MustParseAddr("fd46:4753:6578::1")
)

// An execNamespace is the network and the mounts of one command. They have no
// name, and are gone with the last process and socket in them.
//
// There is no interface but lo, and a route by which every address is this
// machine's own. What the command sends to anybody arrives here, and TPROXY
// gives each new TCP connection to our listener, but for those to the loopback
// at which the command itself listens. So nothing is translated, nothing has to be
// tracked, and there is no way out that a rule would have to close.
type execNamespace struct {
	listener net.Listener
	relays   []*resolverRelay
	thread   *nsThread
	net, mnt nsID
	own      bool // net is not that of this machine
}

// newExecNamespace makes the network. Name servers are relayed to.
func newExecNamespace(ctx context.Context, resolvers []netip.Addr) (_ *execNamespace, err error) {
	n := &execNamespace{thread: newNSThread()}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	families := execFamilies(own)
	return n, n.thread.do(func() (err error) {
		if err := unshare(); err != nil {
			return err
		}
		if n.net, err = nsIDOf("thread-self", "net"); err != nil {
			return err
		}
		if n.mnt, err = nsIDOf("thread-self", "mnt"); err != nil {
			return err
		}
		n.own = true
		if _, err := (intercept.Exec{}).Run(ctx, execLinks(families), "ip", "-batch", "-"); err != nil {
			return fmt.Errorf("the network of the command: %w", err)
		}
		if n.listener, err = intercept.Listen(ctx, ":0"); err != nil {
			return err
		}
		if err := intercept.Transparent(n.listener); err != nil {
			return err
		}
		port := n.listener.Addr().(*net.TCPAddr).Port
		for _, f := range families {
			if _, err := (intercept.Exec{}).Run(ctx, f.rules(port, resolvers), f.command, "--wait=10"); err != nil {
				return fmt.Errorf("the rules of the command: %w", err)
			}
		}
		for _, server := range resolvers {
			if !hasFamily(families, server) {
				continue
			}
			r, err := newResolverRelay(server)
			if err != nil {
				return err
			}
			n.relays = append(n.relays, r)
			go r.serve()
		}
		return nil
	})
}

// unshare gives the calling thread a network and mounts of its own.
func unshare() error {
	err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS)
	what := fmt.Errorf("namespaces: %w", os.NewSyscallError("unshare", err))
	switch {
	case err == nil:
		// What is mounted on the machine from now on is seen here, and not the reverse.
		return os.NewSyscallError("mount", unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""))
	case errors.Is(err, unix.EPERM):
		return usage(what).hint("a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN for this, and a seccomp profile that lets it")
	case errors.Is(err, unix.ENOSPC):
		return usage(what).hint("sysctl user.max_net_namespaces and user.max_mnt_namespaces say how many there may be")
	}
	return usage(what).hint("the kernel needs CONFIG_NET_NS")
}

// An execFamily is what IPv4 and IPv6 do not share.
type execFamily struct {
	command  string // loads rules
	own      netip.Addr
	loopback netip.Prefix
	all      netip.Prefix
	reject   string
	atOnce   string // the address can be used without looking for another one who has it
}

var (
	execIPv4 = execFamily{"iptables-restore", execAddr4, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0"), "icmp-port-unreachable", ""}
	execIPv6 = execFamily{"ip6tables-restore", execAddr6, netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("::/0"), "icmp6-port-unreachable", " nodad"}
)

// execFamilies are IPv4, and IPv6 if this machine has an address for more than
// its links: else the command finds at once that there is none, as it would
// outside.
func execFamilies(own []net.Addr) []execFamily {
	for _, a := range own {
		if p, ok := a.(*net.IPNet); ok && p.IP.To4() == nil && p.IP.IsGlobalUnicast() {
			return []execFamily{execIPv4, execIPv6}
		}
	}
	return []execFamily{execIPv4}
}

func hasFamily(families []execFamily, a netip.Addr) bool {
	for _, f := range families {
		if f.own.Is4() == a.Is4() {
			return true
		}
	}
	return false
}

// execLinks is the input of ip -batch.
func execLinks(families []execFamily) string {
	var b strings.Builder
	b.WriteString("link set lo up\n")
	for _, f := range families {
		fmt.Fprintf(&b, "address add %s dev lo%s\n", netip.PrefixFrom(f.own, f.own.BitLen()), f.atOnce)
		fmt.Fprintf(&b, "route add local %s dev lo src %s\n", f.all, f.own)
	}
	return b.String()
}

// rules renders what brings TCP to port, keeps UDP to DNS, and refuses the rest
// at once, so that what is tried by QUIC is tried by TCP next.
func (f execFamily) rules(port int, resolvers []netip.Addr) string {
	var b strings.Builder
	any := f.all.Addr()
	b.WriteString("*mangle\n")
	for _, dst := range []netip.Prefix{f.loopback, netip.PrefixFrom(f.own, f.own.BitLen())} {
		// Those at which the command listens by itself.
		fmt.Fprintf(&b, "-A PREROUTING -d %s -p tcp -m socket --nowildcard -j ACCEPT\n", dst)
	}
	fmt.Fprintf(&b, "-A PREROUTING -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j TPROXY --on-port %d --on-ip %s\n", port, any)
	b.WriteString("COMMIT\n*filter\n-A OUTPUT -p tcp -j ACCEPT\n")
	for _, dst := range []netip.Prefix{f.loopback, netip.PrefixFrom(f.own, f.own.BitLen())} {
		fmt.Fprintf(&b, "-A OUTPUT -d %s -j ACCEPT\n", dst)
	}
	for _, a := range resolvers {
		if a.Is4() == f.own.Is4() {
			fmt.Fprintf(&b, "-A OUTPUT -d %s -p udp -m udp --dport %d -j ACCEPT\n", netip.PrefixFrom(a, a.BitLen()), resolverPort)
		}
	}
	fmt.Fprintf(&b, "-A OUTPUT -j REJECT --reject-with %s\nCOMMIT\n", f.reject)
	return b.String()
}

// start runs the command in the namespace, as the user, with files of its own in
// place of some of this machine's. It dies with us.
func (n *execNamespace) start(command *exec.Cmd, u *execUser, mounts []execMount) error {
	return n.thread.do(func() error {
		for _, m := range mounts {
			if err := unix.Mount(m.from, m.to, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("trust of the command: %w", &os.PathError{Op: "mount", Path: m.to, Err: err})
			}
		}
		// The signal comes when this thread ends, which it does with close.
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: u.credential}
		err := command.Start()
		switch {
		case errors.Is(err, unix.EACCES):
			return usage(err).hint("the user %s may not run it", u.name)
		case errors.Is(err, unix.ENOEXEC):
			return usage(err).hint("it is no program for this machine, or a script without #!")
		case errors.Is(err, unix.ENOENT):
			return usage(err).hint("the interpreter that it names is missing")
		}
		return err
	})
}

// listenAt listens for UDP at an address that only a route makes local.
func listenAt(at netip.AddrPort) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) (err error) {
		level, option := unix.SOL_IP, unix.IP_FREEBIND
		if at.Addr().Is6() {
			level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
		}
		if cerr := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }); cerr != nil {
			return cerr
		}
		return os.NewSyscallError("setsockopt", err)
	}}
	c, err := lc.ListenPacket(context.Background(), "udp", at.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// wait waits for the command.
func (n *execNamespace) wait(command *exec.Cmd) error { return n.thread.do(command.Wait) }

// close gives the namespace back. No process may be left in it.
func (n *execNamespace) close() {
	if n.listener != nil {
		n.listener.Close()
	}
	for _, r := range n.relays {
		r.conn.Close()
	}
	n.thread.end()
}

// An nsThread is a thread that enters namespaces. It never is anything else's, and
// ends instead of carrying goroutines there.
type nsThread struct{ work chan func() }

func newNSThread() *nsThread {
	t := &nsThread{make(chan func())}
	ready := make(chan struct{})
	go t.loop(ready)
	<-ready
	return t
}

// loop works until the channel is closed. The first thread of the process cannot
// end, and is what /proc/self shows; so if it is that, another one takes the work.
func (t *nsThread) loop(ready chan struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		go t.loop(ready)
		<-ready
		runtime.UnlockOSThread()
		return
	}
	close(ready)
	for f := range t.work {
		f()
	}
}

// do calls f on the thread.
func (t *nsThread) do(f func() error) error {
	done := make(chan error)
	t.work <- func() { done <- f() }
	return <-done
}

func (t *nsThread) end() { close(t.work) }
