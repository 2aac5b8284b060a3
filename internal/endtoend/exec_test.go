package endtoend

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

const execPolicy = `
[policy]
name = "exec"
[[rule]]
id     = "loss"
action = "drop"
[rule.match]
contains = ["drop this"]
`

// A runner runs commands by framegate exec on the machine in the middle, which
// has addresses of both families and reaches the server.
type runner struct {
	*site
	config string
}

func newRunner(t *testing.T) *runner {
	r := &runner{site: newSite(t, settings{policy: execPolicy})}
	for _, dir := range []string{filepath.Dir(r.dir), r.dir} {
		if err := os.Chmod(dir, 0o755); err != nil { // another user runs commands, too
			t.Fatal(err)
		}
	}
	r.config = r.path("exec.toml")
	r.write(t, "exec.toml", fmt.Sprintf("[ca]\ndir = %q\n[tls]\nupstream_roots = [%q]\n[policy]\nfiles = [%q]\n[audit]\nlevel = \"frames\"\n",
		r.path("ca"), r.path("origin-root.pem"), r.path("policy.toml")))
	return r
}

// exec prepares framegate exec with flags, "--" and a command.
func (r *runner) exec(ctx context.Context, args ...string) *exec.Cmd {
	cmd := r.Command(ctx, lab.Gateway, program, append([]string{"--config", r.config, "exec"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+r.dir)
	for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"} {
		cmd.Env = append(cmd.Env, name+"=")
	}
	return cmd
}

// do runs a command to its end.
func (r *runner) do(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return finish(t, r.exec(soon(t), args...))
}

func finish(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return exitCode(err), out.String(), errs.String()
}

// state is all of a machine that a command's network could have changed.
func (r *runner) state(t *testing.T) string {
	t.Helper()
	cmd := r.Command(soon(t), lab.Gateway, "sh", "-ec", `
		export PATH=$PATH:/usr/sbin:/sbin
		iptables-save; ip6tables-save; ip link; ip addr; ip rule; ip -6 rule
		ip route show table all; ip -6 route show table all; ip netns list | grep "$0"
		sysctl -a 2>/dev/null | grep -E '^net\.(ipv[46]\.(conf|ip_)|core\.)' | grep -v mtu_expires
		sha256sum /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; cut -d' ' -f3-5 /proc/self/mountinfo | grep -E ' /etc|framegate-exec'`,
		strings.TrimSuffix(r.Namespace(lab.Gateway), "gateway"))
	code, out, stderr := finish(t, cmd)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	// Times, counters and lifetimes.
	return regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]|(expires|valid_lft|preferred_lft) \S+|random_.*|mounts? .*`).ReplaceAllString(out, "")
}

// TestExec runs real clients by framegate exec: their traffic alone is
// intercepted, they trust the gateway, and nothing is left behind.
func TestExec(t *testing.T) {
	r := newRunner(t)
	before := r.state(t)
	t.Run("all", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *runner){
			"clients":   testExecClients,
			"trust":     testExecTrust,
			"browser":   testExecBrowser,
			"localhost": testExecLocalhost,
			"ports":     testExecPorts,
			"names":     testExecNames,
			"user":      testExecUser,
			"exit":      testExecExit,
			"signals":   testExecSignals,
			"terminal":  testExecTerminal,
			"leftovers": testExecLeftovers,
			"mistakes":  testExecMistakes,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, r)
			})
		}
	})
	if after := r.state(t); after != before {
		for line := range strings.Lines(after) {
			if !strings.Contains(before, line) {
				t.Errorf("new on the machine: %s", line)
			}
		}
		for line := range strings.Lines(before) {
			if !strings.Contains(after, line) {
				t.Errorf("gone from the machine: %s", line)
			}
		}
	}
	if left, _ := filepath.Glob(r.path("framegate-exec-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// WebSockets of either family are inspected, judged and recorded.
func testExecClients(t *testing.T, r *runner) {
	for _, c := range []struct {
		client, family string
		say            []string
		said           string
		dropped        int
	}{
		{"python", "v4", []string{"hello", "drop this"}, "[true false]", 1},
		{"node", "v6", []string{"hello"}, "[true]", 0}, // to wait in vain takes seconds
	} {
		t.Run(c.client, func(t *testing.T) {
			t.Parallel()
			path, dir := "/echo/exec/"+c.client, filepath.Join(t.TempDir(), "log")
			r.origin.Handle(path, origin.Echo)
			home := t.TempDir()
			empty := filepath.Join(home, "roots.pem")
			if err := os.WriteFile(empty, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			h := clients.Host{Home: home, Roots: empty, Command: func(ctx context.Context, name string, args ...string) *exec.Cmd {
				return r.exec(ctx, append([]string{"--dir", dir, "--", name}, args...)...)
			}}
			run := h.Python
			if c.client == "node" {
				run = h.Node
			}
			report, err := run(soon(t), clients.Job{URL: "wss://" + c.family + "." + chatHost + path, Say: c.say})
			if err != nil {
				t.Fatal(err)
			}
			if report.Error != "" || fmt.Sprint(report.Said) != c.said {
				t.Errorf("%+v", report)
			}
			l := follow(t, dir).ofPath(t, path)
			compareMessages(t, l.messages("to-server"), work(c.client, c.say))
			if open := l.one(t, audit.WSOpen); open.Server != netip.AddrPortFrom(r.Lookup(c.family + "." + chatHost)[0], 443).String() {
				t.Errorf("ws.open: %s", open)
			}
			dropped := 0
			for _, m := range l.messages("to-server") {
				if m.Action == "drop" && fmt.Sprint(m.Rules) == "[loss]" {
					dropped++
				}
			}
			if dropped != c.dropped {
				t.Errorf("%d messages dropped:\n%s", dropped, lines(l))
			}
			l.ended(t, audit.StateInspected)
			verified, err := audit.Verify(dir, audit.VerifyOptions{})
			if err != nil || len(verified.Findings) > 0 {
				t.Errorf("log: %+v, %v", verified.Findings, err)
			}
		})
	}
}

// Programs that ask no variable trust the gateway, too; with an authority that is
// thrown away as with that of the configuration. Nobody trusts a bad server.
func testExecTrust(t *testing.T, r *runner) {
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	other := *r
	other.config = r.path("throwaway.toml")
	r.write(t, "throwaway.toml", strings.Replace(string(text), r.path("ca"), r.path("none"), 1))
	const get = `for host in v4.` + chatHost + ` v6.` + chatHost + `; do env -i PATH=$PATH curl -sS -w '%{http_code} ' -o /dev/null https://$host/page; done
		curl -sS https://` + expiredHost + `/page; echo $?`
	for _, r := range []*runner{r, &other} {
		code, out, stderr := r.do(t, "--", "sh", "-c", get)
		if code != 0 || out != "200 200 60\n" {
			t.Errorf("exit %d, %q\n%s", code, out, stderr)
		}
		for _, want := range []string{"framegate: 3 connections: 2 inspected, 1 failed\n", "framegate: failed: " + expiredHost + ": expired: certificate "} {
			if !strings.Contains(stderr, want) {
				t.Errorf("no %q in the summary:\n%s", want, stderr)
			}
		}
	}
	// What the user trusts by a variable stays trusted.
	cmd := r.exec(soon(t), "--quiet", "--", "sh", "-c", `grep -c BEGIN "$NODE_EXTRA_CA_CERTS"`)
	cmd.Env = append(cmd.Env, "NODE_EXTRA_CA_CERTS="+r.path("origin-root.pem"))
	if code, out, stderr := finish(t, cmd); code != 0 || out != "2\n" {
		t.Errorf("exit %d, %q\n%s", code, out, stderr)
	}
	if _, err := os.Stat(r.path("none")); !os.IsNotExist(err) {
		t.Errorf("an authority was made in ca.dir: %v", err)
	}
}

