package endtoend

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/ca/bundle"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// A probe is a program on a device that connects to a host through the gateway.
// It succeeds if the device trusts the gateway, and otherwise fails with reason.
type probe struct {
	name   string
	script string // run with HOST, JOB and CLIENTS in the environment
	reason string
}

var (
	curl = probe{"curl", `curl -sS -o /dev/null "https://$HOST/page"`, "SSL certificate problem"}

	openssl = probe{"openssl", `openssl s_client -connect "$HOST:443" -servername "$HOST" -verify_hostname "$HOST" -verify_return_error </dev/null`, "certificate verify failed"}

	python = probe{"python", `/usr/bin/python3 "$CLIENTS/python/client.py" "$JOB" | tee /dev/stderr | grep -q '"text": true'`, "CERTIFICATE_VERIFY_FAILED"}

	requests = probe{"requests", `/usr/bin/python3 -c 'import os, requests; requests.get("https://" + os.environ["HOST"] + "/page").raise_for_status()'`, "CERTIFICATE_VERIFY_FAILED"}

	node = probe{"node", `node "$CLIENTS/node/client.js" "$JOB" | tee /dev/stderr | grep -q '"text":true'`, "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"}

	java = probe{"java", `java -XX:TieredStopAtLevel=1 "$CLIENTS/java/Client.java" "wss://$HOST/echo/java"`, "PKIX path building failed"}

	// A profile of its own each time, or the page would come from the last one's cache.
	// -202 is ERR_CERT_AUTHORITY_INVALID.
	chromium = probe{"chromium", `chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run \
		--disable-background-networking --disable-component-update --disable-sync --no-proxy-server \
		--enable-logging=stderr --user-data-dir="$(mktemp -d "$HOME/profile.XXXXXX")" --dump-dom "https://$HOST/page" >"$HOME/page"
		grep -q '<title>framegate lab' "$HOME/page"`, "net_error -202"}
)

// TestBundles follows the device bundles by the letter on devices of their own:
// real clients trust the gateway after that, and neither before nor after the
// removal.
func TestBundles(t *testing.T) {
	s := newSite(t, settings{})
	g := s.start(t)
	for _, client := range []string{"python", "node", "java"} {
		s.origin.Handle("/echo/"+client, origin.Echo)
	}
	t.Run("devices", func(t *testing.T) {
		for _, tt := range []struct {
			name, platform     string
			install, uninstall [2]string // a heading of README.txt and, unless it is empty, a part of the commands
			session            bool      // what was installed is for the shell that did it
			shell              string    // put in front of the probe
			probes             []probe
		}{
			{
				name: "linux", platform: "linux", install: [2]string{"Install", "sh install.sh"}, uninstall: [2]string{"Uninstall", "sh uninstall.sh"},
				probes: []probe{curl, openssl, python, java}, // Debian's Java shares the list
			},
			{
				name: "chromium nss", platform: "linux", install: [2]string{"Install", "install-nss.sh"}, uninstall: [2]string{"Uninstall", "uninstall-nss.sh"},
				probes: []probe{chromium},
			},
			{
				name: "chromium policy", platform: "linux", install: [2]string{"Install", "/etc/chromium/"}, uninstall: [2]string{"Uninstall", "/etc/chromium/"},
				probes: []probe{chromium},
			},
			{
				name: "java", platform: "java", install: [2]string{"Install", "sh install.sh"}, uninstall: [2]string{"Uninstall", "sh uninstall.sh"},
				probes: []probe{java},
			},
			{
				name: "java copy", platform: "java", install: [2]string{"Install without touching the runtime"}, session: true,
				probes: []probe{java},
			},
			{
				name: "node", platform: "node", install: [2]string{"Install", "sh install.sh"}, uninstall: [2]string{"Uninstall", "sh uninstall.sh"},
				shell: ". /etc/profile\n", probes: []probe{node},
			},
			{
				name: "node shell", platform: "node", install: [2]string{"Install", "export "}, session: true,
				probes: []probe{node},
			},
			{
				name: "python", platform: "python", install: [2]string{"Install", "eval "}, uninstall: [2]string{"Uninstall", "eval "}, session: true,
				probes: []probe{python, curl, requests},
			},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				b, d := g.export(t, tt.platform), newDevice(t, g)
				steps := func(s [2]string) string {
					if s[0] == "" {
						return ""
					}
					if s[1] == "" {
						return b.steps(t, s[0])
					}
					return b.steps(t, s[0], s[1])
				}
				install, uninstall := steps(tt.install), steps(tt.uninstall)
				expect := func(when string, trusted bool, before string) {
					for _, p := range tt.probes {
						d.expect(t, when, p, trusted, before)
					}
				}
				expect("before", false, tt.shell)
				if tt.session {
					expect("installed", true, install)
					expect("uninstalled", false, install+uninstall+unsetFor(uninstall))
					return
				}
				d.must(t, install)
				d.must(t, install) // nothing is wrong with doing it again
				expect("installed", true, tt.shell)
				d.must(t, uninstall)
				d.must(t, uninstall)
				expect("uninstalled", false, tt.shell)
			})
		}
		t.Run("firefox", func(t *testing.T) {
			t.Parallel()
			testFirefox(t, g)
		})
		t.Run("other systems", func(t *testing.T) {
			t.Parallel()
			testOtherSystems(t, g)
		})
		t.Run("overlap", func(t *testing.T) {
			t.Parallel()
			testOverlap(t, g)
		})
		t.Run("another certificate", func(t *testing.T) {
			t.Parallel()
			testOtherCertificate(t, g)
		})
	})
}

