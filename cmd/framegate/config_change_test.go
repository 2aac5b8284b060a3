package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// effects is what a reload does with each key: all of them, so that a new one
// cannot be forgotten. value is another than the default, shown how the log
// shows the change. with is a further line that it needs.
var effects = []struct {
	key, value, shown, with string
	effect                  effect
}{
	{"intercept.mode", `"tproxy"`, `"tproxy", before "redirect"`, "", atRestart},
	{"intercept.listen", `[":9443", "127.0.0.1:9443"]`, `[":9443", "127.0.0.1:9443"], before [":8443"]`, "", live},
	{"intercept.explicit", `":8080"`, `":8080", before ""`, "", live},
	{"intercept.ports", `[443]`, `[443], before [80, 443]`, "", live},
	{"intercept.interfaces", `["eth1"]`, `["eth1"], before []`, "", atRules},
	{"intercept.exclude", `["10.0.0.0/8"]`, `["10.0.0.0/8"], before []`, "", atRules},
	{"intercept.mark", `7`, `7, before 17991`, "", live},
	{"intercept.quic", `"allow"`, `"allow", before "block"`, "", atRules},
	{"ca.dir", `"\u202e\n"`, `"\u202e\n", before "/var/lib/framegate/ca"`, "", fresh},
	{"ca.leaf_validity", `"90m"`, `"1h30m", before "23h"`, "", fresh},
	{"ca.passphrase_file", `"p"`, `"p", before ""`, "", fresh},
	{"tls.upstream_roots", `["a.pem"]`, `["a.pem"], before []`, "", fresh},
	{"tls.crls", `["a.crl"]`, `["a.crl"], before []`, "", fresh},
	{"tls.revocation", `"require"`, `"require", before "staple"`, "", fresh},
	{"tls.client_cert", `"block"`, `"block", before "bypass"`, "", fresh},
	{"tls.pinned", `"bypass"`, `"bypass", before "block"`, "", fresh},
	{"limits.hold", `"64KiB"`, `"64KiB", before "1MiB"`, "", fresh},
	{"limits.oversize", `"stream"`, `"stream", before "block"`, "", fresh},
	{"limits.max_message", `"128MB"`, `"128MB", before "64MiB"`, "", fresh},
	{"limits.max_ratio", `0`, `0, before 256`, "", fresh},
	{"limits.unknown_extension", `"opaque"`, `"opaque", before "block"`, "", fresh},
	{"limits.handshake_timeout", `"1m"`, `"1m", before "10s"`, "", fresh},
	{"limits.idle_timeout", `"24h"`, `"24h", before "0s"`, "", fresh},
	{"limits.drain_timeout", `"1m30s"`, `"1m30s", before "30s"`, "", live},
	{"limits.drain_spread", `"1m"`, `"1m", before "10s"`, "", live},
	{"limits.handover_timeout", `"1h"`, `"1h", before "0s"`, "", live},
	{"limits.max_connections", `5`, `5, before 0`, "", fresh},
	{"limits.memory", `"50%"`, `50, before 75`, "", fresh},
	{"limits.client_connections", `5`, `5, before 0`, "", fresh},
	{"limits.client_rate", `"90/m"`, `"90/m", before "0/s"`, "", fresh},
	{"limits.client_handshakes", `"7/s"`, `"7/s", before "0/s"`, "", fresh},
	{"policy.files", `["a.toml"]`, `["a.toml"], before ["/etc/framegate/policy.d/*.toml"]`, "", live},
	{"audit.dir", `"log"`, `"log", before "/var/lib/framegate/audit"`, "", live},
	{"audit.level", `"frames"`, `"frames", before "messages"`, "", live},
	{"audit.payload", `"redacted"`, `"redacted", before "none"`, "", live},
	{"audit.payload_recipients", `["b"]`, `["b"], before []`, "audit.payload = \"full\"", fresh},
	{"audit.on_failure", `"gap"`, `"gap", before "block"`, "", live},
	{"audit.keep", `"400d"`, `"9600h", before "0s"`, "", live},
	{"audit.max_size", `"100GiB"`, `"100GiB", before "0B"`, "", live},
	{"audit.pcap_dir", `"pcap"`, `"pcap", before ""`, "", live},
	{"audit.pcap_max_size", `"16MiB"`, `"16MiB", before "1GiB"`, "", live},
	{"audit.checkpoint_to", `["file:///mnt/a"]`, `["file:///mnt/a"], before []`, "", live},
	{"audit.checkpoint_every", `"1s"`, `"1s", before "10s"`, "", live},
	{"audit.witness_keys", `["w+d41461e9+BAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"]`, `["w+d41461e9"], before []`, "audit.checkpoint_to = [\"https://w.example/\"]", live},
	{"audit.ship", `["syslog+tls://a.example"]`, `["syslog+tls://a.example"], before []`, "", live},
	{"audit.ship_queue", `"1MiB"`, `"1MiB", before "16MiB"`, "", live},
	{"audit.ship_roots", `["a.pem"]`, `["a.pem"], before []`, "", live},
	{"audit.ship_cert", `"c.pem"`, `"c.pem", before ""`, "audit.ship_key = \"k.pem\"", live},
	{"audit.ship_key", `"k.pem"`, `"k.pem", before ""`, "audit.ship_cert = \"c.pem\"", live},
	{"admin.listen", `"unix:admin.sock"`, `"unix:admin.sock", before "127.0.0.1:9470"`, "", live},
	{"admin.pprof", `true`, `true, before false`, "admin.listen = \"unix:a\"", live},
	{"admin.onboarding", `""`, `"", before "framegate.internal"`, "", live},
}

