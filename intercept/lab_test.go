package intercept

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A lab is a client, a gateway and a server in network namespaces, joined by
// veth pairs, with both families. Code runs inside by executing the test binary
// there again: the role says what it does, the argument is JSON.
//
//	client 10.99.0.2  -- cli 10.99.0.1 gateway 203.0.113.1 srv -- 203.0.113.10, .20 server
//	       fd99::2           fd99::1           2001:db8:99::1     2001:db8:99::10, ::20
type lab struct {
	t                       *testing.T
	client, gateway, server string
}

const (
	envRole = "FGI_ROLE"
	envArg  = "FGI_ARG"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		if err := roles[role]([]byte(os.Getenv(envArg))); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var labs atomic.Int32

func newLab(t *testing.T) *lab {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, cmd := range []string{"ip", "iptables", "ip6tables"} {
		if _, err := (Exec{}).find(cmd); err != nil {
			t.Skip("needs " + cmd)
		}
	}
	prefix := fmt.Sprintf("fgi-%d-%d-", os.Getpid(), labs.Add(1))
	l := &lab{t, prefix + "c", prefix + "g", prefix + "s"}
	for _, ns := range []string{l.client, l.gateway, l.server} {
		l.sh("ip netns add " + ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	}
	l.sh(fmt.Sprintf(`set -e
C="ip -n %s" G="ip -n %s" S="ip -n %s"
$C link add eth0 type veth peer name cli netns %[2]s
$S link add eth0 type veth peer name srv netns %[2]s
$C addr add 10.99.0.2/24 dev eth0
$C addr add fd99::2/64 dev eth0 nodad
$G addr add 10.99.0.1/24 dev cli
$G addr add fd99::1/64 dev cli nodad
$G addr add 203.0.113.1/24 dev srv
$G addr add 2001:db8:99::1/64 dev srv nodad
for a in 10 20; do
	$S addr add 203.0.113.$a/24 dev eth0
	$S addr add 2001:db8:99::$a/64 dev eth0 nodad
done
for n in "$C" "$S"; do $n link set lo up; $n link set eth0 up; done
for d in lo cli srv; do $G link set $d up; done
$C route add default via 10.99.0.1
$C -6 route add default via fd99::1
$S route add default via 203.0.113.1
$S -6 route add default via 2001:db8:99::1
`, l.client, l.gateway, l.server))
	l.in(l.gateway, "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	return l
}

// sh runs a script on the host.
func (l *lab) sh(script string) string {
	l.t.Helper()
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%v: %s\n%s", err, out, script)
	}
	return string(out)
}

// in runs a script in a namespace.
func (l *lab) in(ns, script string) string {
	l.t.Helper()
	out, err := exec.Command("ip", "netns", "exec", ns, "sh", "-c", script).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v: %s\n%s", ns, err, out, script)
	}
	return string(out)
}

func (l *lab) command(ns, role string, arg any, env ...string) *exec.Cmd {
	b, err := json.Marshal(arg)
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", ns, os.Args[0])
	cmd.Env = slices.Concat(os.Environ(), []string{
		envRole + "=" + role, envArg + "=" + string(b),
		"GORACE=" + os.Getenv("GORACE") + " atexit_sleep_ms=0", // else each takes a second
	}, env)
	return cmd
}

// run runs a role to its end and returns what it printed, trimmed.
func (l *lab) run(ns, role string, arg any, env ...string) string {
	out, _ := l.command(ns, role, arg, env...).Output()
	return strings.TrimSpace(string(out))
}

// start runs a role that prints "ready" and goes on until its input ends. The
// returned function ends it and gives its standard error.
func (l *lab) start(ns, role string, arg any) (stop func() string) {
	l.t.Helper()
	cmd := l.command(ns, role, arg)
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	ended := false
	stop = func() string {
		if !ended {
			ended = true
			stdin.Close()
			cmd.Wait()
		}
		return stderr.String()
	}
	l.t.Cleanup(func() { stop() })
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready\n" {
		stop()
		l.t.Fatalf("%s in %s: %s%s", role, ns, line, stderr.String())
	}
	return stop
}

func (l *lab) up(rules Rules) {
	l.t.Helper()
	if out := l.run(l.gateway, "redirect", redirectArg{"up", rules}); out != "ok" {
		l.t.Fatalf("up: %s", out)
	}
}

func (l *lab) down() {
	l.t.Helper()
	if out := l.run(l.gateway, "redirect", redirectArg{Op: "down"}); out != "ok" {
		l.t.Fatalf("down: %s", out)
	}
}

func (l *lab) status(rules Rules, env ...string) Report {
	l.t.Helper()
	var rep Report
	out := l.run(l.gateway, "redirect", redirectArg{"status", rules}, env...)
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		l.t.Fatalf("status: %s", out)
	}
	return rep
}