// unsetFor is how a shell forgets what it was told where README.txt has no
// commands for that but says so.
func unsetFor(uninstall string) string {
	if uninstall != "" {
		return ""
	}
	return "unset JAVA_TOOL_OPTIONS NODE_EXTRA_CA_CERTS\n"
}

// expect runs a probe after a script in the same shell.
func (d *device) expect(t *testing.T, when string, p probe, trusted bool, before string) {
	t.Helper()
	scripts, err := filepath.Abs("../lab/clients")
	if err != nil {
		t.Fatal(err)
	}
	host := "v4." + chatHost
	job, err := json.Marshal(clients.Job{URL: "wss://" + host + "/echo/" + p.name})
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.run(t, before+p.script, "HOST="+host, "JOB="+string(job), "CLIENTS="+scripts)
	if trusted != (err == nil) || !trusted && !strings.Contains(out, p.reason) {
		t.Errorf("%s, %s: %v, expected trusted = %t\n%s", when, p.name, err, trusted, out)
	}
}

// testFirefox: the policy makes Firefox trust the gateway. It keeps the
// certificate in the profile, as README.txt says, until that is cleaned.
func testFirefox(t *testing.T, g *gateway) {
	b, d := g.export(t, "firefox"), newDevice(t, g)
	install, uninstall := b.steps(t, "Linux: install", "sh install.sh"), b.steps(t, "Linux: uninstall", "sh uninstall.sh")
	clean := b.steps(t, "Linux: uninstall", "sh uninstall-profile.sh")
	g.origin.Handle("/echo/firefox", origin.Echo)
	for _, step := range []struct {
		name, script string
		trusted      bool
	}{
		{"before", "", false},
		{"installed", install + install, true},
		{"uninstalled", uninstall + uninstall, true},
		{"profile cleaned", clean + clean, false},
	} {
		d.must(t, step.script)
		trusted := d.firefox(t, step.name)
		if !trusted && step.trusted { // it reads the certificate while it opens its first page
			trusted = d.firefox(t, step.name+" again")
		}
		if trusted != step.trusted {
			t.Errorf("%s: trusted = %t", step.name, trusted)
		}
	}
	d.must(t, "mkdir -p /etc/firefox/policies; echo '{\"policies\": {}}' > /etc/firefox/policies/policies.json")
	if out, err := d.run(t, install); err == nil || !strings.Contains(out, "has policies of its own") {
		t.Errorf("over other policies: %v\n%s", err, out)
	}
	d.must(t, "grep -q 'policies\": {}}' /etc/firefox/policies/policies.json")
}