func TestEveryKeyHasAnEffect(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	takes := map[effect]string{live: "at once", fresh: "new connections", atRules: "with `framegate redirect up`", atRestart: "restart"}
	left := make(map[string]effect)
	for _, f := range defaultConfig().fields() {
		left[f.key] = f.effect
	}
	for _, tt := range effects {
		t.Run(tt.key, func(t *testing.T) {
			if got, ok := left[tt.key]; !ok || got != tt.effect {
				t.Errorf("effect %v, expected %v", got, tt.effect)
			}
			delete(left, tt.key)
			src := tt.key + " = " + tt.value + "\n" + tt.with + "\n"
			c, err := parseConfig("f.toml", []byte(src))
			if err != nil {
				t.Fatal(err)
			}
			all := defaultConfig().changesTo(c)
			if !strings.Contains("; "+all.String()+";", "; "+tt.key+": "+tt.shown+";") || !all.in(tt.key) {
				t.Errorf("the log has %s", all)
			}
			if tt.with == "" && len(all) != 1 {
				t.Errorf("%d changes: %s", len(all), all)
			}
			again, err := parseConfig("f.toml", []byte(src))
			if err != nil || len(c.changesTo(again)) > 0 {
				t.Errorf("changed without a change: %s (%v)", c.changesTo(again), err)
			}
			row := regexp.MustCompile("(?m)^\\| (`[^|]*)?`" + regexp.QuoteMeta(tt.key) + "`[^|]*\\| " + takes[tt.effect])
			if !row.Match(page) {
				t.Errorf("docs/OPERATIONS.md has no row that says %q", takes[tt.effect])
			}
		})
	}
	for key := range left {
		t.Errorf("%s: what does a reload do with it?", key)
	}
}

// A list of thousands of networks does not make the record too long.
func TestLongChange(t *testing.T) {
	c, next := defaultConfig(), defaultConfig()
	for i := range 1 << 16 {
		next.Intercept.Exclude = append(next.Intercept.Exclude, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i)}), 32))
	}
	if got := c.changesTo(next).String(); len(got) > 1000 || !strings.HasPrefix(got, `intercept.exclude: ["10.0.0.0/32", "10.0.1.0/32", `) || !strings.HasSuffix(got, " bytes), before []") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

func TestShowValue(t *testing.T) {
	for want, v := range map[string]any{
		`"23h29m"`: 23*time.Hour + 29*time.Minute,
		`"1m30s"`:  90 * time.Second,
		`"0s"`:     time.Duration(0),
		`"100ms"`:  100 * time.Millisecond,
		`"1001B"`:  int64(1001),
		`"10/m"`:   rateLimit(6 * time.Second),
		`"1/s"`:    rateLimit(time.Second),
	} {
		if got := showValue(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	for _, rate := range []string{"1/m", "59/m", "61/m", "90/m", "3/s", "7/s", "999/s", "1000000/s"} {
		l, err := perTime(rate)
		if got := showValue(l); err != nil || got != `"`+rate+`"` {
			t.Errorf("%s: %s (%v)", rate, got, err)
		}
	}
}

// A gateway that has lost its file keeps what it has; one that never had one
// reads it as soon as it is there. The flags of the start stand.
func TestConfigSource(t *testing.T) {
	name := filepath.Join(t.TempDir(), "framegate.toml")
	s := configSource{file: name, optional: true, policies: []string{"flag.toml"}, shadow: []string{"trial.toml"}}
	load := func(hold int64) {
		t.Helper()
		c, err := s.load()
		if err != nil {
			t.Fatal(err)
		}
		if c.Limits.Hold != hold || c.Policy.Files[0] != "flag.toml" || c.Policy.Shadow[0] != "trial.toml" {
			t.Errorf("%+v", c)
		}
	}
	load(1 << 20)
	if err := os.WriteFile(name, []byte("limits.hold = \"1KiB\"\npolicy.files = [\"file.toml\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load(1 << 10)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := s.load(); err == nil || !strings.Contains(err.Error(), "was there before") {
		t.Errorf("the file is gone: %v", err)
	}
	named := configSource{file: name}
	if _, err := named.load(); err == nil {
		t.Error("a file that was named and is not there")
	}
}
