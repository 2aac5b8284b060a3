package intercept

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	mark    = 0x4647
	server4 = "203.0.113.10"
	server6 = "[2001:db8:99::10]"
	other4  = "203.0.113.20"
	other6  = "[2001:db8:99::20]"
)

// foreign are rules of others, one of which looks like ours.
const foreign = `set -e
for ipt in %s; do
	$ipt -t nat -N OTHERS
	$ipt -t nat -A PREROUTING -p tcp -m tcp --dport 9999 -m comment --comment 'see "-j FRAMEGATE "' -j OTHERS
	$ipt -t nat -A POSTROUTING -p udp -j RETURN
	$ipt -t filter -A FORWARD -p udp -m udp --dport 9999 -j ACCEPT
	$ipt -t filter -A INPUT -i lo -j ACCEPT
	$ipt -t raw -A OUTPUT -p udp -m udp --dport 53 -j CT --notrack
	$ipt -t mangle -A PREROUTING -p tcp -m tcp --dport 9999 -j MARK --set-mark 5
done`

func addForeign(l *lab, commands string) {
	l.in(l.gateway, strings.Replace(foreign, "%s", commands, 1))
}

func TestCapture(t *testing.T) {
	l := newLab(t)
	l.start(l.server, "origin", []string{server4 + ":443", server6 + ":443", other4 + ":443", other6 + ":443"})
	l.start(l.gateway, "origin", []string{}) // the gateway's own web server
	stop := l.start(l.gateway, "serve", ":8443")
	rules := Rules{ListenPort: 8443, Mark: mark, Exclude: prefixes(other4+"/32", "2001:db8:99::20/128")}
	l.up(rules)

	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	// IPv4 arrives mapped, the listener being dual stack.
	for _, addr := range []string{server4 + ":443", server6 + ":443", server4 + ":80", server6 + ":80"} {
		expect("captured", l.dial(l.client, addr), "gateway "+addr)
	}
	for _, addr := range []string{server4 + ":8080", server6 + ":8080"} {
		expect("port not captured", l.dial(l.client, addr), origin(addr))
	}
	for _, addr := range []string{other4 + ":443", other6 + ":443"} {
		expect("excluded", l.dial(l.client, addr), origin(addr))
	}
	for _, addr := range []string{"10.99.0.1:443", "[fd99::1]:443"} {
		expect("the gateway itself", l.dial(l.client, addr), origin(addr))
	}
	for _, addr := range []string{"10.99.0.1:8443", "[fd99::1]:8443"} {
		if got := l.dial(l.client, addr); !strings.Contains(got, "connection reset by peer") {
			t.Errorf("straight to the port: got %q", got)
		}
	}

	t.Run("quic", func(t *testing.T) {
		for _, addr := range []string{server4 + ":443", server6 + ":443"} {
			if got := l.run(l.client, "dial", dialArg{"udp", addr, 0}); !strings.Contains(got, "connection refused") {
				t.Errorf("QUIC to %s: got %q", addr, got)
			}
		}
		for _, addr := range []string{other4 + ":443", other6 + ":443"} {
			expect("QUIC excluded", l.run(l.client, "dial", dialArg{"udp", addr, 0}), "origin")
		}
		rep := l.status(rules)
		if rep.State != StateUp {
			t.Errorf("status %+v", rep)
		}
		for _, f := range rep.Families {
			if f.Captured != 2 || f.Rejected < 1 {
				t.Errorf("counters %+v, want 2 captured and some rejected", f)
			}
		}
		allow := rules
		allow.QUIC = "allow"
		l.up(allow)
		for _, addr := range []string{server4 + ":443", server6 + ":443"} {
			expect("QUIC allowed", l.run(l.client, "dial", dialArg{"udp", addr, 0}), "origin")
		}
	})

	t.Run("mark", func(t *testing.T) {
		// On the way in, as set by an administrator or kept over a local link.
		l.in(l.gateway, `set -e; for i in iptables ip6tables; do
			$i -t mangle -A PREROUTING -p tcp --dport 443 -j MARK --set-mark 0x4647
		done`)
		for _, addr := range []string{server4 + ":443", server6 + ":443"} {
			expect("marked", l.dial(l.client, addr), origin(addr))
		}
		l.in(l.gateway, "iptables -t mangle -F; ip6tables -t mangle -F")
		// On the gateway's own sockets, captured here unless they bear it.
		l.in(l.gateway, `set -e; for i in iptables ip6tables; do
			$i -t nat -A OUTPUT -p tcp --dport 443 -m mark ! --mark 0x4647 -j REDIRECT --to-ports 8443
		done`)
		for _, addr := range []string{server4 + ":443", server6 + ":443"} {
			expect("own socket, no mark", l.dial(l.gateway, addr), "gateway "+addr)
			expect("own socket, marked", l.run(l.gateway, "dial", dialArg{"tcp", addr, mark}), origin(addr))
		}
		l.in(l.gateway, "iptables -t nat -F OUTPUT; ip6tables -t nat -F OUTPUT")
	})

	t.Run("interfaces", func(t *testing.T) {
		l.up(Rules{ListenPort: 8443, Interfaces: []string{"srv", "nosuch0"}})
		expect("not through cli", l.dial(l.client, server4+":443"), origin(server4+":443"))
		l.up(Rules{ListenPort: 8443, Interfaces: []string{"cl+"}})
		expect("through cli", l.dial(l.client, server6+":443"), "gateway "+server6+":443")
	})

	t.Run("IPv4 socket", func(t *testing.T) {
		l.start(l.gateway, "serve", "0.0.0.0:8444")
		l.up(Rules{ListenPort: 8444})
		expect("captured", l.dial(l.client, server4+":443"), "gateway "+server4+":443")
	})

	log := stop()
	if n := strings.Count(log, "connection refused"); n != 2 {
		t.Errorf("%d lines on refused connections, want 2:\n%s", n, log)
	}
	for _, want := range []string{"client=10.99.0.2:", "local=10.99.0.1:8443", "client=[fd99::2]:", ErrNotRedirected.Error()} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
}

