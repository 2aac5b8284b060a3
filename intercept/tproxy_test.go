package intercept

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// From one mode to the other and back, with nothing left of the former.
func TestUpChangesMode(t *testing.T) {
	f := fakeWith(t)
	none := f.both()
	redirect, tproxy := Rules{ListenPort: 8443, Mark: mark}, Rules{Mode: "tproxy", ListenPort: 8443, Mark: mark}
	up := func(rules Rules) string {
		t.Helper()
		if err := Up(t.Context(), f, rules); err != nil {
			t.Fatal(err)
		}
		for _, other := range []Rules{redirect, tproxy} {
			want := StatePartial
			if other.Mode == rules.Mode {
				want = StateUp
			}
			if rep, err := Status(t.Context(), f, other); err != nil || rep.State != want {
				t.Errorf("status of mode %q while %q is up: %+v, %v", other.Mode, rules.Mode, rep, err)
			}
		}
		return f.both()
	}
	first, second := up(redirect), up(tproxy)
	if up(redirect) != first || up(tproxy) != second {
		t.Error("there and back is not the same")
	}
	if err := Down(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if f.both() != none {
		t.Errorf("down leaves\n%s\nof\n%s", f.both(), none)
	}
}

// Up leaves nothing half done in this mode either: it fails at each line of
// what it runs, over nothing, over older rules and over those of the other mode.
func TestUpUndoesRouting(t *testing.T) {
	redirect := Rules{ListenPort: 8443, Mark: mark}
	tproxy := Rules{Mode: "tproxy", ListenPort: 8443, Mark: mark}
	older := tproxy
	older.ListenPort = 9443
	for _, tc := range []struct {
		before      *Rules
		wanted      Rules
		command, at string
	}{
		{nil, tproxy, "ip", ""},
		{nil, tproxy, "ip", "route add"},
		{nil, tproxy, "ip", "pref 99 "},
		{nil, tproxy, "ip", "pref 100 "},
		{&redirect, tproxy, "ip", "pref 100 "},
		{&redirect, tproxy, "iptables-restore", "FRAMEGATE-REPLY"},
		{&redirect, tproxy, "ip6tables-restore", "--on-port"},
		{&older, tproxy, "ip6tables-restore", "--on-port"},
		{&tproxy, redirect, "ip", "route del"},
		{&tproxy, redirect, "ip", "rule del pref 100 "},
		{&tproxy, redirect, "ip6tables-restore", "*mangle"},
	} {
		f := fakeWith(t)
		if tc.before != nil {
			if err := Up(t.Context(), f, *tc.before); err != nil {
				t.Fatal(err)
			}
		}
		was := f.both()
		f.Fail = map[string]string{tc.command: tc.at}
		err := Up(t.Context(), f, tc.wanted)
		failed := (*CommandError)(nil)
		if !errors.As(err, &failed) || failed.Argv[0] != tc.command {
			t.Errorf("%+v: error %v", tc, err)
		}
		if f.both() != was {
			t.Errorf("%+v: a failed up leaves\n%s\nof\n%s", tc, f.both(), was)
		}
	}
}

func TestStatusOfRouting(t *testing.T) {
	rules := Rules{Mode: "tproxy", ListenPort: 8443, Mark: mark}
	for _, tc := range []struct {
		name   string
		edit   func(*fakeRouting)
		detail []string // of IPv6
	}{
		{"rule lost", func(r *fakeRouting) { r.rules = r.rules[:1] }, []string{"routing: missing: rule pref 100 from all fwmark 0x46475450 lookup 17991"}},
		{"route lost", func(r *fakeRouting) { r.routes = nil }, []string{"routing: missing: route local default dev lo"}},
		{"others'", func(r *fakeRouting) { r.rules = append(r.rules, "200:\tfrom all fwmark 0x1 lookup 100") }, nil},
		{"rule too many", func(r *fakeRouting) { r.rules = append(r.rules, "5:\tfrom all lookup 17991 ") },
			[]string{"routing: unexpected: rule pref 5 from all lookup 17991"}},
	} {
		f := fakeWith(t)
		if err := Up(t.Context(), f, rules); err != nil {
			t.Fatal(err)
		}
		tc.edit(f.routing("-6"))
		rep, err := Status(t.Context(), f, rules)
		want := StateUp
		if tc.detail != nil {
			want = StatePartial
		}
		if err != nil || rep.State != want || rep.Families[0].State != StateUp || !reflect.DeepEqual(rep.Families[1].Detail, tc.detail) {
			t.Errorf("%s: %+v, %v", tc.name, rep, err)
		}
	}
	// A route or a rule alone is not nothing.
	f := &Fake{}
	f.routing("-4").routes = []string{"local default dev lo scope host"}
	if rep, err := Status(t.Context(), f, rules); err != nil || rep.State != StatePartial {
		t.Errorf("a route alone: %+v, %v", rep, err)
	}
}

func TestLocalDst(t *testing.T) {
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if dst, err := LocalDst(ln.Addr())(accepted); !errors.Is(err, ErrNotRedirected) || dst.IsValid() {
		t.Errorf("straight to the port: %v, %v", dst, err)
	}
	// As if the rules had brought it to another listener.
	want := netip.MustParseAddrPort(ln.Addr().String())
	if dst, err := LocalDst(&net.TCPAddr{Port: 1})(accepted); err != nil || dst != want {
		t.Errorf("captured: %v, %v", dst, err)
	}
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	if _, err := LocalDst(ln.Addr())(pipe); err == nil || !strings.Contains(err.Error(), "is no TCP socket") {
		t.Errorf("pipe: %v", err)
	}
	if err := Transparent(onlyListener{ln}); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("no socket: %v", err)
	}
}

type onlyListener struct{ net.Listener }
