package policy

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"framegate/examples/traffic"
)

const examples = "../examples/policies"

// TestExamplePolicies holds every example to its own tests, and every rule of
// an example to having one that hits and one that does not.
func TestExamplePolicies(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(examples, "*.toml"))
	if err != nil || len(files) < 3 {
		t.Fatalf("got %d example policies, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p, err := Load([]string{file})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range p.Warnings() {
				t.Errorf("%s:%d:%d: slow: %s", s.File, s.Line, s.Column, s.Reason)
			}
			tested := map[string]int{}
			for _, r := range p.RunTests() {
				if !r.Passed() {
					t.Errorf("%s:%d:%d: rule %s: got %s, want %s", r.File, r.Line, r.Column, r.Rule, r.Got, r.Want)
				}
				if r.Want == None {
					tested[r.Rule] |= 1
				} else {
					tested[r.Rule] |= 2
				}
			}
			for _, r := range p.Rules() {
				if tested[r.ID] != 3 {
					t.Errorf("rule %s lacks a test that hits or one that does not", r.ID)
				}
				if r.Description == "" || r.Severity == "" || len(r.Tags) == 0 {
					t.Errorf("rule %s lacks a description, severity or tags", r.ID)
				}
			}
		})
	}
}

// TestExamplesTogether loads all examples at once, as a directory of them would be.
func TestExamplesTogether(t *testing.T) {
	p, err := Load([]string{filepath.Join(examples, "*.toml")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Name(), "bypass, default, demo"; got != want {
		t.Errorf("name: got %q, want %q", got, want)
	}
	if len(loadExample(t, "default.toml").Rules()) != 10 {
		t.Error("the default policy is measured as one of ten rules")
	}
}

// TestDemoTraffic names every message of the recorded traffic that the demo's
// policy does not simply allow, as its comments do, and shows that the default
// policy has nothing against any.
func TestDemoTraffic(t *testing.T) {
	want := []string{
		"cdp-events 16 close remote-control",
		"feed-coinbase 1 log subscription",
		"feed-coinbase 2 log subscription",
		"feed-coinbase 3 log subscription",
		"slack-socket-mode 2 drop response-url",
	}
	var got []string
	demo := loadExample(t, "demo.toml").Scope(Upgrade{Host: "feed.demo.test"})
	clean := loadExample(t, "default.toml").Scope(Upgrade{Host: "feed.demo.test"})
	for _, set := range traffic.Sets() {
		messages, err := traffic.Load(set)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range messages {
			if v := demo.Message(m.Direction, m.Opcode, m.Payload); v.Rules != nil {
				got = append(got, fmt.Sprintf("%s %d %v %s", set, i+1, v.Action, strings.Join(v.Rules, " ")))
			}
			if v := clean.Message(m.Direction, m.Opcode, m.Payload); v.Rules != nil || v.Shadow != nil {
				t.Errorf("default: %s %d: %v %v", set, i+1, v.Rules, v.Shadow)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExampleConnections(t *testing.T) {
	for _, c := range []struct{ file, client, server, host, want string }{
		{"demo.toml", "10.0.0.1", "10.0.1.1", "bank.demo.test", "bypass bank-bypass"},
		{"demo.toml", "10.0.0.1", "10.0.1.1", "v6.bank.demo.test", "bypass bank-bypass"},
		{"demo.toml", "10.0.0.1", "10.0.1.1", "blocked.demo.test", "block blocked-host"},
		{"demo.toml", "10.0.0.1", "10.0.1.1", "chat.demo.test", "inspect "},
		{"demo.toml", "10.0.0.1", "10.0.1.1", "feed.demo.test", "inspect "},
		{"default.toml", "10.0.0.1", "10.0.1.1", "bank.demo.test", "inspect "},
		{"bypass.toml", "10.0.0.1", "10.0.1.1", "chat.example", "inspect "},
		{"bypass.toml", "192.0.2.1", "10.0.1.1", "www.bank.example", "block guests"},
		{"bypass.toml", "198.51.100.7", "10.0.1.1", "www.bank.example", "inspect test-machine"},
		{"bypass.toml", "10.0.0.1", "10.0.1.1", "www.bank.example", "bypass banking"},
		{"bypass.toml", "10.0.0.1", "10.0.1.1", "portal.insurance.example", "bypass health"},
		{"bypass.toml", "10.0.0.1", "10.0.1.1", "insurance.example", "inspect "},
		{"bypass.toml", "10.0.0.1", "10.0.1.1", "eu.push.vendor.example", "bypass pinned"},
		{"bypass.toml", "10.0.0.1", "203.0.113.9", "", "bypass backup"},
	} {
		d := loadExample(t, c.file).Connection(Flow{
			Client: netip.AddrPortFrom(netip.MustParseAddr(c.client), 40000),
			Server: netip.AddrPortFrom(netip.MustParseAddr(c.server), 443),
			Host:   c.host,
		})
		if got := fmt.Sprintf("%v %s", d.Action, d.Rule); got != c.want {
			t.Errorf("%s, %s to %s (%s): got %q, want %q", c.file, c.client, c.server, c.host, got, c.want)
		}
	}
}

func loadExample(t testing.TB, name string) *Policy {
	t.Helper()
	p, err := Parse(name, readExample(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readExample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
