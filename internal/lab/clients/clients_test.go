package clients_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/internal/lab"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// patience bounds one client; a browser may have to be read from a cold disk.
const patience = 90 * time.Second

// network is a lab with an origin in it, on 80 and 443, and nothing in between.
type network struct {
	*lab.Net
	origin *origin.Server
	pki    *origin.PKI
	host   clients.Host
}

func up(t *testing.T) *network {
	t.Helper()
	n, err := lab.Up(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Down(); err != nil {
			t.Error(err)
		}
		if left := n.Leftovers(); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	pki, err := origin.NewPKI()
	if err != nil {
		t.Fatal(err)
	}
	var addrs []netip.Addr
	for _, name := range lab.DefaultHosts {
		addrs = append(addrs, n.Lookup(name)...)
	}
	config, err := pki.Config(
		origin.Leaf{Names: []string{"chat.demo.test", "v4.chat.demo.test", "v6.chat.demo.test"}, Addrs: addrs},
		origin.Leaf{Names: []string{"expired.demo.test"}, Defect: origin.Expired},
		origin.Leaf{Names: []string{"blocked.demo.test"}, Defect: origin.UntrustedRoot},
		origin.Leaf{Names: []string{"bank.demo.test"}, Defect: origin.WrongHost},
		origin.Leaf{Names: []string{"feed.demo.test"}, Defect: origin.SelfSigned},
	)
	if err != nil {
		t.Fatal(err)
	}
	server := origin.New()
	t.Cleanup(func() { server.Close() })
	server.HandleHTTP("/page", clients.Page())
	for _, address := range []string{"[::]:443", "[::]:80"} {
		ln, err := n.Listen(t.Context(), lab.Server, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if address == "[::]:80" {
			server.ServePlain(ln)
		} else {
			server.ServeTLS(ln, config)
		}
	}
	home := t.TempDir()
	roots := filepath.Join(home, "roots.pem")
	if err := os.WriteFile(roots, pki.RootPEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	return &network{n, server, pki, clients.Host{
		Command: func(ctx context.Context, name string, args ...string) *exec.Cmd {
			return n.Command(ctx, lab.Client, name, args...)
		},
		Roots: roots,
		Home:  home,
	}}
}

func (n *network) node(ctx context.Context, job clients.Job) (clients.Report, error) {
	return n.host.Node(ctx, job)
}

func (n *network) python(ctx context.Context, job clients.Job) (clients.Report, error) {
	return n.host.Python(ctx, job)
}

func (n *network) chromium(ctx context.Context, job clients.Job) (clients.Report, error) {
	site := "https://chat.demo.test"
	if strings.HasPrefix(job.URL, "ws:") {
		site = "http://chat.demo.test" // a page of https may not open ws
	}
	return n.host.Chromium(ctx, site, n.origin, job)
}

type runner func(*network, context.Context, clients.Job) (clients.Report, error)

var runners = []struct {
	name   string
	run    runner
	checks int
}{
	{"node", (*network).node, 5},
	{"python", (*network).python, 5},
	{"chromium", (*network).chromium, 3}, // a page can neither fragment nor ping
}

// Every real client gets along with the origin, in both families, with and
// without TLS.
func TestClients(t *testing.T) {
	for _, r := range runners {
		for _, url := range []string{"wss://v4.chat.demo.test/echo", "wss://v6.chat.demo.test/echo", "ws://chat.demo.test/echo"} {
			t.Run(r.name+" "+url, func(t *testing.T) {
				n := up(t)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				report, err := r.run(n, ctx, clients.Job{URL: url, Say: []string{"one", "two"}, Protocols: []string{"lab.v1"}})
				if err != nil {
					t.Fatal(err)
				}
				if failed := report.Failed(); len(failed) > 0 {
					t.Fatalf("%+v: %q", report, failed)
				}
				if len(report.Checks) != r.checks || len(report.Said) != 2 || report.Protocol != "lab.v1" || report.Close.Reason != "done" {
					t.Errorf("%+v, close %+v", report, report.Close)
				}
			})
		}
	}
}

// What the clients trust is what was installed for them, and they verify.
func TestClientsVerify(t *testing.T) {
	for _, r := range runners {
		for _, host := range []string{"expired.demo.test", "blocked.demo.test", "bank.demo.test", "feed.demo.test"} {
			t.Run(r.name+" "+host, func(t *testing.T) {
				n := up(t)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				report, err := r.run(n, ctx, clients.Job{URL: "wss://" + host + "/echo"})
				if err != nil {
					t.Fatal(err)
				}
				if report.Error == "" || len(report.Checks) > 0 {
					t.Errorf("took a bad leaf: %+v", report)
				}
			})
		}
	}
}

// What a client sees of a refusal and of a Close by the server.
func TestClientsTellWhatHappened(t *testing.T) {
	for _, r := range runners {
		t.Run(r.name, func(t *testing.T) {
			n := up(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			report, err := r.run(n, ctx, clients.Job{URL: "wss://chat.demo.test/fault/close?code=1008&reason=not+here"})
			if err != nil {
				t.Fatal(err)
			}
			if want := (clients.Closing{Code: 1008, Reason: "not here"}); report.Close == nil || *report.Close != want || report.Checks["text"] {
				t.Errorf("%+v, close %+v", report, report.Close)
			}
			n.host.Home = t.TempDir()
			if report, err = r.run(n, ctx, clients.Job{URL: "wss://chat.demo.test/fault/refuse"}); err != nil {
				t.Fatal(err)
			}
			// A browser does not tell pages the status.
			if want := 403; report.Error == "" || report.Status != want && r.name != "chromium" {
				t.Errorf("%+v", report)
			}
		})
	}
}

// The real servers and the origin's /deflate compress with every real client,
// and what they report is what was said.
func TestServers(t *testing.T) {
	n := up(t)
	certificate, key, err := n.pki.IssuePEM(origin.Leaf{Names: []string{"chat.demo.test"}})
	if err != nil {
		t.Fatal(err)
	}
	o := clients.ServerOptions{Certificate: filepath.Join(n.host.Home, "server.pem"), Key: filepath.Join(n.host.Home, "server.key")}
	for _, a := range n.Lookup("chat.demo.test") {
		o.Addresses = append(o.Addresses, a.String())
	}
	for name, content := range map[string][]byte{o.Certificate: certificate, o.Key: key} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	machine := n.host
	machine.Command = func(ctx context.Context, name string, args ...string) *exec.Cmd {
		return n.Command(ctx, lab.Server, name, args...)
	}
	for i, start := range []func(context.Context, clients.ServerOptions) (*clients.Server, error){nil, machine.NodeServer, machine.PythonServer} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		url := "wss://chat.demo.test/deflate"
		var server *clients.Server
		if start != nil {
			o.Port = uint16(8000 + i)
			if server, err = start(ctx, o); err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			url = fmt.Sprintf("wss://chat.demo.test:%d/", o.Port)
		}
		for _, r := range runners {
			n.host.Home = t.TempDir()
			say := []string{"one " + r.name, "one " + r.name + " more", "", clients.Binary("\x00\xff{"), `{"name":"` + r.name + `"}`, "last"}
			report, err := r.run(n, ctx, clients.Job{URL: url + "?" + r.name, Burst: say})
			if err != nil {
				t.Fatal(err)
			}
			if failed := report.Failed(); len(failed) > 0 || !slices.Equal(report.Heard, say) || !strings.HasPrefix(report.Extensions, "permessage-deflate") {
				t.Errorf("%s at %s: %q of %+v", r.name, url, failed, report)
			}
			if server == nil {
				continue
			}
			served, err := server.Wait(ctx, "/?"+r.name)
			if err != nil {
				t.Fatal(err)
			}
			if len(served.Heard) < r.checks+len(say)-1 || served.Close == nil || *served.Close != *report.Close || served.Error != "" {
				t.Errorf("%s: served %+v, close %+v", r.name, served, served.Close)
			}
			// Both ends notice what is no JSON, and go on.
			n.host.Home = t.TempDir()
			report, err = r.run(n, ctx, clients.Job{URL: url + "?broken-" + r.name, Burst: []string{`{"name":`, "last"}})
			if err != nil {
				t.Fatal(err)
			}
			if served, err = server.Wait(ctx, "/?broken-"+r.name); err != nil {
				t.Fatal(err)
			}
			if report.Error == "" || served.Error == "" || len(report.Heard) != 2 || served.Close == nil || *served.Close != *report.Close {
				t.Errorf("%s: %+v, served %+v", r.name, report, served)
			}
		}
	}
	// A server that cannot listen says so.
	if server, err := machine.PythonServer(t.Context(), clients.ServerOptions{Certificate: "none"}); err == nil {
		server.Close()
		t.Error("a server without a certificate")
	}
}
