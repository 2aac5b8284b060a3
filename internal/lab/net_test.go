package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// helper names, in the environment, what this test binary does instead of
// running tests.
const helper = "FRAMEGATE_LAB_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helper) {
	case "":
		os.Exit(m.Run())
	case "up": // makes a network, says its id and never takes it down
		n, err := Up(context.Background(), Options{})
		if err == nil {
			// A process which the death of its parent does not reach.
			err = n.Command(context.Background(), Server, "sh", "-c", "setsid sleep 600 & echo $!").Run()
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(n.id)
		select {}
	case "not root":
		if err := syscall.Seteuid(65534); err != nil {
			fmt.Println(err)
		}
		_, err := Up(context.Background(), Options{})
		fmt.Println(errors.Is(err, ErrNotRoot), errors.Is(Sweep(), ErrNotRoot))
	}
}

func up(t *testing.T, o Options) *Net {
	t.Helper()
	n, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Down(); err != nil {
			t.Error(err)
		}
		if left := n.Leftovers(); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	return n
}

func TestEveryNameLeadsToTheServer(t *testing.T) {
	n := up(t, Options{Hosts: []string{"more.demo.test"}})
	ln, err := n.Listen(t.Context(), Server, "tcp", "[::]:443")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	seen := make(map[netip.Addr]string)
	for _, name := range append(slices.Clone(DefaultHosts), "more.demo.test") {
		for _, family := range []string{"tcp4", "tcp6"} {
			conn, err := n.Dial(t.Context(), Client, family, name+":443")
			if err != nil {
				t.Fatal(err)
			}
			peer, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			dialled := netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr()
			if other, ok := seen[dialled]; ok {
				t.Errorf("%s and %s share %s", name, other, dialled)
			}
			seen[dialled] = name
			if got := netip.MustParseAddrPort(peer.LocalAddr().String()).Addr().Unmap(); got != dialled {
				t.Errorf("%s %s: dialled %s, arrived at %s", family, name, dialled, got)
			}
			want := n.Addr(Client, family == "tcp6")
			if got := netip.MustParseAddrPort(peer.RemoteAddr().String()).Addr().Unmap(); got != want {
				t.Errorf("%s %s: came from %s, want %s", family, name, got, want)
			}
			conn.Close()
			peer.Close()
		}
	}
}

func TestProgramsResolveAsTheLabDoes(t *testing.T) {
	n := up(t, Options{})
	for _, name := range []string{"chat.demo.test", "v4.chat.demo.test", "v6.bank.demo.test"} {
		for _, p := range places {
			out, err := n.Command(t.Context(), p, "getent", "ahosts", name).Output()
			if err != nil {
				t.Fatalf("%s in %s: %v", name, p, err)
			}
			var got []netip.Addr
			for line := range strings.Lines(string(out)) {
				if a := netip.MustParseAddr(strings.Fields(line)[0]); !slices.Contains(got, a) {
					got = append(got, a)
				}
			}
			slices.SortFunc(got, netip.Addr.Compare)
			if want := n.Lookup(name); !slices.Equal(got, want) {
				t.Errorf("%s in %s: %v, want %v", name, p, got, want)
			}
		}
	}
	if a := n.Lookup("nowhere.test"); a != nil {
		t.Errorf("nowhere.test resolves to %v", a)
	}
	if _, err := n.Dial(t.Context(), Client, "tcp6", "v4.chat.demo.test:443"); !errors.Is(err, errNoHost) {
		t.Errorf("v4 name over tcp6: %v", err)
	}
}

func TestUpRefusesBadNames(t *testing.T) {
	for _, hosts := range [][]string{{""}, {"a b"}, {"a.test", "a.test"}, {DefaultHosts[0]}, make([]string, 300)} {
		if n, err := Up(t.Context(), Options{Hosts: hosts}); err == nil {
			n.Down()
			t.Errorf("%q: no error", hosts)
		}
	}
}

