package soak

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"framegate/internal/lab"
	"framegate/internal/lab/origin"
)

// What the rules look for.
const (
	refusedWord = "SOAK-REFUSED"
	droppedWord = "SOAK-DROPPED"
)

const rules = `
[[rule]]
id = "refused"
action = "close"
code = 1008
match.contains = ["` + refusedWord + `"]
[[rule]]
id = "dropped"
action = "drop"
match.contains = ["` + droppedWord + `"]
[[rule]]
id = "version-%d"
action = "log"
match.contains = ["gateway"]
`

// killedHost is where the server is that is killed.
const killedHost = "feed.demo.test"

// A site is the network, the servers and all that a gateway needs.
type site struct {
	*lab.Net
	dir     string
	hosts   [2]string
	servers [2]*server
	trust   *tls.Config // of clients
	notes   *notes
}

// newSite makes all that a gateway needs. With timeout it gives up handshakes.
func newSite(t *testing.T, onFailure string, timeout time.Duration) *site {
	t.Helper()
	n, err := lab.Up(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Down(); err != nil {
			t.Error(err)
		}
	})
	s := &site{Net: n, dir: t.TempDir(), hosts: [2]string{"chat.demo.test", killedHost}, notes: newNotes()}
	pki, err := origin.NewPKI()
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := pki.IssuePEM(origin.Leaf{Names: s.hosts[:]})
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "server.pem", string(certificate)+string(key))
	s.write(t, "origin-root.pem", string(pki.RootPEM()))
	s.write(t, "policy.toml", fmt.Sprintf(rules, 0))
	s.mountAudit(t)
	s.write(t, "framegate.toml", fmt.Sprintf(`
[intercept]
interfaces = [%q]
[ca]
dir = %q
[tls]
upstream_roots = [%q]
[limits]
handshake_timeout = %q
drain_timeout = "5s"
handover_timeout = "24h"
[policy]
files = [%q]
[audit]
dir = %q
on_failure = %q
[admin]
listen = "unix:%s"
pprof = true
`, lab.ClientLink, s.path("ca"), s.path("origin-root.pem"), timeout.String(), s.path("policy.toml"), s.path("audit"), onFailure, s.path("admin")))
	s.framegate(t, "ca", "init")
	s.framegate(t, "redirect", "up")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.framegate(t, "ca", "export")))
	s.trust = &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}}
	for i := range s.servers {
		if err := s.startServer(i); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// write puts a file in the place of the one that was there: half a policy is one,
// too, and the gateway may be reading.
func (s *site) write(t *testing.T, name, content string) {
	t.Helper()
	err := os.WriteFile(s.path(name+".new"), []byte(content), 0o600)
	if err == nil {
		err = os.Rename(s.path(name+".new"), s.path(name))
	}
	if err != nil {
		t.Error(err)
	}
}

// auditSize is that of the disk of the log: no more than a long soak takes.
const auditSize = 2 << 30

// mountAudit gives the log a disk of its own, which can be full.
func (s *site) mountAudit(t *testing.T) {
	t.Helper()
	if err := os.Mkdir(s.path("audit"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("soak", s.path("audit"), "tmpfs", 0, fmt.Sprint("mode=0700,size=", auditSize)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(s.path("audit"), 0); err != nil {
			t.Error(err)
		}
	})
}

// fill makes the disk of the log as small as what is on it; empty undoes it.
func (s *site) fill() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.path("audit"), &fs); err != nil {
		return err
	}
	return s.resize(int64(fs.Blocks-fs.Bfree) * fs.Bsize)
}

func (s *site) empty() error { return s.resize(auditSize) }

func (s *site) resize(n int64) error {
	return unix.Mount("soak", s.path("audit"), "tmpfs", unix.MS_REMOUNT, fmt.Sprint("size=", n))
}

// framegate runs a command in the gateway, which has to succeed.
func (s *site) framegate(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	cmd := s.Command(ctx, lab.Gateway, program, append([]string{"--config", s.path("framegate.toml")}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("framegate %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// verify has the log verified and returns the last thing that is said of it.
func (s *site) verify(t *testing.T) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(s.framegate(t, "audit", "verify")), "\n")
	return lines[len(lines)-1]
}

// A server is one that runs.
type server struct {
	cmd    *exec.Cmd
	stdin  interface{ Close() error }
	exited chan struct{}
}

type serverArg struct {
	Addrs       []string
	Certificate string
}

// startServer starts the server of a host, and waits until it listens.
func (s *site) startServer(i int) error {
	arg := serverArg{Certificate: s.path("server.pem")}
	for _, a := range s.Lookup(s.hosts[i]) {
		arg.Addrs = append(arg.Addrs, netip.AddrPortFrom(a, 443).String())
	}
	b, err := json.Marshal(arg)
	if err != nil {
		return err
	}
	cmd := s.Command(context.Background(), lab.Server, os.Args[0])
	cmd.Env = append(os.Environ(), roleServer+"="+string(b))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, w, err := os.Pipe() // which is read to its end, whatever becomes of the server
	if err != nil {
		return err
	}
	defer w.Close()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		return err
	}
	w.Close()
	x := &server{cmd, stdin, make(chan struct{})}
	s.servers[i] = x
	lines := bufio.NewScanner(out)
	ready := lines.Scan() && lines.Text() == "ready"
	go func() {
		defer close(x.exited)
		defer out.Close()
		for lines.Scan() {
			s.notes.add(lines.Text())
		}
		cmd.Wait()
	}()
	if !ready {
		return fmt.Errorf("the server of %s does not get ready", s.hosts[i])
	}
	return nil
}

// kill ends a server at once, in the middle of whatever it does.
func (x *server) kill() {
	x.cmd.Process.Kill()
	<-x.exited
}

func (s *site) stopServers() {
	for _, x := range s.servers {
		x.stdin.Close()
		<-x.exited
	}
}

// notes are the ledgers of the servers. They outlive a server that is killed.
type notes struct {
	mu        sync.Mutex
	sent, got map[string][]sum  // by the id of a conversation
	opened    map[string]bool   // a server has agreed to the upgrade
	ended     map[string]string // how, if the server lived to tell
}

func newNotes() *notes {
	return &notes{sent: map[string][]sum{}, got: map[string][]sum{}, opened: map[string]bool{}, ended: map[string]string{}}
}

func (n *notes) add(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	what, rest, _ := strings.Cut(line, " ")
	id, text, _ := strings.Cut(rest, " ")
	switch what {
	case "open":
		n.opened[id] = true
	case "sent":
		n.sent[id] = append(n.sent[id], sum(text))
	case "got":
		n.got[id] = append(n.got[id], sum(text))
	case "end":
		n.ended[id] = text
	}
}
