package endtoend

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
)

// nobody runs a command as a user without rights; with the one capability that
// the gateway needs, if wanted.
func nobody(capable bool) []string {
	command := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	if capable {
		return append(command, "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin", "--bounding-set=-all,+net_admin")
	}
	return append(command, "--inh-caps=-all", "--bounding-set=-all")
}

// open makes a directory in which everybody may do everything.
func open(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(program), "open-")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestBadInput: a gateway that cannot start says so in one line, exits with 2
// and has changed nothing. The scripts of cmd/framegate have more of these; here
// are those that need a network, other users or a look at what was made.
func TestBadInput(t *testing.T) {
	n, err := lab.Up(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Down() })
	busy := []string{"[::]:8443", "[::]:8080", "127.0.0.1:9470"}
	for _, address := range busy {
		ln, err := n.Listen(t.Context(), lab.Gateway, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
	}
	const free = "intercept.listen = [\":7443\"]\nadmin.listen = \"127.0.0.1:7470\"\n"
	for _, tt := range []struct {
		name, config string
		as           []string
		prepare      func(t *testing.T, dir string)
		message      string // "DIR" is the directory
		hint         string
	}{
		{name: "port", config: "admin.listen = \"127.0.0.1:7470\"\n", message: "listen tcp :8443: bind: address already in use", hint: "shows who holds the port"},
		{name: "explicit port", config: free + "intercept.explicit = \":8080\"\n", message: "listen tcp :8080: bind: address already in use", hint: "shows who holds the port"},
		{name: "admin port", config: "intercept.listen = [\":7443\"]\n", message: "admin.listen: listen tcp 127.0.0.1:9470: bind: address already in use", hint: "shows who holds the port"},
		{name: "unknown key", config: free + "limits.drain = \"1s\"\n", message: `DIR/framegate.toml:3:8: unknown key "drain" in [limits]`},
		{name: "policy", config: free + "policy.files = [\"DIR/policy.toml\"]\n", message: "DIR/policy.toml:1:1: ",
			prepare: func(t *testing.T, dir string) { writeFile(t, dir, "policy.toml", "[[rules]]\n", 0o644) }},
		{name: "roots without a certificate", config: free + "tls.upstream_roots = [\"DIR/roots.pem\"]\n", message: "DIR/roots.pem: no certificate in it",
			hint: "tls.upstream_roots", prepare: func(t *testing.T, dir string) { writeFile(t, dir, "roots.pem", "", 0o644) }},
		{name: "log in a file", config: free + "audit.dir = \"DIR/framegate.toml/audit\"\n", message: "DIR/framegate.toml"},
		{name: "authority in a file", config: free + "ca.dir = \"DIR/framegate.toml/ca\"\n", message: "DIR/framegate.toml"},
		{name: "log of others", config: free, as: nobody(true), message: "DIR/audit", hint: "run as root, or as the user that the gateway runs as",
			prepare: func(t *testing.T, dir string) {
				if err := os.Mkdir(filepath.Join(dir, "audit"), 0o700); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "no privilege", config: free, as: nobody(false), message: "operation not permitted", hint: "CAP_NET_ADMIN"},
		{name: "authority of others", config: free, as: nobody(true), message: "DIR/ca: ", hint: "chown",
			prepare: func(t *testing.T, dir string) { makeAuthority(t, dir, 0) }},
		{name: "key of others", config: free, as: nobody(true), message: "DIR/ca/issuing-rsa.key", hint: "chown",
			prepare: func(t *testing.T, dir string) { makeAuthority(t, dir, 65534, "issuing-rsa.key") }},
		{name: "configuration of others", config: free, as: nobody(true), message: "open DIR/framegate.toml: permission denied",
			prepare: func(t *testing.T, dir string) {
				if err := os.Chmod(filepath.Join(dir, "framegate.toml"), 0o600); err != nil {
					t.Fatal(err)
				}
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := open(t)
			here := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
			config := here(tt.config)
			for _, name := range []string{"ca", "audit"} {
				if !strings.Contains(config, name+".dir") {
					config += name + ".dir = \"" + filepath.Join(dir, name) + "\"\n"
				}
			}
			writeFile(t, dir, "framegate.toml", config, 0o644)
			if tt.prepare != nil {
				tt.prepare(t, dir)
			}
			before := tree(t, dir)

			command := append(tt.as, program, "--config", filepath.Join(dir, "framegate.toml"), "run")
			cmd := n.Command(soon(t), lab.Gateway, command[0], command[1:]...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if code := exitCode(cmd.Run()); code != 2 {
				t.Errorf("exit %d, expected 2", code)
			}
			said := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
			if !strings.HasPrefix(said[0], "framegate: ") || !strings.Contains(said[0], here(tt.message)) {
				t.Errorf("said %q, expected %q", said, here(tt.message))
			}
			for _, more := range said[1:] {
				if !strings.HasPrefix(more, "framegate: hint: ") {
					t.Errorf("said more than one line: %q", said)
				}
			}
			if tt.hint != "" && !strings.Contains(said[len(said)-1], tt.hint) {
				t.Errorf("said %q, expected a hint with %q", said, tt.hint)
			}
			if after := tree(t, dir); !slices.Equal(before, after) {
				t.Errorf("left %q, there was %q", after, before)
			}
			for _, save := range []string{"iptables-save", "ip6tables-save"} {
				if rules, err := n.Command(soon(t), lab.Gateway, save).Output(); err != nil || strings.Contains(string(rules), "FRAMEGATE") {
					t.Errorf("%s: %q (%v)", save, rules, err)
				}
			}
		})
	}
}

func writeFile(t *testing.T, dir, name, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// makeAuthority makes an authority that belongs to a user, save for some files.
func makeAuthority(t *testing.T, dir string, owner int, not ...string) {
	t.Helper()
	path := filepath.Join(dir, "ca")
	if out, err := exec.CommandContext(soon(t), program, "ca", "init", "--dir", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	err := filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || slices.Contains(not, filepath.Base(name)) {
			return err
		}
		return os.Chown(name, owner, owner)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tree lists what is in dir.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		list = append(list, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestWithoutRoot: a user with CAP_NET_ADMIN and nothing else runs the gateway.
func TestWithoutRoot(t *testing.T) {
	s := newSite(t, settings{})
	dir := open(t)
	s.dir = dir
	makeAuthority(t, dir, 65534)
	writeFile(t, dir, "origin-root.pem", string(s.pki.RootPEM()), 0o644)
	writeFile(t, dir, "framegate.toml", "ca.dir = \""+dir+"/ca\"\naudit.dir = \""+dir+"/audit\"\naudit.level = \"frames\"\n"+
		"tls.upstream_roots = [\""+dir+"/origin-root.pem\"]\nlimits.drain_timeout = \"0s\"\n", 0o644)
	root, err := os.ReadFile(filepath.Join(dir, "ca", "root.crt"))
	if err != nil || !s.roots.AppendCertsFromPEM(root) {
		t.Fatalf("root: %v", err)
	}
	g := s.start(t, nobody(true)...)
	for _, network := range families {
		talk(t, g, s.dial(t, network, chatHost, 443, clients.Trust(s.roots, chatHost)), chatHost, "/echo?nobody="+network)
	}
	g.signal(t, syscall.SIGTERM)
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, g.console)
	}
	g.log.waitFor(t, audit.GatewayStop, 1)
	if info, err := os.Stat(filepath.Join(dir, "audit", "seg")); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the log: %v (%v)", info.Mode(), err)
	}
}
