package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func mustParse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("a.toml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

func TestHostPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"bank.example",
			[]string{"bank.example", "BANK.Example", "bank.example.", "bank.example:443", "bank.example.:443"},
			[]string{"", "www.bank.example", "bank.example.org", "bankxexample", "bank", "bank.example..", "bank.example/"}},
		{"Bank.Example.", []string{"bank.example"}, []string{"example"}},
		{"*.bank.example",
			[]string{"www.bank.example", "WWW.bank.example:8443"},
			[]string{"", "bank.example", "a.b.bank.example", "wwwbank.example"}},
		{"**.bank.example",
			[]string{"bank.example", "www.bank.example", "a.b.c.bank.example."},
			[]string{"", "abank.example", "bank.example.org"}},
		{"www.*.example", []string{"www.a.example"}, []string{"www.example", "www.a.b.example"}},
		{"**.a.**.example", []string{"a.example", "x.a.example", "x.a.y.z.example", "a.a.example"}, []string{"x.y.example", "a.example.x"}},
		{"**", []string{"a", "a.b", "10.0.0.1", "[::1]:443"}, []string{""}},
		{"*", []string{"localhost"}, []string{"a.b", ""}},
		// One name, whichever form it comes in: U-label, A-label, full-width
		// letters and the ideographic full stop.
		{"bücher.example",
			[]string{"xn--bcher-kva.example", "XN--BCHER-KVA.example", "BÜCHER.example", "bu\u0308cher.example", "bücher\u3002example:443", "bücher.ｅxample"},
			[]string{"bucher.example"}},
		{"xn--bcher-kva.example", []string{"bücher.example"}, []string{"buecher.example"}},
		// Non-transitional: this is not "strasse".
		{"straße.example", []string{"xn--strae-oqa.example"}, []string{"strasse.example"}},
		{"**.übung.example", []string{"a.xn--bung-zra.example"}, nil},
		{"under_score.example", []string{"UNDER_score.example"}, nil},
		// What IDNA refuses is still a name that a wildcard matches.
		{"**.example", []string{"\u0378.example", "-.example", "\xff.example"}, nil},
		{"10.0.0.1", []string{"10.0.0.1", "10.0.0.1:443", "::ffff:10.0.0.1", "[::ffff:a00:1]:443"}, []string{"10.0.0.10", "10.0.0.1.example"}},
		{"2001:db8::1", []string{"2001:DB8::1", "[2001:db8:0::1]", "[2001:db8::1]:443", "2001:db8::1%eth0"}, []string{"2001:db8::11"}},
		{"[2001:db8::1]", []string{"2001:db8::1"}, nil},
	} {
		p, err := parseHost(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		for i, host := range append(c.yes, c.no...) {
			if got, want := hostMatches([]hostPattern{p}, host), i < len(c.yes); got != want {
				t.Errorf("%q on %q: got %t, want %t", c.pattern, host, got, want)
			}
		}
	}
}

func TestCIDR(t *testing.T) {
	for _, c := range []struct {
		network string
		yes, no []string
	}{
		{"10.0.0.0/8", []string{"10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"}, []string{"11.0.0.0", "::10.1.2.3", "2001:db8::1"}},
		{"192.0.2.7", []string{"192.0.2.7", "::ffff:192.0.2.7"}, []string{"192.0.2.8"}},
		{"::ffff:192.0.2.7", []string{"192.0.2.7"}, []string{"192.0.2.8"}},
		{"::ffff:192.0.2.0/120", []string{"192.0.2.255", "::ffff:192.0.2.1"}, []string{"192.0.3.0"}},
		{"2001:db8::/32", []string{"2001:db8::1", "2001:db8:ffff::"}, []string{"2001:db9::", "10.0.0.1"}},
		{"fe80::/10", []string{"fe80::1%eth0"}, nil},
		{"0.0.0.0/0", []string{"1.2.3.4"}, []string{"::1"}},
		{"::/0", []string{"::1"}, []string{"1.2.3.4", "::ffff:1.2.3.4"}},
	} {
		p, err := parseCIDR(c.network)
		if err != nil {
			t.Errorf("%q: %v", c.network, err)
			continue
		}
		for i, addr := range append(c.yes, c.no...) {
			if got, want := contains([]netip.Prefix{p}, netip.MustParseAddr(addr)), i < len(c.yes); got != want {
				t.Errorf("%s on %s: got %t, want %t", c.network, addr, got, want)
			}
		}
	}
	if p, _ := parseCIDR("10.0.0.0/8"); contains([]netip.Prefix{p}, netip.Addr{}) {
		t.Error("an unknown address is in a network")
	}
}

