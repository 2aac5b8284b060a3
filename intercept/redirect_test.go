package intercept

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// fakeWith returns a fake whose tables hold rules of others.
func fakeWith(t *testing.T) *Fake {
	t.Helper()
	saved, err := os.ReadFile("testdata/save/docker.txt")
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{}
	for _, cmd := range []string{"iptables", "ip6tables"} {
		if err := f.restore(cmd, uncounted(string(saved)), ""); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// both returns all that f holds of both families.
func (f *Fake) both() string {
	return f.save("iptables") + f.save("ip6tables") + fmt.Sprint(*f.routing("-4"), *f.routing("-6"))
}

func TestUpIsIdempotent(t *testing.T) {
	f := fakeWith(t)
	before := f.both()
	rules := renderCases[1].rules
	if err := Up(t.Context(), f, rules); err != nil {
		t.Fatal(err)
	}
	once := f.both()
	f.Ran = nil
	if err := Up(t.Context(), f, rules); err != nil {
		t.Fatal(err)
	}
	if f.both() != once {
		t.Errorf("up twice gives\n%s\nonce\n%s", f.both(), once)
	}
	if want := []string{"iptables-save", "ip", "ip", "ip6tables-save", "ip", "ip"}; !reflect.DeepEqual(f.Ran, want) {
		t.Errorf("up again ran %v, want %v", f.Ran, want)
	}
	for range 2 {
		if err := Down(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if f.both() != before {
			t.Errorf("down leaves\n%s\nof\n%s", f.both(), before)
		}
	}
}

// Jumps that others added, or older rules had, go with our chains.
func TestDownTakesEveryJump(t *testing.T) {
	saved, err := os.ReadFile("testdata/save/docker-framegate.txt")
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{}
	if err := f.restore("iptables", string(saved), ""); err != nil {
		t.Fatal(err)
	}
	if err := Down(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got, want := f.save("iptables"), fakeWith(t).save("iptables"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUpMovesTheJumpToTheFront(t *testing.T) {
	f := fakeWith(t)
	rules := Rules{ListenPort: 8443}
	if err := Up(t.Context(), f, rules); err != nil {
		t.Fatal(err)
	}
	want := f.both()
	if err := f.restore("iptables", "*nat\n-I PREROUTING 1 -p tcp -j DOCKER\nCOMMIT\n", ""); err != nil {
		t.Fatal(err)
	}
	rep, err := Status(t.Context(), f, rules)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"nat: rules before ours in PREROUTING, which may decide first: 1"}; rep.State != StateUp || !reflect.DeepEqual(rep.Families[0].Detail, want) {
		t.Errorf("status %+v", rep)
	}
	if err := Up(t.Context(), f, rules); err != nil {
		t.Fatal(err)
	}
	got := strings.Replace(f.both(), "[0:0] -A PREROUTING -p tcp -j DOCKER\n", "", 1)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Up leaves nothing half done, wherever it fails.
func TestUpUndoes(t *testing.T) {
	old := Rules{ListenPort: 8443, Exclude: prefixes("192.0.2.0/24", "fd00::/8")}
	wanted := Rules{ListenPort: 9443}
	for _, before := range []*Rules{nil, &old} {
		for _, tc := range []struct{ command, at string }{
			{"iptables-save", ""},
			{"ip6tables-save", ""},
			{"iptables-restore", "*nat"},
			{"iptables-restore", "--to-ports 9443"},
			{"ip6tables-restore", "--to-ports 9443"},
		} {
			f := fakeWith(t)
			if before != nil {
				if err := Up(t.Context(), f, *before); err != nil {
					t.Fatal(err)
				}
				// The undo puts jumps where they were, too.
				if err := f.restore("iptables", "*nat\n-I PREROUTING 1 -p tcp -j DOCKER\nCOMMIT\n", ""); err != nil {
					t.Fatal(err)
				}
			}
			was := f.both()
			f.Fail = map[string]string{tc.command: tc.at}
			err := Up(t.Context(), f, wanted)
			failed := (*CommandError)(nil)
			if !errors.As(err, &failed) || failed.Argv[0] != tc.command {
				t.Errorf("%v: error %v", tc, err)
			}
			if strings.HasSuffix(tc.command, "-restore") && !strings.HasSuffix(err.Error(), "; the rules are as they were before") {
				t.Errorf("%v: error %v", tc, err)
			}
			if f.both() != was {
				t.Errorf("%v: a failed up leaves\n%s\nof\n%s", tc, f.both(), was)
			}
		}
	}
}

// The tables of a family are committed one by one; a failure in the second
// undoes the first.
func TestUpUndoesHalfAFamily(t *testing.T) {
	for _, command := range []string{"iptables-restore", "ip6tables-restore"} {
		f := fakeWith(t)
		was := f.both()
		f.Fail = map[string]string{command: "--reject-with"}
		if err := Up(t.Context(), f, Rules{ListenPort: 8443}); err == nil {
			t.Error("no error")
		}
		if f.both() != was {
			t.Errorf("%s: left\n%s\nof\n%s", command, f.both(), was)
		}
	}
}

func TestUpSaysThatUndoFailed(t *testing.T) {
	f := fakeWith(t)
	// IPv6 fails, and so does what would remove the IPv4 rules again.
	f.Fail = map[string]string{"iptables-restore": "-D ", "ip6tables-restore": ""}
	err := Up(t.Context(), f, Rules{ListenPort: 8443})
	if err == nil || !strings.Contains(err.Error(), "undoing the rest failed too, so the rules are half installed") {
		t.Errorf("got %v", err)
	}
}

// canceller cancels a context when a command is run.
type canceller struct {
	*Fake
	at     string
	cancel func()
}

func (c canceller) Run(ctx context.Context, stdin string, argv ...string) (string, error) {
	if argv[0] == c.at {
		c.cancel()
	}
	return c.Fake.Run(ctx, stdin, argv...)
}

func TestUpUndoesAfterCancel(t *testing.T) {
	f := fakeWith(t)
	was := f.both()
	ctx, cancel := context.WithCancel(t.Context())
	err := Up(ctx, canceller{f, "ip6tables-restore", cancel}, Rules{ListenPort: 8443})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if f.both() != was {
		t.Errorf("left\n%s\nof\n%s", f.both(), was)
	}
}

func TestDownGoesOn(t *testing.T) {
	f := fakeWith(t)
	was6 := f.save("ip6tables")
	if err := Up(t.Context(), f, Rules{ListenPort: 8443}); err != nil {
		t.Fatal(err)
	}
	f.Fail = map[string]string{"iptables-restore": ""}
	if err := Down(t.Context(), f); err == nil || !strings.Contains(err.Error(), "change ipv4 rules") {
		t.Errorf("error %v", err)
	}
	if got := f.save("ip6tables"); got != was6 {
		t.Errorf("the other family still has\n%s", got)
	}
}

func TestNoIPv6(t *testing.T) {
	f := &Fake{NoIPv6: true, Fail: map[string]string{"ip6tables-save": "", "ip6tables-restore": ""}}
	rules := Rules{ListenPort: 8443}
	if err := Up(t.Context(), f, rules); err != nil {
		t.Fatal(err)
	}
	rep, err := Status(t.Context(), f, rules)
	if err != nil || rep.State != StateUp || len(rep.Families) != 1 {
		t.Errorf("status %+v, %v", rep, err)
	}
	if err := Down(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestInvalidRulesRunNothing(t *testing.T) {
	f := &Fake{}
	if Up(t.Context(), f, Rules{}) == nil {
		t.Error("up of invalid rules did not fail")
	}
	if _, err := Status(t.Context(), f, Rules{}); err == nil {
		t.Error("status of invalid rules did not fail")
	}
	if len(f.Ran) > 0 {
		t.Errorf("ran %v", f.Ran)
	}
}

func TestStatus(t *testing.T) {
	rules := Rules{ListenPort: 8443}
	const captured = "-A FRAMEGATE -p tcp -m multiport --dports 80,443 -j REDIRECT --to-ports 8443"
	for _, tc := range []struct {
		name   string
		edit   string // input of iptables-restore after up
		want   State
		detail []string // of IPv4
	}{
		{"up", "", StateUp, nil},
		{"rule lost", "*nat\n-D" + captured[2:] + "\nCOMMIT\n", StatePartial, []string{"nat: missing: " + captured}},
		{"jump lost", "*nat\n-D PREROUTING -p tcp -j FRAMEGATE\nCOMMIT\n", StatePartial, []string{"nat: missing: -A PREROUTING -p tcp -j FRAMEGATE"}},
		{"jump twice", "*nat\n-A PREROUTING -p tcp -j FRAMEGATE\nCOMMIT\n", StatePartial, []string{
			"nat: unexpected: -A PREROUTING -p tcp -j FRAMEGATE",
			"nat: rules before ours in PREROUTING, which may decide first: 2",
		}},
		{"foreign rule", "*filter\n-I FRAMEGATE-QUIC 1 -j ACCEPT\nCOMMIT\n", StatePartial, []string{"filter: unexpected: -A FRAMEGATE-QUIC -j ACCEPT"}},
		{"order", "*nat\n-D FRAMEGATE -i lo -j RETURN\n-A FRAMEGATE -i lo -j RETURN\nCOMMIT\n", StatePartial, []string{"nat: the rules of FRAMEGATE are in another order"}},
		{"one family down", "*nat\n:FRAMEGATE - [0:0]\n-D PREROUTING -p tcp -j FRAMEGATE\n-X FRAMEGATE\nCOMMIT\n*filter\n:FRAMEGATE-QUIC - [0:0]\n-D FORWARD -p udp -m udp --dport 443 -j FRAMEGATE-QUIC\n-X FRAMEGATE-QUIC\nCOMMIT\n", StatePartial, nil},
	} {
		f := fakeWith(t)
		// For "jump twice" to have two before, besides our own.
		if err := f.restore("iptables", "*nat\n-A PREROUTING -p udp -j RETURN\nCOMMIT\n", ""); err != nil {
			t.Fatal(err)
		}
		if err := Up(t.Context(), f, rules); err != nil {
			t.Fatal(err)
		}
		if err := f.restore("iptables", tc.edit, ""); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		rep, err := Status(t.Context(), f, rules)
		if err != nil {
			t.Fatal(err)
		}
		if rep.State != tc.want || !reflect.DeepEqual(rep.Families[0].Detail, tc.detail) || rep.Families[1].State != StateUp {
			t.Errorf("%s: %+v", tc.name, rep)
		}
	}
	empty := &Fake{}
	if err := empty.restore("iptables", "*filter\n:FRAMEGATE-QUIC - [0:0]\nCOMMIT\n", ""); err != nil {
		t.Fatal(err)
	}
	rules.QUIC = "allow"
	if err := Up(t.Context(), empty, rules); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(empty.both(), "QUIC") {
		t.Errorf("left a chain that is not wanted:\n%s", empty.both())
	}
}

func TestExec(t *testing.T) {
	t.Setenv("PATH", "/bin:/usr/bin")
	out, err := Exec{}.Run(t.Context(), "in", "sh", "-c", "cat; echo out")
	if err != nil || out != "inout\n" {
		t.Errorf("got %q, %v", out, err)
	}
	_, err = Exec{}.Run(t.Context(), "", "sh", "-c", "printf 'bad rule\\n\\nTry `x -h` or so\\n' >&2; exit 3")
	failed := (*CommandError)(nil)
	if !errors.As(err, &failed) || failed.Stderr != "bad rule" || !strings.Contains(err.Error(), "exit status 3: bad rule") {
		t.Errorf("got %v", err)
	}
	_, err = Exec{}.Run(t.Context(), "", "sh", "-c", "echo 'Permission denied (you must be root)' >&2; exit 4")
	setup := (*SetupError)(nil)
	if !errors.As(err, &setup) || !errors.As(err, &failed) || setup.Hint != needRoot {
		t.Errorf("got %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	_, err = Exec{Dirs: []string{t.TempDir()}}.Run(t.Context(), "", "iptables-save")
	if !errors.As(err, &setup) || err.Error() != "iptables-save not found; hint: apt install iptables" {
		t.Errorf("got %v", err)
	}
}
