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
	"framegate/frames"
)

const examples = "../examples/policies"

// TestExamplePolicies holds every example to its own tests, and every rule of
// an example to having one that hits and one that does not.
func TestExamplePolicies(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(examples, "*.toml"))
	if err != nil || len(files) < 10 {
		t.Fatalf("got %d example policies, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p, err := Load([]string{file})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range p.Warnings() {
				t.Error(w)
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

// TestExamplesTogether loads the examples at once, as a directory of them would
// be. Only positive.toml wants another default than the others.
func TestExamplesTogether(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(examples, "*.toml"))
	if err != nil {
		t.Fatal(err)
	}
	alone := filepath.Join(examples, "positive.toml")
	if _, err := Load(files); err == nil || !strings.Contains(err.Error(), `default: got "close", expected "allow"`) {
		t.Errorf("with %s: got %v, want a mistake about the default", alone, err)
	}
	p, err := Load(slices.DeleteFunc(files, func(f string) bool { return f == alone }))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Name(), "bypass, chat, default, demo, health, payment, pinned, rates, secrets"; got != want {
		t.Errorf("name: got %q, want %q", got, want)
	}
	for _, w := range p.Warnings() {
		t.Error(w)
	}
	if len(loadExample(t, "default.toml").Rules()) != 10 {
		t.Error("the default policy is measured as one of ten rules")
	}
}

// TestPositivePolicy shows what tests of single rules cannot: what becomes of a
// message that none is about, and of one that is too large to be held.
func TestPositivePolicy(t *testing.T) {
	p := loadExample(t, "positive.toml")
	s := p.Scope(Upgrade{Host: "shop.example", Path: "/ws"})
	picture := func(head string) string { return head + strings.Repeat("\x00\xff", 100) }
	for _, c := range []struct {
		dir     frames.Direction
		op      frames.Opcode
		message string
		want    Action
	}{
		{frames.ToServer, frames.Text, `{"type":"chat","text":"hello"}`, Allow},
		{frames.ToServer, frames.Text, `{"type":"chat","text":"<script>"}`, Drop},
		{frames.ToServer, frames.Text, `{"type":"admin"}`, Close},
		{frames.ToServer, frames.Text, `{"type":"presence"}`, Close}, // only the server may
		{frames.ToClient, frames.Text, `{"type":"presence"}`, Allow},
		{frames.ToServer, frames.Text, `{"type":"chat","text":"` + strings.Repeat("x", 16<<10) + `"}`, Close},
		{frames.ToServer, frames.Text, `{"type":"chat","text":"hello"`, Close},
		{frames.ToServer, frames.Text, "", Close},
		{frames.ToServer, frames.Ping, "", Allow},
		{frames.ToServer, frames.Close, "\x03\xe8bye", Allow},
		{frames.ToClient, frames.Binary, picture("\x89PNG\r\n\x1a\n"), Allow},
		{frames.ToClient, frames.Binary, picture("\xff\xd8\xff\xe0\x00\x10JFIF\x00"), Allow},
		{frames.ToServer, frames.Binary, picture("\x89PNG\r\n\x1a\n"), Close},
		{frames.ToClient, frames.Binary, picture("x\x89PNG\r\n\x1a\n"), Close},
		{frames.ToClient, frames.Binary, picture("MZ"), Close},
	} {
		if v := s.Message(c.dir, c.op, []byte(c.message)); v.Action != c.want {
			t.Errorf("%v %v %.60q: got %v %v, want %v", c.dir, c.op, c.message, v.Action, v.Rules, c.want)
		}
	}
	if v := p.Scope(Upgrade{Path: "/other"}).Message(frames.ToServer, frames.Text, []byte(`{"type":"chat"}`)); v.Action != Close {
		t.Errorf("another path: got %v, want close", v.Action)
	}
	stream := s.Stream(frames.ToServer, frames.Text)
	stream.Write([]byte(`{"type":"chat","text":"hello"}`))
	if v := stream.End(); v.Action != Close {
		t.Errorf("in parts: got %v, want close", v.Action)
	}
}

// TestDemoTraffic names every message of the recorded traffic that the demo's
// policy does not simply allow, as its comments do, and shows that the policies
// for everybody have nothing against any.
func TestDemoTraffic(t *testing.T) {
	want := []string{
		"cdp-events 16 close remote-control",
		"feed-coinbase 1 log subscription",
		"feed-coinbase 2 log subscription",
		"feed-coinbase 3 log subscription",
		"slack-socket-mode 2 drop response-url",
	}
	var got []string
	u := Upgrade{Host: "feed.demo.test"}
	demo := loadExample(t, "demo.toml").Scope(u)
	clean := map[string]*Scope{}
	for _, name := range []string{"default", "payment", "health", "secrets", "chat", "rates"} {
		clean[name] = loadExample(t, name+".toml").Scope(u)
	}
	for _, set := range traffic.Sets() {
		messages, err := traffic.Load(set)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range messages {
			if v := demo.Message(m.Direction, m.Opcode, m.Payload); v.Rules != nil {
				got = append(got, fmt.Sprintf("%s %d %v %s", set, i+1, v.Action, strings.Join(v.Rules, " ")))
			}
			for name, s := range clean {
				if v := s.Message(m.Direction, m.Opcode, m.Payload); v.Rules != nil || v.Shadow != nil {
					t.Errorf("%s: %s %d: %v %v", name, set, i+1, v.Rules, v.Shadow)
				}
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
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "1-courier.push.apple.com", "bypass pinned/apple-push"},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "mesu.apple.com", "bypass pinned/apple-update"},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "www.apple.com", "inspect "},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "fe2cr.update.microsoft.com", "bypass pinned/windows-update"},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "tsfe.trafficshaping.dsp.mp.microsoft.com", "bypass pinned/windows-update"},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "outlook.office.com", "inspect "},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "play.googleapis.com", "bypass pinned/android"},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "storage.googleapis.com", "inspect "},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "chat.signal.org", "bypass pinned/signal"},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "chat.signal.org.example", "inspect "},
		{"pinned.toml", "10.0.0.1", "10.0.1.1", "", "inspect "},
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