func TestConnection(t *testing.T) {
	p := mustParse(t, `
[[connection]]
id       = "guests"
client   = ["192.0.2.0/24", "2001:db8:9::/48"]
decision = "block"

[[connection]]
id       = "test-machine"
client   = ["10.0.0.7"]
host     = ["**.bank.example"]
decision = "inspect"

[[connection]]
id       = "banking"
host     = ["**.bank.example", "*.savings.example"]
decision = "bypass"

[[connection]]
id       = "backup"
server   = ["203.0.113.0/24"]
host     = ["**"]
decision = "bypass"
`)
	for _, c := range []struct {
		client, server, host string
		want                 string
	}{
		{"10.0.0.1", "198.51.100.1", "chat.example", "inspect "},
		{"10.0.0.1", "198.51.100.1", "", "inspect "},
		{"10.0.0.1", "198.51.100.1", "www.bank.example", "bypass banking"},
		{"10.0.0.1", "198.51.100.1", "a.savings.example:443", "bypass banking"},
		{"10.0.0.1", "198.51.100.1", "savings.example", "inspect "},
		{"10.0.0.7", "198.51.100.1", "www.bank.example", "inspect test-machine"},
		{"::ffff:10.0.0.7", "198.51.100.1", "www.bank.example", "inspect test-machine"},
		{"10.0.0.7", "198.51.100.1", "a.savings.example", "bypass banking"},
		{"192.0.2.9", "198.51.100.1", "www.bank.example", "block guests"},
		{"::ffff:192.0.2.9", "203.0.113.5", "", "block guests"},
		{"2001:db8:9::1", "2001:db8::1", "", "block guests"},
		{"10.0.0.1", "203.0.113.5", "x.example", "bypass backup"},
		{"10.0.0.1", "::ffff:203.0.113.5", "x.example", "bypass backup"},
		// Nothing can be said of a name that is not known, not even by "**".
		{"10.0.0.1", "203.0.113.5", "", "inspect "},
	} {
		d := p.Connection(Flow{
			Client: netip.AddrPortFrom(netip.MustParseAddr(c.client), 40000),
			Server: netip.AddrPortFrom(netip.MustParseAddr(c.server), 443),
			Host:   c.host,
		})
		if got := fmt.Sprintf("%v %s", d.Action, d.Rule); got != c.want {
			t.Errorf("%s to %s (%s): got %q, want %q", c.client, c.server, c.host, got, c.want)
		}
	}
	if d := mustParse(t, "").Connection(Flow{}); d != (Decision{}) {
		t.Errorf("the empty policy: got %v", d)
	}
}

// The order of the files is the order of their paths.
func TestConnectionOrder(t *testing.T) {
	for i, want := range []string{"first", "second"} {
		a, b := i, 1-i
		p := mustLoad(t, map[string]string{
			strconv.Itoa(a) + ".toml": "[[connection]]\nid = \"first\"\ndecision = \"block\"\n",
			strconv.Itoa(b) + ".toml": "[[connection]]\nid = \"second\"\ndecision = \"bypass\"\n",
		})
		if d := p.Connection(Flow{}); d.Rule != want {
			t.Errorf("got %v, want %s", d, want)
		}
	}
}