// Chromium has roots of its own.
func testExecBrowser(t *testing.T, r *runner) {
	code, out, stderr := r.do(t, "--", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
		"--user-data-dir="+t.TempDir(), "--dump-dom", "https://"+chatHost+"/page")
	if code != 0 || !strings.Contains(out, "<title>framegate lab") {
		t.Errorf("exit %d, %q\n%s", code, out, stderr)
	}
}

// The loopback is the command's where it listens itself, and the machine's else.
func testExecLocalhost(t *testing.T, r *runner) {
	ln, err := r.Listen(t.Context(), lab.Gateway, "tcp", "127.0.0.1:3000")
	if err != nil {
		t.Fatal(err)
	}
	r.origin.ServePlain(ln)
	dir := filepath.Join(t.TempDir(), "log")
	code, out, stderr := r.do(t, "--dir", dir, "--", "/usr/bin/python3", "-c", `
import socket, threading, urllib.request
print(urllib.request.urlopen("http://localhost:3000/page").status)
for address in ("127.0.0.1", "0.0.0.0"):
    own = socket.create_server((address, 3000 if address == "127.0.0.1" else 3001))
    def serve():
        c, _ = own.accept()
        c.sendall(b"own")
        c.close()
    threading.Thread(target=serve).start()
    print(socket.create_connection(("127.0.0.1", own.getsockname()[1])).recv(10))
`)
	if code != 0 || out != "200\nb'own'\nb'own'\n" {
		t.Errorf("exit %d, %q\n%s", code, out, stderr)
	}
	var servers []string
	for _, rec := range readLog(t, dir) {
		if rec.Event == audit.ConnOpen {
			servers = append(servers, rec.Server)
		}
	}
	if fmt.Sprint(servers) != "[127.0.0.1:3000]" {
		t.Errorf("connections to %q", servers)
	}
	// Nobody is there.
	if code, out, stderr := r.do(t, "--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://localhost:3999/"); code != 0 || out != "502" {
		t.Errorf("exit %d, %q\n%s", code, out, stderr)
	}
}