// saved returns the tables of the gateway without counters and dates.
func (l *lab) saved(commands ...string) string {
	var b strings.Builder
	for _, cmd := range commands {
		for line := range strings.Lines(l.in(l.gateway, cmd)) {
			switch {
			case strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, ":"):
				line, _, _ = strings.Cut(line, " [")
				b.WriteString(line + "\n")
			default:
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// dial connects from ns and returns the first line that the other side says.
func (l *lab) dial(ns, addr string) string {
	return l.run(ns, "dial", dialArg{"tcp", addr, 0})
}

var roles = map[string]func(arg []byte) error{
	"serve":        serveRole,
	"origin":       originRole,
	"dial":         dialRole,
	"redirect":     redirectRole,
	"unprivileged": unprivilegedRole,
	"relay":        relayRole,
	"witness":      witnessRole,
	"talk":         talkRole,
	"hold":         holdRole,
	"reap":         reapRole,
}

// serveRole is a gateway that tells each client where it wanted to go.
func serveRole(arg []byte) error {
	var addr string
	if err := json.Unmarshal(arg, &addr); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ln, err := Listen(ctx, addr)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go untilEOF(cancel)
	return Serve(ctx, ln, OriginalDst, func(_ context.Context, c net.Conn, dst netip.AddrPort) {
		defer c.Close()
		fmt.Fprintln(c, "gateway", dst)
	})
}

func untilEOF(cancel func()) {
	io.Copy(io.Discard, os.Stdin)
	cancel()
}

// originRole is a server: "origin" and its own address on TCP ports 443 and
// 8080, an echo on the given UDP addresses. Those are bound one by one, to
// answer from the address that was asked.
func originRole(arg []byte) error {
	var echoes []string
	if err := json.Unmarshal(arg, &echoes); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, addr := range echoes {
		udp, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		defer udp.Close()
		go echo(udp)
	}
	local := func(c net.Conn) (netip.AddrPort, error) {
		return netip.ParseAddrPort(c.LocalAddr().String())
	}
	served := make(chan error)
	for _, addr := range []string{":443", ":8080"} {
		ln, err := Listen(ctx, addr)
		if err != nil {
			return err
		}
		go func() {
			served <- Serve(ctx, ln, local, func(_ context.Context, c net.Conn, dst netip.AddrPort) {
				defer c.Close()
				fmt.Fprintln(c, "origin", dst)
			})
		}()
	}
	fmt.Println("ready")
	untilEOF(cancel)
	return errors.Join(<-served, <-served)
}

func echo(c net.PacketConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.WriteTo(b[:n], from)
		}
	}
}

type dialArg struct {
	Network, Addr string
	Mark          uint32
}

// dialRole prints the first line from a server, or an echo of "origin".
func dialRole(arg []byte) error {
	var a dialArg
	if err := json.Unmarshal(arg, &a); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := Dialer(a.Mark).DialContext(ctx, a.Network, a.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if a.Network == "udp" {
		if _, err := io.WriteString(c, "origin\n"); err != nil {
			return err
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Print(line)
	return nil
}

type redirectArg struct {
	Op    string
	Rules Rules
}

func redirectRole(arg []byte) error {
	var a redirectArg
	if err := json.Unmarshal(arg, &a); err != nil {
		return err
	}
	ctx := context.Background()
	r := Exec{}
	if dir := os.Getenv("FGI_DIR"); dir != "" {
		// Only the commands in dir exist.
		os.Setenv("PATH", dir)
		r.Dirs = []string{dir}
	}
	switch a.Op {
	case "up":
		if err := Up(ctx, r, a.Rules); err != nil {
			return err
		}
	case "down":
		if err := Down(ctx, r); err != nil {
			return err
		}
	case "status":
		rep, err := Status(ctx, r, a.Rules)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(rep)
	}
	fmt.Println("ok")
	return nil
}

// unprivilegedRole prints the errors that a user without rights gets.
func unprivilegedRole([]byte) error {
	if err := syscall.Setuid(65534); err != nil {
		return err
	}
	ctx := context.Background()
	_, statusErr := Status(ctx, Exec{}, Rules{ListenPort: 8443})
	_, dialErr := Dialer(1).Dial("tcp", "127.0.0.1:9")
	ln, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	for _, err := range []error{Up(ctx, Exec{}, Rules{ListenPort: 8443}), Down(ctx, Exec{}), statusErr, CheckMark(1), dialErr, Transparent(ln)} {
		setup := (*SetupError)(nil)
		fmt.Println(errors.As(err, &setup), err)
	}
	return CheckMark(0)
}
