package main

import (
	"bytes"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"framegate/ca"
	"framegate/ca/bundle"
)

// An execTrust is what makes the command trust the authority, and nobody else:
// files in place of the system's lists, for this command alone, and variables.
type execTrust struct {
	mounts []execMount
	env    []string
}

// An execMount is a file or directory that the command sees in place of another.
type execMount struct{ from, to string }

// systemLists are where systems keep their roots in one file: Debian, Fedora, SUSE,
// RHEL and Alpine, as in crypto/x509.
var systemLists = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// listVariables name a list of roots in place of the system's: of OpenSSL and Go,
// Python's requests and pip, curl, git, the AWS tools, cargo.
var listVariables = []string{
	"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO",
}

// extraVariables name roots besides those of the program: of Node, Deno.
var extraVariables = []string{"NODE_EXTRA_CA_CERTS", "DENO_CERT"}

// browsers are where Chromium and its kin look for policies, if they are there.
var browsers = []string{"/etc/chromium", "/etc/chromium-browser", "/etc/opt/chrome", "/etc/opt/edge"}

// newExecTrust writes to dir, which it makes, what is to be trusted besides what
// the system and env say.
func newExecTrust(dir string, authority *ca.Authority, env []string) (*execTrust, error) {
	t := new(execTrust)
	root := authority.RootPEM()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	write := func(name string, before []byte) (string, error) {
		path := filepath.Join(dir, name)
		if len(before) > 0 && !bytes.HasSuffix(before, []byte("\n")) {
			before = append(before, '\n')
		}
		return path, os.WriteFile(path, slices.Concat(before, root), 0o644)
	}

	var system []byte
	seen := make(map[string]bool)
	for _, name := range systemLists {
		real, err := filepath.EvalSymlinks(name)
		if err != nil || seen[real] {
			continue
		}
		seen[real] = true
		list, err := os.ReadFile(real)
		if err != nil {
			return nil, err
		}
		if system == nil {
			system = list
		}
		from, err := write("list-"+strings.ReplaceAll(strings.Trim(real, "/"), "/", "-"), list)
		if err != nil {
			return nil, err
		}
		t.mounts = append(t.mounts, execMount{from, real})
	}
	for name, otherwise := range variables(system) {
		list := otherwise
		if theirs := lookup(env, name); theirs != "" {
			if own := certificatesIn(theirs); own != nil {
				list = own
			}
		}
		file, err := write(name+".pem", list)
		if err != nil {
			return nil, err
		}
		t.env = append(t.env, name+"="+file)
	}
	return t, t.addBrowsers(dir, authority)
}

// mostRoots is the size of a file of roots; that of Debian has 0.2 MiB.
const mostRoots = 16 << 20

// certificatesIn returns the certificates of a file that the user has named, and
// nothing else of it: we may read what the user may not.
func certificatesIn(name string) (list []byte) {
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() || info.Size() > mostRoots {
		return nil
	}
	rest, err := os.ReadFile(name)
	for err == nil {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" || block.Type == "TRUSTED CERTIFICATE" {
			list = append(list, pem.EncodeToMemory(block)...)
		}
	}
	return list
}

// variables has what each names if the user has not said.
func variables(system []byte) map[string][]byte {
	m := make(map[string][]byte)
	for _, name := range listVariables {
		m[name] = system
	}
	for _, name := range extraVariables {
		m[name] = nil
	}
	return m
}

// lookup returns a variable of env, of which the last counts.
func lookup(env []string, name string) string {
	for _, v := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// addBrowsers adds a managed policy to those that browsers have on this machine.
func (t *execTrust) addBrowsers(dir string, authority *ca.Authority) error {
	files, err := bundle.For("linux", authority.Roots())
	if err != nil {
		return err
	}
	at := slices.IndexFunc(files, func(f bundle.File) bool { return f.Name == "chrome-policy.json" })
	for _, name := range browsers {
		if info, err := os.Stat(name); err != nil || !info.IsDir() {
			continue
		}
		own := filepath.Join(dir, strings.ReplaceAll(strings.Trim(name, "/"), "/", "-"))
		managed := filepath.Join(own, "policies", "managed")
		err := os.CopyFS(own, os.DirFS(name))
		if err == nil {
			err = os.MkdirAll(managed, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(managed, "framegate-exec.json"), files[at].Data, 0o644)
		}
		if err != nil { // which is no reason not to run something else
			slog.Warn("a browser will not trust the gateway", "dir", name, "err", err)
			continue
		}
		t.mounts = append(t.mounts, execMount{own, name})
	}
	return nil
}
