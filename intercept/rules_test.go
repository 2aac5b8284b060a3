package intercept

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

func prefixes(s ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range s {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

var renderCases = []struct {
	name  string
	rules Rules
}{
	{"default", Rules{ListenPort: 8443, Mark: 0x4647}},
	{"exclude", Rules{ListenPort: 8443, Mark: 0x4647, Exclude: prefixes("10.1.2.3/8", "192.0.2.7/32", "2001:db8::1/32", "fd00::/8")}},
	{"exclude-family", Rules{ListenPort: 8443, Exclude: prefixes("0.0.0.0/0")}},
	{"interfaces", Rules{ListenPort: 8443, Mark: 1, Interfaces: []string{"wlan0", "eth1.20", "tap+", "wlan0"}}},
	{"quic-allow", Rules{Mode: "redirect", ListenPort: 9000, Mark: 0xffffffff, Ports: []uint16{443}, QUIC: "allow"}},
	{"ports", Rules{ListenPort: 1, QUIC: "block", Ports: []uint16{
		443, 80, 65535, 443, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009, 8010, 8011, 8012, 8013}}},
	{"tproxy", Rules{Mode: "tproxy", ListenPort: 8443, Mark: 0x4647}},
	{"tproxy-all", Rules{Mode: "tproxy", ListenPort: 8443, Mark: 0x4647, Interfaces: []string{"wlan0", "tap+"}, QUIC: "allow",
		Exclude: prefixes("192.0.2.0/24", "fd00::/8"), Ports: []uint16{443, 80, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009, 8010, 8011, 8012, 8013, 8014}}},
}

func TestRender(t *testing.T) {
	for _, tc := range renderCases {
		if err := tc.rules.Validate(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		for _, f := range []family{ipv4, ipv6} {
			golden(t, tc.name+"."+f.name, transition(ruleset{}, tc.rules.ruleset(f)))
		}
	}
}

func TestShow(t *testing.T) {
	script, err := Show(renderCases[1].rules)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "show.sh", script)
	script, err = Show(Rules{Mode: "tproxy", ListenPort: 8443, Mark: 0x4647})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "show-tproxy.sh", script)
	if _, err := Show(Rules{}); err == nil {
		t.Error("Show of rules without a listen port did not fail")
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rules Rules
		want  []string // parts of the error, all of them
	}{
		{"zero", Rules{}, []string{"listen port 0"}},
		{"mode", Rules{ListenPort: 1, Mode: "TPROXY"}, []string{`mode "TPROXY" is unknown, expected "redirect" or "tproxy"`}},
		{"mark", Rules{ListenPort: 1, Mark: CaptureMark}, []string{"mark 0x46475450 is that of packets for the gateway"}},
		{"quic", Rules{ListenPort: 1, QUIC: "drop"}, []string{`quic "drop" is unknown, expected "block" or "allow"`}},
		{"port 0", Rules{ListenPort: 1, Ports: []uint16{0}}, []string{"port 0 cannot be captured"}},
		{"own port", Rules{ListenPort: 8443, Ports: []uint16{443, 8443}}, []string{"port 8443 is the gateway's own"}},
		{"all at once", Rules{Mode: "x", QUIC: "y", Interfaces: []string{""}}, []string{`mode "x"`, `quic "y"`, `interface ""`, "listen port 0"}},
		{"lo", Rules{ListenPort: 1, Interfaces: []string{"lo"}}, []string{"interface lo carries"}},
		{"long", Rules{ListenPort: 1, Interfaces: []string{"abcdefghijklmnop"}}, []string{`interface "abcdefghijklmnop"`}},
		{"injection", Rules{ListenPort: 1, Interfaces: []string{"eth0\n-A INPUT -j DROP"}}, []string{`interface "eth0\n-A INPUT`}},
		{"option", Rules{ListenPort: 1, Interfaces: []string{"-j"}}, []string{`interface "-j"`}},
		{"negation", Rules{ListenPort: 1, Interfaces: []string{"!eth0"}}, []string{`interface "!eth0"`}},
		{"inner plus", Rules{ListenPort: 1, Interfaces: []string{"a+b"}}, []string{`interface "a+b"`}},
		{"dots", Rules{ListenPort: 1, Interfaces: []string{".."}}, []string{`interface ".."`}},
		{"prefix", Rules{ListenPort: 1, Exclude: []netip.Prefix{{}}}, []string{"exclude: invalid network"}},
		{"mapped", Rules{ListenPort: 1, Exclude: prefixes("::ffff:10.0.0.0/104")}, []string{"write an IPv4 network as such, 10.0.0.0/n"}},
	} {
		err := tc.rules.Validate()
		if err == nil {
			t.Errorf("%s: no error", tc.name)
			continue
		}
		for _, part := range tc.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %q lacks %q", tc.name, err, part)
			}
		}
	}
	ok := Rules{ListenPort: 1, Interfaces: []string{"e", "eth0", "br-lan", "enp0s31f6.4094", "abcdefghijklmno", "veth+"}}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
}