// firefox opens a page that works on a wss URL and says whether that succeeded,
// or else that Firefox refused the gateway's certificate with an alert.
func (d *device) firefox(t *testing.T, run string) bool {
	t.Helper()
	host := "v6." + chatHost // no other device asks for it
	before := len(d.log.all(t))
	argument, err := json.Marshal(struct {
		Run string `json:"run"`
		clients.Job
	}{"firefox " + run, clients.Job{URL: "wss://" + host + "/echo/firefox"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	cmd := d.command(ctx, `mkdir -p "$HOME/.mozilla/firefox/test.default"; exec firefox-esr --headless --no-remote --profile "$HOME/.mozilla/firefox/test.default" "$PAGE"`,
		"PAGE=https://"+host+"/page#job="+url.QueryEscape(string(argument)))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	posted := make(chan error, 1)
	go func() {
		result, err := d.origin.Result(ctx, "firefox "+run)
		var report clients.Report
		if err == nil {
			err = json.Unmarshal(result, &report)
		}
		if failed := report.Failed(); err == nil && len(failed) > 0 {
			err = fmt.Errorf("%q", failed)
		}
		posted <- err
	}()
	refused := func(r record) bool { return r.Event == audit.TLSFail && r.SNI == host }
	trusted, done := false, false
	for !done && err == nil {
		select {
		case err = <-posted:
			trusted, done = true, true
		case err = <-ended:
			err = fmt.Errorf("firefox ended by itself: %v", err)
			ended <- nil
		case <-time.After(10 * time.Millisecond):
			done = slices.ContainsFunc(d.log.all(t)[before:], refused)
		}
	}
	cancel()
	<-ended
	if err != nil {
		t.Fatal(err)
	}
	return trusted
}

// testOtherCertificate: no script installs another certificate than the one
// whose fingerprint it knows.
func testOtherCertificate(t *testing.T, g *gateway) {
	d := newDevice(t, g)
	for _, tt := range []struct{ platform, install string }{
		{"linux", "sh install.sh"}, {"linux", "sh install-nss.sh"}, {"firefox", "sh install.sh"}, {"java", "sh install.sh"},
		{"node", "sh install.sh"}, {"docker", "sh install.sh registry.example"}, {"macos", "sh install.sh"},
		{"python", "/usr/bin/python3 install.py " + d.home()},
	} {
		b := g.export(t, tt.platform)
		list, err := filepath.Glob(filepath.Join(b.dir, "framegate-root*"))
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		if err := os.WriteFile(list[0], g.pki.RootPEM(), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := d.run(t, fmt.Sprintf("cd '%s'\n%s", b.dir, tt.install))
		if err == nil || !strings.Contains(out, filepath.Base(list[0])+" is not") && !strings.Contains(out, filepath.Base(list[0])+" does not hold") {
			t.Errorf("%s, %s: %v\n%s", tt.platform, tt.install, err, out)
		}
	}
}

// testOtherSystems: which command the Linux scripts give to systems that are not
// the one of the tests. Those commands do not run here: they are replaced by one
// that says how it was called.
func testOtherSystems(t *testing.T, g *gateway) {
	b := g.export(t, "linux")
	list, err := filepath.Glob(filepath.Join(b.dir, "*.crt"))
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	name := filepath.Base(list[0])
	for _, tt := range []struct {
		system, set, tool      string
		store                  string // directory, if the scripts put the file there themselves
		installed, uninstalled string // calls
	}{
		{"RHEL", "mkdir -p /etc/pki/ca-trust/source/anchors", "update-ca-trust", "/etc/pki/ca-trust/source/anchors", "extract", "extract"},
		{"SUSE", "mkdir -p /etc/pki/trust/anchors", "update-ca-certificates", "/etc/pki/trust/anchors", "", "--fresh"},
		{"p11-kit", "rm /usr/sbin/update-ca-certificates", "trust", "", "anchor --store " + name, "anchor --remove " + name},
	} {
		d := newDevice(t, g)
		d.must(t, fmt.Sprintf(`%s
tool=/usr/local/bin/%s
printf '#!/bin/sh\necho "$*" >>"$HOME/calls"\n' >$tool
chmod +x $tool`, tt.set, tt.tool))
		there := func() bool {
			_, err := d.run(t, fmt.Sprintf("cmp '%s' '%s/%s'", list[0], tt.store, name))
			return err == nil
		}
		d.must(t, b.steps(t, "Install", "sh install.sh"))
		installed := there()
		d.must(t, b.steps(t, "Uninstall", "sh uninstall.sh"))
		if tt.store != "" && (!installed || there()) {
			t.Errorf("%s: installed %t, still there after the removal %t", tt.system, installed, there())
		}
		if out, err := d.run(t, `cat "$HOME/calls"`); err != nil || out != tt.installed+"\n"+tt.uninstalled+"\n" {
			t.Errorf("%s: %s was called with %q, %v", tt.system, tt.tool, out, err)
		}
	}
}

// testOverlap: the bundle of two roots goes on top of the one of the first, and
// removing that leaves the second.
func testOverlap(t *testing.T, g *gateway) {
	var roots []*x509.Certificate
	for _, text := range []string{g.framegate(t, "ca", "export"), string(g.pki.RootPEM())} {
		block, _ := pem.Decode([]byte(text))
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, c)
	}
	d := newDevice(t, g)
	write := func(platform string, roots ...*x509.Certificate) string {
		files, err := bundle.For(platform, roots)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, f.Mode); err != nil {
				t.Fatal(err)
			}
		}
		return fmt.Sprintf("cd '%s'\n", dir)
	}
	list := func(command string) string {
		out, err := d.run(t, command+" | grep -o 'framegate-root-[0-9a-f]*' | sort -u")
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		return out
	}

	const nss = `certutil -L -d "sql:$HOME/.pki/nssdb"`
	old, both := write("linux", roots[0]), write("linux", roots...)
	d.must(t, old+"sh install-nss.sh\n"+both+"sh install-nss.sh")
	if got := list(nss); strings.Count(got, "\n") != 2 {
		t.Errorf("with both roots: %s", got)
	}
	d.must(t, old+"sh uninstall-nss.sh")
	if got := list(nss); strings.Count(got, "\n") != 1 || got == list(old+"ls") {
		t.Errorf("without the old root: %s", got)
	}

	old, both = write("firefox", roots[0]), write("firefox", roots...)
	d.must(t, old+"sh install.sh\n"+both+"sh install.sh\ncmp policies.json /etc/firefox/policies/policies.json")
	if got := list("ls /etc/firefox/policies"); strings.Count(got, "\n") != 2 {
		t.Errorf("Firefox has %s", got)
	}
}
