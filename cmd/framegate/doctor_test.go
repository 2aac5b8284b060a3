package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/ca"
	"framegate/policy"
)

// doctorFor makes a doctor with a configuration that is not the machine's.
// %s is the test's directory.
func doctorFor(t *testing.T, format string) (*doctor, string) {
	t.Helper()
	dir := t.TempDir()
	text := strings.ReplaceAll(format, "%s", dir)
	if !strings.Contains(text, "[ca]") {
		text += fmt.Sprintf("\n[ca]\ndir = %q\n", filepath.Join(dir, "ca"))
	}
	if !strings.Contains(text, "[audit]") {
		text += fmt.Sprintf("\n[audit]\ndir = %q\n", filepath.Join(dir, "log"))
	}
	file := filepath.Join(dir, "f.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	return &doctor{config: c, configFlag: " --config " + file, noSelfTest: true}, dir
}

// expect compares one diagnosis, of which detail and fix contain the words.
func expect(t *testing.T, list []diagnosis, status, detail, fix string) {
	t.Helper()
	if len(list) != 1 || list[0].Status != status || !strings.Contains(list[0].Detail, detail) || !strings.Contains(list[0].Fix, fix) {
		t.Errorf("got %+v, expected %s, %q, %q", list, status, detail, fix)
	}
}

func TestDoctorJSON(t *testing.T) {
	_, dir := doctorFor(t, "[policy]\nfiles = []\n")
	var stdout, stderr bytes.Buffer
	code := execute(t.Context(), []string{"doctor", "--json", "--no-self-test", "--config", filepath.Join(dir, "f.toml")}, &stdout, &stderr)
	var list []diagnosis
	in := json.NewDecoder(&stdout)
	in.DisallowUnknownFields()
	if err := in.Decode(&list); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if failing := countStatus(list, statusFail); code != min(failing, 1) {
		t.Errorf("exit %d with %d failing", code, failing)
	}
	names := []string{"config"}
	for _, c := range checks {
		if c.name != "self-test" {
			names = append(names, c.name)
		}
	}
	var seen []string
	for _, d := range list {
		seen = append(seen, d.Check)
		if !slices.Contains([]string{statusOK, statusWarn, statusFail}, d.Status) || d.Detail == "" {
			t.Errorf("%+v", d)
		}
		if d.Status == statusFail && d.Fix == "" || d.Status == statusOK && d.Fix != "" {
			t.Errorf("%s: %s, and the fix is %q", d.Check, d.Status, d.Fix)
		}
	}
	if seen = slices.Compact(seen); !slices.Equal(seen, names) {
		t.Errorf("checks %v\nexpected %v", seen, names)
	}
}

// What an outsider names is text for a terminal, and for a shell.
func TestDoctorEscapes(t *testing.T) {
	d := named("x", fail("kill 1  # a\nrm -r /", "\x1b[2Jone\ntwo"))[0]
	if d.Detail != `\x1b[2Jone; two` || d.Fix != `kill 1  # a\x0arm -r /` {
		t.Errorf("%+v", d)
	}
	for in, want := range map[string]string{"/var/lib/a-b": "/var/lib/a-b", "a b": "'a b'", "": "''", "it's $(x)": `'it'\''s $(x)'`} {
		if got := shellWord(in); got != want {
			t.Errorf("%q became %s", in, got)
		}
	}
	for in, want := range map[string]string{
		"give it PEM files": "# give it PEM files",
		"chmod 600 a":       "chmod 600 a",
		"framegate ca rotate --dir a; devices need nothing":    "framegate ca rotate --dir a  # devices need nothing",
		"mv a b && framegate ca init --dir a, then install it": "mv a b && framegate ca init --dir a  # then install it",
	} {
		if got := pasteable(in); got != want {
			t.Errorf("%q became %s", in, got)
		}
	}
}

// An authority that ends soon, and one that has ended: what is said mends both.
func TestDoctorExpiry(t *testing.T) {
	for _, tt := range []struct {
		age           time.Duration
		check, status string
	}{
		{350 * 24 * time.Hour, "expiry", statusWarn},
		{400 * 24 * time.Hour, "authority", statusFail},
	} {
		d, dir := doctorFor(t, "")
		made := time.Now().Add(-tt.age)
		if _, err := ca.Create(filepath.Join(dir, "ca"), ca.Options{Now: func() time.Time { return made }}); err != nil {
			t.Fatal(err)
		}
		list := slices.Concat(d.checkAuthority(t.Context()), d.checkExpiry(t.Context()))
		fix := ""
		for _, f := range list {
			if f.Status == tt.status && strings.Contains(f.Detail, "expire") {
				fix = f.Fix
			}
		}
		command, _, _ := strings.Cut(fix, "#")
		args := strings.Fields(command)
		if len(args) < 2 || args[0] != "framegate" {
			t.Fatalf("%v: %+v", tt.age, list)
		}
		var out bytes.Buffer
		if code := execute(t.Context(), args[1:], &out, &out); code != 0 {
			t.Fatalf("%s: exit %d\n%s", fix, code, out.String())
		}
		expect(t, d.checkAuthority(t.Context()), statusOK, "root sha-256", "")
		expect(t, d.checkExpiry(t.Context()), statusOK, "nothing ends soon", "")
	}
}

func TestDoctorPassphrase(t *testing.T) {
	d, dir := doctorFor(t, "[ca]\ndir = \"%s/ca\"\npassphrase_file = \"%s/phrase\"\n")
	phrase := func(s string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "phrase"), []byte(s+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	phrase("correct horse battery staple")
	var out bytes.Buffer
	if code := execute(t.Context(), []string{"--config", filepath.Join(dir, "f.toml"), "ca", "init"}, &out, &out); code != 0 {
		t.Fatal(out.String())
	}
	expect(t, d.checkAuthority(t.Context()), statusOK, "a passphrase that opens them", "")
	phrase("wrong horse battery staple")
	expect(t, d.checkAuthority(t.Context()), statusFail, "passphrase", "")
	d.config.CA.PassphraseFile = ""
	expect(t, d.checkAuthority(t.Context()), statusWarn, "there is no passphrase here", "LoadCredential=framegate-ca:")
}

func TestDoctorRevocation(t *testing.T) {
	for _, tt := range []struct {
		ends                time.Time
		revocation, status  string
		detail, fixContains string
	}{
		{time.Now().Add(time.Hour), "require", statusOK, "list of", ""},
		{time.Now().Add(-time.Hour), "staple", statusWarn, "has ended on", "curl -fo "},
		{time.Now().Add(-time.Hour), "require", statusFail, `tls.revocation = "require"`, "curl -fo "},
	} {
		d, dir := doctorFor(t, "[tls]\ncrls = [\"%s/l.crl\"]\nrevocation = \""+tt.revocation+"\"\n")
		_, list := listOf(t, tt.ends)
		if err := os.WriteFile(filepath.Join(dir, "l.crl"), list, 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, d.checkRevocation(t.Context()), tt.status, tt.detail, tt.fixContains)
	}
}

// Targets that answer, that show a certificate of somebody else, that are shut.
func TestDoctorShipping(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	d, dir := doctorFor(t, "[audit]\nship = [\"otlp+"+server.URL+"\"]\n")
	expect(t, d.checkShipping(t.Context()), statusFail, "certificate signed by unknown authority", "openssl s_client -connect 127.0.0.1:")
	roots := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	d.config.Ship.Roots = []string{roots}
	expect(t, d.checkShipping(t.Context()), statusOK, "reachable, certificate verified", "")
	server.Close()
	expect(t, d.checkShipping(t.Context()), statusFail, "connection refused", "nc -vz 127.0.0.1 ")
	d.config.Ship.Roots = []string{filepath.Join(dir, "none.pem")}
	expect(t, d.checkShipping(t.Context()), statusFail, "audit.ship_roots: ", "# give it PEM")
}

// The admin port of a gateway that runs, by TCP and by a socket in a directory.
func TestDoctorAdmin(t *testing.T) {
	full := false
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if full && r.URL.Path == "/readyz" {
			http.Error(w, "limits.max_connections reached", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "fine")
	})
	t.Setenv("http_proxy", "http://127.0.0.1:1") // is not asked
	server := httptest.NewServer(answer)
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	for _, full = range []bool{false, true} {
		for _, listen := range []string{server.Listener.Addr().String(), fmt.Sprintf(":%d", port)} {
			d, _ := doctorFor(t, fmt.Sprintf("[admin]\nlisten = %q\n", listen))
			d.gateway = &running{pid: os.Getpid()}
			list := d.checkAdmin(t.Context())
			expect(t, list[:1], statusOK, "/healthz: fine", "")
			if full {
				expect(t, list[1:], statusFail, "503 Service Unavailable: limits.max_connections reached", "journalctl")
			} else {
				expect(t, list[1:], statusOK, "/readyz: fine", "")
			}
		}
	}
	d, dir := doctorFor(t, "[admin]\nlisten = \"unix:%s/admin.sock\"\n")
	d.gateway = &running{pid: os.Getpid()}
	if list := d.checkAdmin(t.Context()); countStatus(list, statusFail) != 2 {
		t.Errorf("nobody listens: %+v", list)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	full = false
	go http.Serve(ln, answer)
	if list := d.checkAdmin(t.Context()); countStatus(list, statusOK) != 2 {
		t.Errorf("%+v", list)
	}
}

// The kernel's list of sockets, and who is in whose way.
func TestDoctorPorts(t *testing.T) {
	for _, tt := range []struct{ listen, free, taken string }{
		{"127.0.0.1:0", "127.0.0.2", "127.0.0.1"},
		{"127.0.0.1:0", "::1", ""},
		{"[::1]:0", "127.0.0.1", "::1"},
		{":0", "", "192.0.2.1"},
	} {
		ln, err := net.Listen("tcp", tt.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
		d, _ := doctorFor(t, "[admin]\nlisten = \"\"\n")
		if tt.free != "" {
			d.config.Intercept.Listen = []string{net.JoinHostPort(tt.free, port)}
			expect(t, d.checkPorts(t.Context()), statusOK, "free", "")
		}
		d.config.Intercept.Listen = []string{net.JoinHostPort(tt.taken, port)}
		expect(t, d.checkPorts(t.Context()), statusFail, fmt.Sprintf("process %d", os.Getpid()), fmt.Sprintf("kill %d ", os.Getpid()))
		d.gateway = &running{pid: os.Getpid()}
		expect(t, d.checkPorts(t.Context()), statusOK, "the gateway listens", "")
		ln.Close()
		expect(t, d.checkPorts(t.Context()), statusFail, "the gateway does not listen there", "systemctl restart framegate")
	}
}

// The gateway is found by the lock of its log, and its log by who it belongs to.
func TestDoctorGateway(t *testing.T) {
	d, dir := doctorFor(t, "")
	expect(t, d.checkGateway(t.Context()), statusWarn, "none runs", "framegate --config "+dir+"/f.toml run")
	log, err := audit.Open(audit.Options{Dir: filepath.Join(dir, "log"), Level: audit.Frames})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	expect(t, d.checkGateway(t.Context()), statusOK, fmt.Sprintf("process %d, user %d", os.Getpid(), os.Geteuid()), "")
	expect(t, d.checkPrivileges(t.Context()), map[bool]string{true: statusOK, false: statusFail}[os.Geteuid() == 0], "CAP_NET_ADMIN", "")
	expect(t, d.checkDescriptors(t.Context()), statusOK, "of the gateway", "")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	d.gateway = nil
	expect(t, d.checkGateway(t.Context()), statusWarn, "none runs", "")
}

// Root may read what the user of the gateway may not.
func TestDoctorOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	d, dir := doctorFor(t, "")
	if _, err := ca.Create(filepath.Join(dir, "ca"), ca.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := writeLog(filepath.Join(dir, "log"), sampleEvents()...); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "log"), 4711, 4711); err != nil {
		t.Fatal(err)
	}
	audit, authority := d.checkAudit(t.Context()), d.checkAuthority(t.Context())
	expect(t, audit, statusFail, "belongs to user root, expected user 4711", "chown -R 4711 "+dir+"/log")
	expect(t, authority, statusFail, "belongs to user root, and the gateway runs as user 4711", "chown -R 4711 "+dir+"/ca")
	if out, err := exec.Command("sh", "-c", audit[0].Fix+" && "+authority[0].Fix).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	expect(t, d.checkAudit(t.Context()), statusOK, "of user 4711", "")
	expect(t, d.checkAuthority(t.Context()), statusOK, "root sha-256", "")
	// A directory that only the gateway could have made is made for it.
	if err := os.RemoveAll(filepath.Join(dir, "ca")); err != nil {
		t.Fatal(err)
	}
	expect(t, d.checkAuthority(t.Context()), statusFail, "none yet", "setpriv --reuid 4711 --clear-groups framegate ")
}

func TestDoctorPolicyOfTheTest(t *testing.T) {
	for text, want := range map[string]bool{
		"": true,
		"[[rule]]\nid = \"a\"\naction = \"log\"\nmatch.contains = [\"doctor\"]\n":           true,
		"[[rule]]\nid = \"a\"\naction = \"redact\"\nmatch.contains = [\"doctor\"]\n":        false,
		"[policy]\ndefault = \"close\"\n":                                                   false,
		"[[connection]]\nid = \"a\"\nclient = [\"10.0.0.0/8\"]\ndecision = \"block\"\n":     false,
		"[[connection]]\nid = \"a\"\nhost = [\"**.bank.example\"]\ndecision = \"bypass\"\n": true,
	} {
		file := filepath.Join(t.TempDir(), "p.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := policy.Load([]string{file})
		if err != nil {
			t.Fatal(err)
		}
		if got := passes(p); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestParseProcAddr(t *testing.T) {
	if a, ok := parseProcAddr("00000000000000000000000000000000:20FB"); !ok || a != netip.MustParseAddrPort("[::]:8443") {
		t.Error(a, ok)
	}
	for _, bad := range []string{"", ":", "zz:1", "00:1", "0100007F:12345", "0100007F"} {
		if a, ok := parseProcAddr(bad); ok {
			t.Errorf("%q is %v", bad, a)
		}
	}
}

// Tables of nft that let captured connections in, and those that do not.
func TestDoctorNftables(t *testing.T) {
	for rule, want := range map[string][2]bool{ // redirect, tproxy
		"":                                   {},
		`iifname "lo" accept`:                {},
		`iif "lo" accept`:                    {},
		`iifname "lan0" tcp dport 22 accept`: {},
		`ct state 0x2,0x4 accept`:            {},
		`tcp dport 8443 drop`:                {},
		`tcp dport 18443 accept`:             {},
		`iifname "lan0" accept`:              {true, true},
		`iifname { "lan0", "lan1" } counter accept`:                      {true, true},
		`tcp dport 8443 accept`:                                          {true, false},
		`ip saddr 10.0.0.0/8 tcp dport { 22, 8443 } ct state 0x8 accept`: {true, false},
		`ct status 0x10,0x20 accept`:                                     {true, false},
		`ct status 0x10 accept`:                                          {},
		`tcp dport { 80, 443 } accept`:                                   {false, true},
		`meta l4proto 6 socket transparent 1 accept`:                     {false, true},
		`meta mark 0x46475450 counter packets 0 accept`:                  {false, true},
	} {
		for i, mode := range []string{"redirect", "tproxy"} {
			d, _ := doctorFor(t, fmt.Sprintf("[intercept]\nmode = %q\n", mode))
			if got := d.nftAdmits("table inet fw {\n\tchain in {\n\t\t" + rule + "\n\t}\n}\n"); got != want[i] {
				t.Errorf("%s: %s: %v", mode, rule, got)
			}
		}
	}
}
