package mitm

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestScan lets testssl.sh (https://testssl.sh, Debian's package) scan what a
// client meets: protocols, categories of ciphers, forward secrecy and the
// vulnerabilities that it knows.
func TestScan(t *testing.T) {
	t.Parallel() // it takes half a minute, mostly waiting
	o := newHTTPOrigin(t, secure("valid"), http.NotFoundHandler())
	g := newGateway(t, o.addr, "")
	_, port, err := net.SplitHostPort(g.addr)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "scan.json")
	// No look-ups, and nothing but our own address is called.
	cmd := exec.CommandContext(t.Context(), "testssl", "--quiet", "--color", "0", "--warnings", "batch",
		"--ip", "127.0.0.1", "-n", "none", "--jsonfile", file, "-p", "-s", "-f", "-U", originName+":"+port)
	out, err := cmd.CombinedOutput() // its exit code counts findings
	text, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatalf("testssl: %v, %v (`make setup` installs it)\n%s", err, readErr, out)
	}
	var findings []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &findings); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	seen := map[string]string{}
	for _, f := range findings {
		seen[f.ID] = f.Finding
		switch {
		case f.Severity == "OK" || f.Severity == "INFO":
		case f.ID == "engine_problem": // of the openssl here
		case f.ID == "cipherlist_AVERAGE" || f.ID == "LUCKY13":
			// ECDHE with AES-CBC, last of all, for clients that have nothing else.
			// Browsers offer it, too; docs/TRUST.md says why it is there.
		default:
			t.Errorf("%s %s: %s", f.Severity, f.ID, f.Finding)
		}
	}
	for id, want := range map[string]string{
		"SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered",
		"TLS1_2": "offered", "TLS1_3": "offered with final", "ALPN": "http/1.1",
		"cipherlist_NULL": "not offered", "cipherlist_aNULL": "not offered", "cipherlist_EXPORT": "not offered",
		"cipherlist_LOW": "not offered", "cipherlist_3DES_IDEA": "not offered", "cipherlist_STRONG": "offered",
		"PFS": "offered", "heartbleed": "not vulnerable, no heartbeat extension", "SWEET32": "not vulnerable", "RC4": "not vulnerable",
	} {
		if seen[id] != want {
			t.Errorf("%s: %q, want %q", id, seen[id], want)
		}
	}
}
