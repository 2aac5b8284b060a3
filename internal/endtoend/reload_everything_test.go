package endtoend

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
)

// A setting is a key of framegate.toml with two values that a reload goes to and
// fro between.
type setting struct {
	key    string
	values [2]string // of the file; "": the key is not there
}

// everything has each key but intercept.mode, which a reload refuses.
func (s *site) everything() []setting {
	q := func(name string) string { return fmt.Sprintf("%q", s.path(name)) }
	return []setting{
		{"intercept.listen", [2]string{`[":8443"]`, `[":8444"]`}},
		{"intercept.explicit", [2]string{`":8080"`, `":8081"`}},
		{"intercept.ports", [2]string{`[80, 443]`, `[80, 443, 8000]`}},
		{"intercept.exclude", [2]string{`[]`, `["192.0.2.0/24"]`}},
		{"intercept.mark", [2]string{"", `0x4648`}},
		{"intercept.quic", [2]string{"", `"allow"`}},
		{"ca.dir", [2]string{q("ca"), q("ca2")}},
		{"ca.leaf_validity", [2]string{"", `"1h"`}},
		{"ca.passphrase_file", [2]string{"", q("passphrase")}},
		{"tls.crls", [2]string{"", "[]"}},
		{"tls.revocation", [2]string{"", `"require"`}},
		{"tls.client_cert", [2]string{"", `"block"`}},
		{"tls.pinned", [2]string{"", `"bypass"`}},
		{"limits.hold", [2]string{"", `"4KiB"`}},
		{"limits.oversize", [2]string{"", `"stream"`}},
		{"limits.max_message", [2]string{"", `"1GiB"`}},
		{"limits.max_ratio", [2]string{"", "10"}},
		{"limits.unknown_extension", [2]string{"", `"opaque"`}},
		{"limits.handshake_timeout", [2]string{"", `"20s"`}},
		{"limits.idle_timeout", [2]string{"", `"1ms"`}}, // which ends no live connection
		{"limits.drain_timeout", [2]string{`"1s"`, `"2s"`}},
		{"limits.drain_spread", [2]string{"", `"0s"`}},
		{"limits.handover_timeout", [2]string{"", `"1h"`}},
		{"limits.max_connections", [2]string{"", "1"}},
		{"limits.memory", [2]string{"", `"99%"`}},
		{"limits.client_connections", [2]string{"", "1"}},
		{"limits.client_rate", [2]string{"", `"1/m"`}},
		{"limits.client_handshakes", [2]string{"", `"1/m"`}},
		{"policy.files", [2]string{"[" + q("policy.toml") + "]", "[" + q("policy.toml") + ", " + q("more.toml") + "]"}},
		{"audit.dir", [2]string{q("audit"), q("audit2")}},
		{"audit.level", [2]string{`"frames"`, ""}},
		{"audit.payload", [2]string{"", `"full"`}},
		{"audit.payload_recipients", [2]string{"", `["age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"]`}},
		{"audit.on_failure", [2]string{"", `"gap"`}},
		{"audit.keep", [2]string{"", `"400d"`}},
		{"audit.max_size", [2]string{"", `"100GiB"`}},
		{"audit.pcap_dir", [2]string{q("pcap"), q("pcap2")}},
		{"audit.pcap_max_size", [2]string{`"16MiB"`, `"32MiB"`}},
		{"audit.checkpoint_to", [2]string{"", `["file://` + s.path("checkpoints") + `"]`}},
		{"audit.checkpoint_every", [2]string{"", `"1s"`}},
		{"audit.ship", [2]string{"", `["syslog+tcp://127.0.0.1:6514"]`}},
		{"audit.ship_queue", [2]string{"", `"1MiB"`}},
		{"audit.ship_roots", [2]string{"", "[" + q("origin-root.pem") + "]"}},
		{"admin.listen", [2]string{"", `"unix:` + s.path("admin.sock") + `"`}},
		{"admin.pprof", [2]string{"", "true"}},
		{"admin.onboarding", [2]string{"", `"other.internal"`}},
	}
}

// configure writes framegate.toml with the values of one side.
func (s *site) configure(t *testing.T, all []setting, side int) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "intercept.interfaces = [%q]\ntls.upstream_roots = [%q]\n", lab.ClientLink, s.path("origin-root.pem"))
	for _, x := range all {
		if v := x.values[side]; v != "" {
			fmt.Fprintf(&b, "%s = %s\n", x.key, v)
		}
	}
	s.write(t, "framegate.toml", b.String())
}