func TestUpUndoesAHalf(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Up(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	owners, _ := filepath.Glob(ownerPrefix + "*")
	for _, path := range owners {
		if pid, _ := os.ReadFile(path); string(pid) == fmt.Sprintf("%d\n", os.Getpid()) {
			t.Errorf("%s is left", path)
		}
	}
}

// A program started by another one that left its group still goes with Down.
func TestDownEndsEverything(t *testing.T) {
	n := up(t, Options{})
	cmd := n.Command(context.Background(), Client, "sh", "-c", "setsid sleep 600 & echo started; exec sleep 600")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if left := n.Leftovers(); len(left) < 7+2 {
		t.Errorf("before Down only %q", left)
	}
	done := make(chan error)
	for range 2 { // twice at the same time, and the cleanup is the third
		go func() { done <- n.Down() }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	io.Copy(io.Discard, stdout)
	if err := cmd.Wait(); err == nil {
		t.Error("the program ended by itself")
	}
	if left := n.Leftovers(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := n.Command(context.Background(), Client, "true").Run(); err == nil {
		t.Error("a command ran after Down")
	}
}

func TestCommandEndsWithItsContext(t *testing.T) {
	n := up(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cmd := n.Command(ctx, Gateway, "sh", "-c", "sleep 600 & echo started; wait")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	io.Copy(io.Discard, stdout) // ends when the last of the group is dead
	if err := cmd.Wait(); err == nil {
		t.Error("the program ended by itself")
	}
}

func TestLabsDoNotMeet(t *testing.T) {
	a, b := up(t, Options{}), up(t, Options{})
	for _, n := range []*Net{a, b} {
		ln, err := n.Listen(t.Context(), Server, "tcp", "[::]:80")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			for {
				c, err := ln.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				io.WriteString(c, n.id)
				c.Close()
			}
		}()
	}
	for _, n := range []*Net{a, b} {
		c, err := n.Dial(t.Context(), Client, "tcp", "chat.demo.test:80")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		c.Close()
		if err != nil || string(got) != n.id {
			t.Errorf("met %q, want %q (%v)", got, n.id, err)
		}
	}
	a.Down()
	if left := b.Leftovers(); len(left) < 7 {
		t.Errorf("b lost something to a's end: only %q", left)
	}
}

func TestSweepTakesOnlyTheDead(t *testing.T) {
	alive := up(t, Options{})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helper+"=up")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dead := &Net{id: strings.TrimSpace(id)}
	for _, p := range places {
		if dead.handle[p], err = os.Stat(filepath.Join(netnsDir, dead.Namespace(p))); err != nil {
			t.Fatalf("helper said %q: %v", id, err)
		}
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if left := dead.Leftovers(); len(left) != 7+1 {
		t.Errorf("swept although its owner lives: only %q", left)
	}

	cmd.Process.Kill()
	cmd.Wait()
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if left := dead.Leftovers(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if left := alive.Leftovers(); len(left) != 7 {
		t.Errorf("the living one has only %q", left)
	}
}

func TestNotRoot(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helper+"=not root")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "true true\n" {
		t.Errorf("%s (%v)", out, err)
	}
}

// iptables in the gateway redirects what crosses it, and the process that
// accepts learns nothing of it from the socket's own address.
func TestGatewayRedirects(t *testing.T) {
	n := up(t, Options{})
	for _, tool := range []string{"iptables", "ip6tables"} {
		cmd := n.Command(t.Context(), Gateway, tool, "-t", "nat", "-A", "PREROUTING", "-i", ClientLink,
			"-p", "tcp", "--dport", "443", "-j", "REDIRECT", "--to-ports", "8443")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", tool, err, out)
		}
	}
	ln, err := n.Listen(t.Context(), Gateway, "tcp", ":8443")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, family := range []string{"tcp4", "tcp6"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := n.Dial(ctx, Client, family, "chat.demo.test:443")
		if err != nil {
			t.Fatal(err)
		}
		got, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if netip.MustParseAddrPort(got.LocalAddr().String()).Port() != 8443 {
			t.Errorf("%s: arrived at %s", family, got.LocalAddr())
		}
		c.Close()
		got.Close()
	}
}