// origin is what the server at addr says, which is reached untouched.
func origin(addr string) string {
	return "origin " + addr
}

// variants are the two implementations of iptables, as directories that stand
// in for PATH. The kernel need not know the legacy one.
func variants(t *testing.T, l *lab) map[string]string {
	dirs := map[string]string{}
	for _, variant := range []string{"nft", "legacy"} {
		dir := t.TempDir()
		linkCommands(t, dir, "ip")
		for _, cmd := range []string{"iptables", "ip6tables"} {
			for _, part := range []string{"", "-save", "-restore"} {
				path, err := (Exec{}).find(cmd + "-" + variant + part)
				if err != nil {
					continue
				}
				// The name that a command is called by selects its part.
				script := "#!/bin/sh\nexec " + path + " \"$@\"\n"
				if err := os.WriteFile(filepath.Join(dir, cmd+part), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		if exec.Command("ip", "netns", "exec", l.gateway, filepath.Join(dir, "iptables"), "-t", "nat", "-S").Run() == nil {
			dirs[variant] = dir
		}
	}
	if len(dirs) == 0 {
		t.Fatal("no variant of iptables works")
	}
	return dirs
}

// linkCommands puts commands of this machine into dir.
func linkCommands(t *testing.T, dir string, commands ...string) {
	t.Helper()
	for _, cmd := range commands {
		path, err := (Exec{}).find(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, cmd)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUpDown(t *testing.T) {
	l := newLab(t)
	for name, dir := range variants(t, l) {
		t.Run(name, func(t *testing.T) {
			env := "FGI_DIR=" + dir
			redirect := func(op string, rules Rules) {
				t.Helper()
				if out := l.run(l.gateway, "redirect", redirectArg{op, rules}, env); out != "ok" {
					t.Fatalf("%s: %s", op, out)
				}
			}
			saves := []string{dir + "/iptables-save", dir + "/ip6tables-save"}
			addForeign(l, dir+"/iptables "+dir+"/ip6tables")
			saves = append(saves, "ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all | grep -v ' f[ef][08]0:' | grep -v ^f[ef][08]0: | sort")
			before := l.saved(saves...)
			for _, tc := range renderCases {
				if rep := l.status(tc.rules, env); rep.State != StateDown {
					t.Errorf("status before up: %+v", rep)
				}
				redirect("up", tc.rules)
				once := l.saved(saves...)
				redirect("up", tc.rules)
				if twice := l.saved(saves...); twice != once {
					t.Errorf("%s: up twice gives\n%s\nonce\n%s", tc.name, twice, once)
				}
				if rep := l.status(tc.rules, env); rep.State != StateUp || rep.Families[0].Detail != nil || rep.Families[1].Detail != nil {
					t.Errorf("%s: status after up: %+v", tc.name, rep)
				}
				redirect("down", Rules{})
				if after := l.saved(saves...); after != before {
					t.Errorf("%s: down leaves\n%s\nof\n%s", tc.name, after, before)
				}
				redirect("down", Rules{})
			}
		})
	}
}

func TestPartialFailure(t *testing.T) {
	l := newLab(t)
	addForeign(l, "iptables ip6tables")
	old := Rules{ListenPort: 8443, Exclude: prefixes("192.0.2.0/24", "fd00::/8")}
	wanted := Rules{ListenPort: 9443, QUIC: "allow"}
	saves := []string{"iptables-save", "ip6tables-save"}

	// The real commands, save that ip6tables-restore fails once.
	dir := t.TempDir()
	linkCommands(t, dir, "iptables-save", "iptables-restore", "ip6tables-save")
	missing := filepath.Join(dir, "ip6tables-restore")

	for _, before := range []*Rules{nil, &old} {
		if before != nil {
			l.up(*before)
		}
		was := l.saved(saves...)
		for what, want := range map[string]string{
			"":                                 "change ipv6 rules: ip6tables-restore not found; hint: apt install iptables; the rules are as they were before",
			"#!/bin/sh\necho boom >&2; exit 7": "change ipv6 rules: ip6tables-restore --noflush --wait=10: exit status 7: boom; the rules are as they were before",
		} {
			os.Remove(missing)
			if what != "" {
				if err := os.WriteFile(missing, []byte(what), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			got := l.run(l.gateway, "redirect", redirectArg{"up", wanted}, "FGI_DIR="+dir)
			if got != "error: "+want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if now := l.saved(saves...); now != was {
				t.Errorf("a failed up leaves\n%s\nof\n%s", now, was)
			}
		}
	}
	// Without ip6tables-save nothing is begun.
	os.Remove(filepath.Join(dir, "ip6tables-save"))
	got := l.run(l.gateway, "redirect", redirectArg{"up", wanted}, "FGI_DIR="+dir)
	if want := "error: read ipv6 rules: ip6tables-save not found; hint: apt install iptables"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestConcurrent(t *testing.T) {
	l := newLab(t)
	addForeign(l, "iptables ip6tables")
	before := l.saved("iptables-save", "ip6tables-save")
	all := []Rules{{ListenPort: 8443}, {ListenPort: 8444, QUIC: "allow"}, {ListenPort: 8445}}
	var wg sync.WaitGroup
	for i := range 12 {
		arg := redirectArg{"up", all[i%3]}
		if i%4 == 3 {
			arg.Op = "down"
		}
		wg.Go(func() {
			if out := l.run(l.gateway, "redirect", arg); out != "ok" {
				t.Errorf("%s: %s", arg.Op, out)
			}
		})
	}
	wg.Wait()
	// Whoever was last, both families have the same, and it is whole.
	var states []State
	for _, rules := range all {
		states = append(states, l.status(rules).State)
	}
	if !slices.Contains(states, StateUp) && !slices.Equal(states, []State{StateDown, StateDown, StateDown}) {
		t.Errorf("states %v of\n%s", states, l.saved("iptables-save", "ip6tables-save"))
	}
	l.down()
	if after := l.saved("iptables-save", "ip6tables-save"); after != before {
		t.Errorf("left\n%s\nof\n%s", after, before)
	}
}

func TestShowRuns(t *testing.T) {
	l := newLab(t)
	for _, tc := range renderCases {
		script, err := Show(tc.rules)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l.in(l.gateway, script)
			if rep := l.status(tc.rules); rep.State != StateUp {
				t.Errorf("%s: the script gives %+v", tc.name, rep)
			}
		}
		l.down()
	}
}

func TestUnprivileged(t *testing.T) {
	l := newLab(t)
	got := l.run(l.gateway, "unprivileged", nil)
	lines := strings.Split(got, "\n")
	want := []string{"run as root", "run as root", "you must be root", "needs CAP_NET_ADMIN", "needs CAP_NET_ADMIN", `intercept.mode "tproxy" needs CAP_NET_ADMIN`}
	if len(lines) != len(want) {
		t.Fatalf("got\n%s", got)
	}
	for i, part := range want {
		if !strings.HasPrefix(lines[i], "true ") || !strings.Contains(lines[i], part) {
			t.Errorf("got %q, want a SetupError with %q", lines[i], part)
		}
	}
}

func TestLock(t *testing.T) {
	newLab(t)
	unlock, err := Exec{}.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (Exec{}).lock(ctx); err == nil || !strings.Contains(err.Error(), "another change of the redirect rules") {
		t.Errorf("second lock: %v", err)
	}
	unlock()
	unlock, err = Exec{}.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