// A name that may be that of a front is taken for good unless the entry says
// otherwise, and one entry says which connections may carry other hosts.
func TestConnectionNames(t *testing.T) {
	p := mustParse(t, `
[[connection]]
id       = "bank"
host     = ["bank.example"]
decision = "bypass"

[[connection]]
id       = "shared"
host     = ["*.front.example"]
decision = "bypass"
ech      = "inspect"

[[connection]]
id       = "blocked"
host     = ["blocked.example"]
decision = "block"

[[connection]]
id       = "old-client"
host     = ["old.example"]
decision = "inspect"
fronting = "allow"
`)
	for _, c := range []struct {
		host string
		ech  bool
		want Decision
	}{
		{"bank.example", false, Decision{Action: Bypass, Rule: "bank"}},
		{"bank.example", true, Decision{Action: Bypass, Rule: "bank"}},
		{"a.front.example", false, Decision{Action: Bypass, Rule: "shared"}},
		{"a.front.example", true, Decision{Action: Inspect, Rule: "shared"}},
		{"blocked.example", true, Decision{Action: Block, Rule: "blocked"}},
		{"old.example", false, Decision{Action: Inspect, Rule: "old-client", Fronting: true}},
		{"else.example", true, Decision{}},
	} {
		if got := p.Connection(Flow{Host: c.host, ECH: c.ech}); got != c.want {
			t.Errorf("%s, ech %v: got %+v, want %+v", c.host, c.ech, got, c.want)
		}
	}
}

func TestNormalHost(t *testing.T) {
	for _, c := range []struct{ host, want string }{
		{"", ""},
		{"a.example", "a.example"},
		{"A.Example.", "a.example"},
		{"a.example:443", "a.example"},
		{"A.EXAMPLE.:8443", "a.example"},
		{"a.example:", "a.example"},
		{"a.example..", "a.example.."},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"bu\u0308cher.example", "xn--bcher-kva.example"},
		{"XN--Bcher-KVA.example", "xn--bcher-kva.example"},
		{"a。example", "a.example"},                // an ideographic full stop
		{"ｅｘａｍｐｌｅ．org", "example.org"},            // full width
		{"\u212aelvin.example", "kelvin.example"}, // the Kelvin sign
		{"straße.example", "xn--strae-oqa.example"},
		{"a_b.example", "a_b.example"},
		{"127.0.0.1", "127.0.0.1"},
		{"127.0.0.1:443", "127.0.0.1"},
		{"[::1]", "::1"},
		{"[::1]:443", "::1"},
		{"[0:0::1]", "::1"},
		{"[2001:DB8::1]:443", "2001:db8::1"},
		{"[::ffff:192.0.2.1]", "192.0.2.1"},
		{"[fe80::1%25eth0]", "fe80::1"},
		{"127.1", "127.1"}, // no address to anybody but inet_aton
	} {
		if got := NormalHost(c.host); got != c.want {
			t.Errorf("%q: got %q, want %q", c.host, got, c.want)
		}
	}
}

// A form is compared that is always the same: however often it is made, and
// whatever a name wears on top of it.
func FuzzNormalHost(f *testing.F) {
	for _, s := range []string{"", "a.example.:443", "bücher.example", "[::1]:443", "[[::1]]", "ａ。example..", "xn--\x80.", "1.2.3.4:5", "\u212a.", "\u04c0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		form := NormalHost(s)
		if again := NormalHost(form); again != form {
			t.Fatalf("%q: %q, and of that %q", s, form, again)
		}
		if !isASCII(form) || form == "" || strings.ContainsAny(form, ":[]") {
			return
		}
		for _, dressed := range []string{strings.ToUpper(form), form + ":443", form + "."} {
			if got := NormalHost(dressed); got != form && !strings.HasSuffix(form, ".") {
				t.Fatalf("%q: %q, want %q", dressed, got, form)
			}
		}
	})
}