func readLog(t *testing.T, dir string) (list []audit.Record) {
	t.Helper()
	r, err := audit.NewReader(dir, audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, rec)
	}
	return list
}

// With --ports the rest passes, and so does what is neither TLS nor HTTP.
func testExecPorts(t *testing.T, r *runner) {
	dir := filepath.Join(t.TempDir(), "log")
	code, out, stderr := r.do(t, "--ports", "443", "--dir", dir, "--", "sh", "-c",
		`curl -sS -o /dev/null -w '%{http_code} ' http://`+chatHost+`/page; curl -sS -o /dev/null -w '%{http_code}' https://`+chatHost+`/page
		/usr/bin/python3 -c 'import socket; print(socket.create_connection(("`+mailHost+`", 443)).recv(4))'`)
	if code != 0 || out != "200 200b'220 '\n" {
		t.Errorf("exit %d, %q\n%s", code, out, stderr)
	}
	states := make(map[string]int)
	for _, rec := range readLog(t, dir) {
		if rec.Event == audit.ConnClose {
			states[rec.State]++
		}
	}
	if fmt.Sprint(states) != "map[inspected:1 opaque:1]" {
		t.Errorf("%v", states)
	}
}

// Names are resolved by the machine's servers; other UDP is refused at once.
func testExecNames(t *testing.T, r *runner) {
	r.write(t, "nsswitch.conf", "hosts: files dns\n")
	for i, server := range []netip.Addr{r.Addr(lab.Server, false), r.Addr(lab.Server, true), netip.MustParseAddr("127.0.0.53")} {
		at := lab.Server
		if server.IsLoopback() {
			at = lab.Gateway
		}
		answerNames(t, r, at, netip.AddrPortFrom(server, 53), r.Lookup(chatHost)[0])
		conf := fmt.Sprintf("resolv%d.conf", i)
		r.write(t, conf, "nameserver "+server.String()+"\n")
		cmd := r.Command(soon(t), lab.Gateway, "unshare", "-m", "sh", "-ec", `mount --bind "$1" /etc/resolv.conf; mount --bind "$2" /etc/nsswitch.conf; shift 2; exec "$@"`, "-",
			r.path(conf), r.path("nsswitch.conf"), program, "--config", r.config, "exec", "--", "/usr/bin/python3", "-c", `
import socket
print(socket.gethostbyname("name.in.dns.test"))
own = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
own.bind(("::", 443)) # gets nothing of what is meant for others
for family, address in (socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect((address, 443))
    try:
        s.send(b"x")
        s.recv(1)
    except (ConnectionRefusedError, PermissionError):
        print("refused")
`)
		cmd.Env = append(os.Environ(), "TMPDIR="+r.dir)
		code, out, stderr := finish(t, cmd)
		if want := r.Lookup(chatHost)[0].String() + "\nrefused\nrefused\n"; code != 0 || out != want {
			t.Errorf("%s: exit %d, %q\n%s", server, code, out, stderr)
		}
	}
}

// answerNames is a name server that has one address for every name.
func answerNames(t *testing.T, r *runner, p lab.Place, at netip.AddrPort, a netip.Addr) {
	t.Helper()
	var conn net.PacketConn
	err := r.Do(p, func() (err error) {
		conn, err = net.ListenPacket("udp", at.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, client, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			q := buf[:n]
			end := 12 + bytes.IndexByte(q[12:], 0) + 5
			answer := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
			if q[end-3] == 1 { // an A, and not AAAA
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
				answer = append(answer, a.AsSlice()...)
			}
			conn.WriteTo(answer, client)
		}
	}()
}
