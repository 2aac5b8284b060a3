package main

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"framegate/ca"
)

// The example is the documentation of the defaults, so it has to say every
// key and nothing else than the default.
func TestExampleIsTheDefault(t *testing.T) {
	name := filepath.Join("..", "..", "examples", "framegate.toml")
	c, err := loadConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	if want := defaultConfig(); !reflect.DeepEqual(c, want) {
		t.Errorf("examples/framegate.toml:\n got %+v\nwant %+v", c, want)
	}
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	seen := make(map[string]bool)
	for line := range strings.Lines(string(src)) {
		line = strings.TrimSpace(line)
		if s, ok := strings.CutPrefix(line, "["); ok {
			section, _, _ = strings.Cut(s, "]")
		} else if key, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			seen[section+"."+strings.TrimSpace(key)] = true
		}
	}
	for _, f := range defaultConfig().fields() {
		if !seen[f.key] {
			t.Errorf("examples/framegate.toml does not show %s", f.key)
		}
	}
}

func TestEmptyConfigIsTheDefault(t *testing.T) {
	for _, src := range []string{"", "# nothing\n", "[intercept]\n[admin]\n"} {
		c, err := parseConfig("f.toml", []byte(src))
		if err != nil {
			t.Fatalf("%q: %v", src, err)
		}
		if want := defaultConfig(); !reflect.DeepEqual(c, want) {
			t.Errorf("%q:\n got %+v\nwant %+v", src, c, want)
		}
	}
}