// TestReloadEverything: a live WebSocket goes on while every key of the
// configuration changes, to and fro. No message is lost or altered, all are on
// record, and both logs are whole.
func TestReloadEverything(t *testing.T) {
	const reloads = 20
	s := newSite(t, settings{policy: rule("first", "alpha", "log")})
	s.write(t, "more.toml", rule("second", "omega", "log"))
	s.write(t, "passphrase", "no key here is encrypted\n")
	if err := os.Chmod(s.path("passphrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.framegate(t, "ca", "init", "--dir", s.path("ca2"))
	ln, err := s.Listen(t.Context(), lab.Gateway, "tcp", "127.0.0.1:6514") // takes what is shipped
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var shipped atomic.Int64
	go takeAll(ln, &shipped)
	all := s.everything()
	s.configure(t, all, 0)
	g := s.start(t)

	sockets := make([]*clients.Raw, 0, 2)
	for _, network := range families {
		c := s.wss(t, network, chatHost)
		if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?everything")); err != nil {
			t.Fatal(err)
		}
		sockets = append(sockets, c)
	}
	sent := map[string]int{}
	talk := func(i int) {
		t.Helper()
		for _, c := range sockets {
			text := fmt.Sprintf("message %d of %s", i, c.LocalAddr())
			sent[text] = 2 // to the server and back
			c.Send(true, frames.Text, []byte(text))
			if _, payload, err := c.Frame(); err != nil || string(payload) != text {
				t.Fatalf("%q (%v), expected %q\n%s", payload, err, text, g.console)
			}
		}
	}
	talk(0)
	for i := 1; i <= reloads; i++ {
		s.configure(t, all, i%2)
		g.signal(t, syscall.SIGHUP)
		g.console.waitTimes(t, i, "configuration loaded")
		talk(i)
	}
	// What was given up is: the address, and what was there.
	g.signal(t, syscall.SIGHUP)
	g.console.waitTimes(t, 1, "configuration unchanged")

	for _, c := range sockets {
		c.Send(true, frames.Close, []byte("\x03\xe8"))
		c.Frame()
		c.Close()
	}
	g.signal(t, syscall.SIGTERM)
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, g.console)
	}
	got := map[string]int{}
	loads := 0
	for _, dir := range []string{"audit", "audit2"} {
		if out := s.framegate(t, "audit", "verify", "--dir", s.path(dir)); !strings.Contains(out, "intact") {
			t.Errorf("audit verify: %s", out)
		}
		r, err := audit.NewReader(s.path(dir), audit.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for rec, err := range r.Records() {
			switch {
			case err != nil:
				t.Fatal(err)
			case rec.Event == audit.WSMessage:
				got[fmt.Sprintf("%s size %d", rec.Client, rec.Size)]++
			case rec.Event == audit.AuditGap || rec.Event == audit.ConfigReject:
				t.Errorf("%s", rec.Raw)
			case rec.Event == audit.ConfigLoad:
				loads++
				for _, x := range all {
					if x.values != [2]string{"", "[]"} && !strings.Contains(rec.Reason, x.key+": ") {
						t.Errorf("%s is not in %s", x.key, rec.Reason)
					}
				}
			}
		}
	}
	if loads != reloads {
		t.Errorf("%d records of config.load, expected %d", loads, reloads)
	}
	want := map[string]int{}
	for text, n := range sent {
		client := text[strings.LastIndex(text, " ")+1:]
		want[fmt.Sprintf("%s size %d", client, len(text))] += n
	}
	if !maps.Equal(got, want) {
		t.Errorf("recorded\n%v, expected\n%v", got, want)
	}
	// The live WebSockets went on in the files of each directory.
	for side, dir := range []string{"pcap", "pcap2"} {
		files, err := filepath.Glob(s.path(dir) + "/*.pcapng")
		if err != nil {
			t.Fatal(err)
		}
		var packets []byte
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			packets = append(packets, b...)
		}
		for i := side; i <= reloads; i += 2 {
			for _, c := range sockets {
				if text := fmt.Sprintf("message %d of %s", i, c.LocalAddr()); !bytes.Contains(packets, []byte(text)) {
					t.Errorf("%q is not in %s", text, dir)
				}
			}
		}
	}
	if b, err := os.ReadFile(s.path("checkpoints")); err != nil || len(b) == 0 {
		t.Errorf("no checkpoint was shipped (%v)", err)
	}
	if shipped.Load() == 0 {
		t.Error("no record was shipped")
	}
}

