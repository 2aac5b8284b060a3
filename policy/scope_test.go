package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"framegate/frames"
)

// logs returns a policy of rules that log every data message in the given
// scopes. Their ids are the scopes' positions.
func logs(t *testing.T, scopes ...string) *Policy {
	t.Helper()
	var b strings.Builder
	for i, s := range scopes {
		fmt.Fprintf(&b, "[[rule]]\nid = \"%d\"\naction = \"log\"\nscope = { %s }\n", i, s)
	}
	return mustParse(t, b.String())
}

func TestScope(t *testing.T) {
	for _, c := range []struct {
		scope   string
		yes, no []Upgrade
	}{
		{``, []Upgrade{{}}, nil},
		{`host = [], path = [], origin = [], subprotocol = [], client = []`, []Upgrade{{}}, nil},
		{`host = ["**.chat.example", "feed.example"]`,
			[]Upgrade{{Host: "chat.example"}, {Host: "A.Chat.example:443"}, {Host: "feed.example."}},
			[]Upgrade{{}, {Host: "a.feed.example"}}},
		{`path = ["/"]`, []Upgrade{{Path: "/"}, {Path: ""}, {Path: "/?q=1"}, {Path: "//"}}, []Upgrade{{Path: "/a"}}},
		{`path = ["/ws"]`,
			[]Upgrade{{Path: "/ws"}, {Path: "/ws/"}, {Path: "//ws"}, {Path: "/ws?a=/b"}, {Path: "/%77s"}, {Path: "/a/../ws"}, {Path: "/./ws"}, {Path: "/../ws"}},
			[]Upgrade{{Path: "/"}, {Path: "/WS"}, {Path: "/ws/a"}, {Path: "/wsx"}, {Path: "/a%2fws"}}},
		{`path = ["/ws/*"]`, []Upgrade{{Path: "/ws/a"}, {Path: "/ws/a%2Fb"}}, []Upgrade{{Path: "/ws"}, {Path: "/ws/"}, {Path: "/ws/a/b"}}},
		{`path = ["/ws/**"]`, []Upgrade{{Path: "/ws"}, {Path: "/ws/a"}, {Path: "/ws/a/b"}}, []Upgrade{{Path: "/a/ws"}}},
		{`path = ["/**/stream"]`, []Upgrade{{Path: "/stream"}, {Path: "/v1/x/stream"}}, []Upgrade{{Path: "/stream/v1"}}},
		{`path = ["/b\u00fccher"]`, []Upgrade{{Path: "/b%C3%BCcher"}, {Path: "/bücher"}}, nil},
		{`path = ["/100%"]`, []Upgrade{{Path: "/100%"}, {Path: "/100%25"}}, nil},
		{`origin = ["https://app.example", "https://*.app.example:8443"]`,
			[]Upgrade{{Origin: "https://app.example"}, {Origin: "HTTPS://App.example:443"}, {Origin: "https://a.app.example:8443"}},
			[]Upgrade{{}, {Origin: "null"}, {Origin: "app.example"}, {Origin: "http://app.example"}, {Origin: "https://app.example:8443"}, {Origin: "https://a.app.example"}, {Origin: "https://app.example.evil.example"}}},
		{`origin = ["null"]`, []Upgrade{{Origin: "null"}}, []Upgrade{{}, {Origin: "https://null"}, {Origin: "://"}}},
		{`origin = ["http://[2001:db8::1]:8080"]`, []Upgrade{{Origin: "http://[2001:db8:0::1]:8080"}}, []Upgrade{{Origin: "http://[2001:db8::1]"}}},
		{`subprotocol = ["mqtt", "v1"]`, []Upgrade{{Subprotocol: "mqtt"}}, []Upgrade{{}, {Subprotocol: "MQTT"}, {Subprotocol: "mqtt, v1"}}},
		{`client = ["10.0.0.0/8", "2001:db8::1"]`,
			[]Upgrade{{Client: netip.MustParseAddr("10.1.1.1")}, {Client: netip.MustParseAddr("::ffff:10.1.1.1")}, {Client: netip.MustParseAddr("2001:db8::1")}},
			[]Upgrade{{}, {Client: netip.MustParseAddr("11.0.0.1")}}},
		{`host = ["a.example"], path = ["/ws"]`, []Upgrade{{Host: "a.example", Path: "/ws"}}, []Upgrade{{Host: "a.example", Path: "/"}, {Host: "b.example", Path: "/ws"}}},
	} {
		p := logs(t, c.scope)
		for i, u := range append(c.yes, c.no...) {
			s := p.Scope(u)
			for _, dir := range []frames.Direction{frames.ToServer, frames.ToClient} {
				if got, want := s.Message(dir, frames.Text, nil).Action == Log, i < len(c.yes); got != want {
					t.Errorf("{ %s } on %+v, %v: got %t, want %t", c.scope, u, dir, got, want)
				}
			}
		}
	}
}

func TestScopeDirection(t *testing.T) {
	s := logs(t, `direction = "to-server"`, `direction = "to-client"`, `direction = "both"`, ``).Scope(Upgrade{})
	if got := fmt.Sprint(s.Message(frames.ToServer, frames.Text, nil).Rules); got != "[0 2 3]" {
		t.Errorf("to the server: got %s", got)
	}
	if got := fmt.Sprint(s.Message(frames.ToClient, frames.Text, nil).Rules); got != "[1 2 3]" {
		t.Errorf("to the client: got %s", got)
	}
}

// More rules than one word of a bitset has bits, all in the order of the files.
func TestScopeManyRules(t *testing.T) {
	var scopes, want []string
	for i := range 200 {
		scopes = append(scopes, fmt.Sprintf(`host = ["%s.example"]`, []string{"even", "odd"}[i%2]))
		if i%2 == 1 {
			want = append(want, fmt.Sprint(i))
		}
	}
	v := logs(t, scopes...).Scope(Upgrade{Host: "odd.example"}).Message(0, frames.Text, nil)
	if got := fmt.Sprint(v.Rules); got != fmt.Sprint(want) {
		t.Errorf("got %s", got)
	}
}