func TestConfigValues(t *testing.T) {
	c, err := parseConfig("f.toml", []byte(`
ca.leaf_validity = "90m"
audit = { level = "frames", on_failure = "gap", keep = "400d", max_size = "100GiB" }
[intercept]
listen     = ["127.0.0.1:8443", "[::1]:8443"]
explicit   = ":8080"
ports      = [443]
interfaces = ["eth0", "wg+"]
exclude    = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]
mark       = 7
quic       = "allow"
[limits]
hold            = "64KiB"
oversize        = "stream"
max_message     = "1GiB"
max_ratio       = 0
idle_timeout    = "5m"
drain_timeout   = "0s"
unknown_extension = "opaque"
max_connections = 1000
client_connections = 50
client_rate = "20/s"
client_handshakes = "30/m"
memory          = "50%"
[policy]
files = []
[tls]
upstream_roots = ["a.pem", "b.pem"]
pinned = "bypass"
[admin]
listen = "unix:/run/framegate/admin"
onboarding = "trust.corp.example"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.CA.LeafValidity = 90 * time.Minute
	want.Audit.Level, want.Audit.OnFailure = "frames", "gap"
	want.Audit.Keep, want.Audit.MaxSize = 400*24*time.Hour, 100<<30
	want.Intercept.Listen = []string{"127.0.0.1:8443", "[::1]:8443"}
	want.Intercept.Explicit = ":8080"
	want.Intercept.Ports = []uint16{443}
	want.Intercept.Interfaces = []string{"eth0", "wg+"}
	want.Intercept.Exclude = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("192.0.2.1/32"),
	}
	want.Intercept.Mark = 7
	want.Intercept.QUIC = "allow"
	want.Limits.Hold = 64 << 10
	want.Limits.Oversize = "stream"
	want.Limits.MaxMessage = 1 << 30
	want.Limits.MaxRatio = 0
	want.Limits.IdleTimeout = 5 * time.Minute
	want.Limits.DrainTimeout = 0
	want.Limits.UnknownExtension = "opaque"
	want.Limits.MaxConnections = 1000
	want.Limits.ClientConnections = 50
	want.Limits.ClientRate = rateLimit(50 * time.Millisecond)
	want.Limits.ClientHandshakes = rateLimit(2 * time.Second)
	want.Limits.Memory = 50
	want.Policy.Files = nil
	want.Admin.Listen = "unix:/run/framegate/admin"
	want.Admin.Onboarding = "trust.corp.example"
	want.TLS.Pinned = "bypass"
	want.TLS.UpstreamRoots = []string{"a.pem", "b.pem"}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestConfigProblems(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"syntax", "[intercept]\nmode = \n", `f.toml:2:8: expected value but found '\n' instead`},
		{"twice", "[audit]\nlevel = \"frames\"\nlevel = \"frames\"\n", `f.toml:3:1: key 'audit.level' has already been defined`},
		{"unknown table", "[intercept]\n\n[ports]\nx = 1\n",
			`f.toml:3:2: unknown key "ports", expected one of the tables intercept, ca, tls, limits, policy, audit, admin`},
		{"unknown dotted table", "ports.x = 1\n",
			`f.toml:1:1: unknown key "ports", expected one of the tables intercept, ca, tls, limits, policy, audit, admin`},
		{"unknown key", "[ca]\n  dri = \"x\"\n", `f.toml:2:3: unknown key "dri" in [ca], expected one of dir, leaf_validity, passphrase_file`},
		{"unknown key in an inline table", "ca = { dri = \"x\" }\n", `f.toml:1:8: unknown key "dri" in [ca], expected one of dir, leaf_validity, passphrase_file`},
		{"not a table", "ca = \"x\"\n", `f.toml:1:7: ca: got "x", expected a table`},
		{"an array of tables", "[[ca]]\ndir = \"x\"\n", `f.toml:1:1: ca: got an array of tables, expected a table`},
		{"case matters", "[ca]\nDir = \"x\"\n", `f.toml:2:1: unknown key "Dir" in [ca], expected one of dir, leaf_validity, passphrase_file`},
		{"less in all than is held", "[limits]\nhold = \"2MiB\"\nmax_message = \"1MiB\"\n",
			"f.toml:3:16: limits: max_message is 1048576 bytes, expected no less than hold, 2097152 bytes"},
		{"more held than all", "[limits]\nhold = \"65MiB\"\n",
			"f.toml:2:9: limits: max_message is 67108864 bytes, expected no less than hold, 68157440 bytes"},
		{"several", "[audit]\nlevel = \"all\"\nfoo = 1\n[limits]\nhold = 5\n",
			`f.toml:2:10: audit.level: got "all", expected "connections" or "violations" or "messages" or "frames"
f.toml:3:1: unknown key "foo" in [audit], expected one of dir, level, payload, payload_recipients, on_failure, keep, max_size, pcap_dir, pcap_max_size, checkpoint_to, checkpoint_every, witness_keys, ship, ship_queue, ship_roots, ship_cert, ship_key
f.toml:5:8: limits.hold: got 5, expected a size such as "64KiB" or "1MiB"`},
		{"several in one array", "[intercept]\nports = [443, 0, 65536, \"x\"]\n",
			`f.toml:2:10: intercept.ports: got 0, expected a number from 1 to 65535
f.toml:2:10: intercept.ports: got 65536, expected a number from 1 to 65535
f.toml:2:10: intercept.ports: got "x", expected a number from 1 to 65535`},
		{"own port captured", "[intercept]\nports = [8443]\n",
			`f.toml:2:10: intercept: port 8443 is the gateway's own listen port and cannot be captured`},
		{"own port captured by default", "[intercept]\nlisten = [\":443\"]\n",
			`f.toml:2:11: intercept: port 443 is the gateway's own listen port and cannot be captured`},
		{"two listen ports", "[intercept]\nlisten = [\"127.0.0.1:1\", \"[::1]:2\"]\n",
			`f.toml:2:11: intercept: the addresses have different ports, and rules redirect to one`},
		{"control characters", "[ca]\n\"\\u001b[2J\" = 1\n", `f.toml:2:15: unknown key "\x1b[2J" in [ca], expected one of dir, leaf_validity, passphrase_file`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseConfig("f.toml", []byte(tt.src))
			if err == nil {
				t.Fatalf("no error, got %+v", c)
			}
			if err.Error() != tt.want {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

// What is wrong with one value, after "f.toml:line:column: key: ".
func TestConfigBadValues(t *testing.T) {
	for _, tt := range []struct{ key, value, want string }{
		{"intercept.mode", `"bridge"`, `got "bridge", expected "redirect" or "tproxy"`},
		{"intercept.mode", `1`, `got 1, expected "redirect" or "tproxy"`},
		{"intercept.listen", `[]`, `got an empty array, expected at least one value`},
		{"intercept.listen", `":8443"`, `got ":8443", expected an array`},
		{"intercept.listen", `["8443"]`, `got "8443", expected "address:port" or ":port", port 1 to 65535`},
		{"intercept.listen", `[":0"]`, `got ":0", expected "address:port" or ":port", port 1 to 65535`},
		{"intercept.listen", `["localhost:1"]`, `got "localhost:1", expected "address:port" or ":port", port 1 to 65535`},
		{"intercept.explicit", `":http"`, `got ":http", expected "address:port" or ":port", port 1 to 65535`},
		{"intercept.ports", `[4.5]`, `got 4.5, expected a number from 1 to 65535`},
		{"intercept.interfaces", `["a b"]`, `interface "a b": expected a name of up to 15 letters, digits, "_", "." and "-", or a beginning and "+"`},
		{"intercept.interfaces", `["-j"]`, `interface "-j": expected a name of up to 15 letters, digits, "_", "." and "-", or a beginning and "+"`},
		{"intercept.interfaces", `["lo"]`, `interface lo carries only the gateway's own traffic and cannot be captured`},
		{"intercept.interfaces", `[1]`, `got 1, expected the name of a network interface`},
		{"intercept.exclude", `["::ffff:10.0.0.0/104"]`, `exclude ::ffff:10.0.0.0/104: write an IPv4 network as such, 10.0.0.0/n`},
		{"intercept.exclude", `["10.0.0.1/8"]`, `got "10.0.0.1/8", expected "10.0.0.0/8"`},
		{"intercept.exclude", `["10.0.0.0/33"]`, `got "10.0.0.0/33", expected a network such as "10.0.0.0/8"`},
		{"intercept.exclude", `["example.com"]`, `got "example.com", expected a network such as "10.0.0.0/8"`},
		{"intercept.mark", `0`, `got 0, expected a number from 1 to 4294967295`},
		{"intercept.mark", `0x46475450`, `mark 0x46475450 is that of packets for the gateway, in mode tproxy, and cannot be that of its sockets`},
		{"intercept.mark", `4294967296`, `got 4294967296, expected a number from 1 to 4294967295`},
		{"ca.dir", `""`, `got "", expected a path`},
		{"ca.leaf_validity", `"24h"`, `got "24h", expected a duration from "1m" to "23h29m"`},
		{"ca.leaf_validity", `"1 day"`, `got "1 day", expected a duration such as "10s", "5m" or "23h"`},
		{"tls.upstream_roots", `"a.pem"`, `got "a.pem", expected an array`},
		{"tls.client_cert", `"allow"`, `got "allow", expected "bypass" or "block"`},
		{"tls.pinned", `"learn"`, `got "learn", expected "block" or "bypass"`},
		{"limits.hold", `"0B"`, `got "0B", expected a size such as "64KiB" or "1MiB"`},
		{"limits.hold", `"1Mb"`, `got "1Mb", expected a size such as "64KiB" or "1MiB"`},
		{"limits.hold", `"B"`, `got "B", expected a size such as "64KiB" or "1MiB"`},
		{"limits.hold", `"-1B"`, `got "-1B", expected a size such as "64KiB" or "1MiB"`},
		{"limits.hold", `"9999999999GiB"`, `got "9999999999GiB", expected a size such as "64KiB" or "1MiB"`},
		{"limits.oversize", `"split"`, `got "split", expected "block" or "stream"`},
		{"limits.max_message", `"1"`, `got "1", expected a size such as "64KiB" or "1MiB"`},
		{"limits.max_ratio", `1033`, `got 1033, expected a number from 0 to 1032`},
		{"limits.max_ratio", `"10"`, `got "10", expected a number from 0 to 1032`},
		{"limits.idle_timeout", `"-1s"`, `got "-1s", expected a duration such as "10s", "5m" or "23h"`},
		{"limits.handshake_timeout", `"0s"`, `got "0s", expected more than zero`},
		{"limits.drain_timeout", `30`, `got 30, expected a duration such as "10s", "5m" or "23h"`},
		{"limits.max_connections", `-1`, `got -1, expected a number from 0 to 2147483647`},
		{"limits.memory", `"101%"`, `got "101%", expected a percentage from "1%" to "100%"`},
		{"limits.client_connections", `"5"`, `got "5", expected a number from 0 to 2147483647`},
		{"limits.client_rate", `20`, `got 20, expected a rate from "1/m" to "1000000/s", or "0/s" for none`},
		{"limits.client_rate", `"20"`, `got "20", expected a rate from "1/m" to "1000000/s", or "0/s" for none`},
		{"limits.client_rate", `"1000001/s"`, `got "1000001/s", expected a rate from "1/m" to "1000000/s", or "0/s" for none`},
		{"limits.client_handshakes", `"-1/s"`, `got "-1/s", expected a rate from "1/m" to "1000000/s", or "0/s" for none`},
		{"limits.client_handshakes", `"1/h"`, `got "1/h", expected a rate from "1/m" to "1000000/s", or "0/s" for none`},
		{"limits.memory", `75`, `got 75, expected a percentage from "1%" to "100%"`},
		{"policy.files", `["[a"]`, `got "[a", expected a glob pattern`},
		{"policy.files", `[[]]`, `got an empty array, expected a path`},
		{"audit.level", `"everything"`, `got "everything", expected "connections" or "violations" or "messages" or "frames"`},
		{"audit.payload", `"some"`, `got "some", expected "none" or "redacted" or "full"`},
		{"audit.payload", `"full"`, `"full" needs audit.payload_recipients, those who may read what is sealed`},
		{"audit.payload_recipients", `["age1nobody"]`, `got "age1nobody", expected an age recipient ("age1...") or the path of a file with some`},
		{"audit.payload_recipients", `["a.txt"]`, `payloads are sealed with audit.payload = "full", got "none"`},
		{"audit.keep", `"400"`, `got "400", expected a time of at least an hour such as "400d" or "12h", or "0s" for ever`},
		{"audit.keep", `"1.5d"`, `got "1.5d", expected a time of at least an hour such as "400d" or "12h", or "0s" for ever`},
		{"audit.keep", `"-400d"`, `got "-400d", expected a time of at least an hour such as "400d" or "12h", or "0s" for ever`},
		{"audit.keep", `"5s"`, `got "5s", expected a time of at least an hour such as "400d" or "12h", or "0s" for ever`},
		{"audit.keep", `400`, `got 400, expected a time of at least an hour such as "400d" or "12h", or "0s" for ever`},
		{"audit.max_size", `"1MiB"`, `got "1MiB", expected a size of at least 64MiB such as "100GiB", or "0B" for no limit`},
		{"audit.max_size", `"100"`, `got "100", expected a size of at least 64MiB such as "100GiB", or "0B" for no limit`},
		{"audit.checkpoint_to", `["https://w.example/"]`, `https://w.example/ is a witness: expected its public key in audit.witness_keys`},
		{"audit.checkpoint_to", `["http://w.example/"]`, `"http://w.example/": without TLS only loopback is reached, expected https://`},
		{"audit.checkpoint_every", `"0s"`, `got "0s", expected more than zero`},
		{"audit.witness_keys", `["w"]`, `not the public key of a witness: expected "name+hash+data"`},
		{"audit.ship", `["syslog+udp://siem"]`, `"syslog+udp://siem": expected a URL with syslog+tcp://, syslog+tls://, otlp+https://, otlp+http://`},
		{"audit.ship", `[1]`, `got 1, expected a string`},
		{"audit.ship_queue", `"1KiB"`, `got "1KiB", expected "1MiB" or more`},
		{"audit.ship_cert", `"cert.pem"`, `a certificate without audit.ship_key`},
		{"audit.ship_key", `"key.pem"`, `a key without audit.ship_cert`},
		{"audit.on_failure", `"ignore"`, `got "ignore", expected "block" or "gap"`},
		{"admin.listen", `"9470"`, `got "9470", expected "address:port" or ":port", port 1 to 65535`},
		{"admin.listen", `1979-05-27`, `got a date, expected "address:port" or ":port", port 1 to 65535`},
		{"admin.onboarding", `"Framegate.internal"`, `got "Framegate.internal", expected a host name in lower case with a dot, such as "framegate.internal"`},
		{"admin.onboarding", `"framegate"`, `got "framegate", expected a host name in lower case with a dot, such as "framegate.internal"`},
		{"admin.onboarding", `"192.0.2.1"`, `got "192.0.2.1", expected a host name in lower case with a dot, such as "framegate.internal"`},
		{"admin.listen", `{ a = 1 }`, `got a table, expected "address:port" or ":port", port 1 to 65535`},
	} {
		t.Run(tt.key+"="+tt.value, func(t *testing.T) {
			_, err := parseConfig("f.toml", []byte(tt.key+" = "+tt.value+"\n"))
			if err == nil {
				t.Fatal("no error")
			}
			var p *problem
			if !errors.As(err, &p) || p.line != 1 || p.col <= len(tt.key) {
				t.Errorf("position of %v", err)
			}
			if _, got, _ := strings.Cut(err.Error(), tt.key+": "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLeafValidityIsThatOfTheAuthority(t *testing.T) {
	for d, ok := range map[time.Duration]bool{
		minLeafValidity:                   true,
		minLeafValidity - time.Nanosecond: false,
		maxLeafValidity:                   true,
		maxLeafValidity + time.Nanosecond: false,
	} {
		_, err := ca.Load(filepath.Join(t.TempDir(), "none"), ca.Options{LeafValidity: d})
		if accepted := errors.Is(err, ca.ErrNoAuthority); accepted != ok {
			t.Errorf("%v: package ca says %v", d, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "framegate.toml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add("[audit]\nlevel = \"all\"\nfoo = 1\n")
	f.Add("a.b.c = 1\n[[ca]]\n[tls]\nupstream_roots = [[{a = 1}]]\n")
	f.Add("intercept = {ports = [1, \"x\"], mark = 1e9}\n")
	f.Fuzz(func(t *testing.T, src string) {
		c, err := parseConfig("f.toml", []byte(src))
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v and error %v", c, err)
		}
		if err == nil {
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "f.toml:") {
				t.Errorf("a problem without a place: %q", line)
			}
		}
	})
}