// TestReloadRejected: whatever is wrong, nothing changes, and it is said, recorded
// and counted.
func TestReloadRejected(t *testing.T) {
	s := newSite(t, settings{policy: rule("first", "alpha", "drop")})
	g := s.start(t)
	c := s.wss(t, "tcp4", chatHost)
	if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?rejected")); err != nil {
		t.Fatal(err)
	}
	busy, err := s.Listen(t.Context(), lab.Gateway, "tcp", ":9999")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	good, err := os.ReadFile(s.path("framegate.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "bad.toml", "[[rule]]\nactoin = 1\n")
	with := func(lines string) string {
		key, _, _ := strings.Cut(lines, " ")
		section, name, _ := strings.Cut(key, ".")
		src := regexp.MustCompile(`(?m)^`+name+` *=.*\n`).ReplaceAllString(string(good), "")
		return strings.Replace(src, "["+section+"]", "["+section+"]\n"+strings.TrimPrefix(lines, section+"."), 1)
	}
	for i, tt := range []struct{ name, src, want string }{
		{"a value", with(`limits.hold = "none"`) + "\nfoo = 1\n", `framegate.toml:`},
		{"syntax", string(good) + "\n[[[", `framegate.toml:`},
		{"a busy port", with(`intercept.explicit = ":9999"`), "intercept.explicit: "},
		{"a busy port", with(`intercept.listen = [":9999"]`), "intercept.listen: "},
		{"our own port", with(`intercept.explicit = "127.0.0.1:8080"`), "this gateway listens on the port by another address"},
		{"the mode", with(`intercept.mode = "tproxy"`), "intercept.mode: cannot change while the gateway runs"},
		{"a policy", with(`policy.files = ["` + s.path("bad.toml") + `"]`), "bad.toml:2:1: "},
		{"no authority", with(`ca.dir = "` + s.path("none") + `"`), "none"},
		{"roots", with(`tls.upstream_roots = ["` + s.path("bad.toml") + `"]`), "tls.upstream_roots: "},
		{"a log that is none", strings.Replace(string(good), s.path("audit"), s.path("policy.toml"), 1), "audit.dir: "},
		{"a directory for packets", with(`audit.pcap_dir = "` + s.path("policy.toml") + `"`), "policy.toml"},
		{"no file", "", "framegate.toml: no such file"},
	} {
		// The drain timeout must not come with the rest.
		src := strings.Replace(tt.src, `drain_timeout = "1s"`, `drain_timeout = "1h"`, 1)
		if s.write(t, "framegate.toml", src); src == "" {
			os.Remove(s.path("framegate.toml"))
		}
		g.signal(t, syscall.SIGHUP)
		if r := g.log.waitFor(t, audit.ConfigReject, i+1); !strings.Contains(r.Reason, tt.want) {
			t.Errorf("%s: %s", tt.name, r)
		}
		g.console.wait(t, "configuration rejected, the one in force stays", tt.want)
		c.Send(true, frames.Text, []byte("alpha"))
		c.Send(true, frames.Text, []byte(tt.name))
		if _, payload, err := c.Frame(); err != nil || string(payload) != tt.name {
			t.Fatalf("%s: %q (%v)", tt.name, payload, err)
		}
	}
	x, _ := g.scrape(t)
	if n := x.sum("framegate_reloads_total", "what", "config", "outcome", "rejected"); n != 12 {
		t.Errorf("%v rejected loads are counted", n)
	}
	if list := g.log.all(t); len(ledger(list).all(audit.PolicyLoad)) != 1 || len(ledger(list).all(audit.ConfigLoad)) != 0 {
		t.Error("something was loaded")
	}
	s.write(t, "framegate.toml", string(good))
	g.signal(t, syscall.SIGHUP)
	g.console.wait(t, "configuration unchanged")
	g.signal(t, syscall.SIGTERM)
	g.console.wait(t, "draining: no new connections", "timeout=1s")
	g.signal(t, syscall.SIGHUP)
	g.console.wait(t, "reload refused")
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, g.console)
	}
	g.log.waitFor(t, audit.GatewayStop, 1)
	checkWholeLog(t, g.log)
}

// takeAll reads whatever comes to ln, and counts the bytes.
func takeAll(ln net.Listener, taken *atomic.Int64) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			n, _ := io.Copy(io.Discard, c)
			taken.Add(n)
		}()
	}
}
