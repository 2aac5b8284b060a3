package bundle

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write testdata/*.txtar anew")

func certificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sets are the roots of every day, and those of an overlap.
func sets(t testing.TB) map[string][]*x509.Certificate {
	one, two := certificate(t, "root.pem"), certificate(t, "next.pem")
	return map[string][]*x509.Certificate{"one": {one}, "overlap": {two, one}} // in the order of bundles
}

// each calls f for the bundle of every platform and every set of roots.
func each(t *testing.T, f func(t *testing.T, platform, set string, roots []*x509.Certificate, files []File)) {
	for set, roots := range sets(t) {
		for _, platform := range Platforms() {
			t.Run(platform+" "+set, func(t *testing.T) {
				files, err := For(platform, roots)
				if err != nil {
					t.Fatal(err)
				}
				f(t, platform, set, roots, files)
			})
		}
	}
}

func isCertificate(name string) bool {
	return strings.HasPrefix(name, "framegate-root") && slices.Contains([]string{".cer", ".crt", ".pem"}, filepath.Ext(name)) || strings.HasSuffix(name, ".0")
}

// What people and devices read is what was reviewed. go test -update writes it.
func TestGolden(t *testing.T) {
	each(t, func(t *testing.T, platform, set string, _ []*x509.Certificate, files []File) {
		var got txtar.Archive
		for _, f := range files {
			if !isCertificate(f.Name) { // those are compared with the roots
				got.Files = append(got.Files, txtar.File{Name: f.Name, Data: f.Data})
			}
		}
		path := filepath.Join("testdata", platform+"-"+set+".txtar")
		text := txtar.Format(&got)
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, want) {
			t.Errorf("%s differs; look at git diff after go test -update", path)
		}
	})
}

func TestBundles(t *testing.T) {
	each(t, func(t *testing.T, platform, set string, roots []*x509.Certificate, files []File) {
		if files[0].Name != "README.txt" {
			t.Errorf("the first file is %s", files[0].Name)
		}
		names := make(map[string]bool)
		var held []byte // every certificate of the bundle, DER
		for _, f := range files {
			if f.Name != filepath.Base(f.Name) || names[f.Name] {
				t.Errorf("file %q", f.Name)
			}
			names[f.Name] = true
			if want := bytes.HasPrefix(f.Data, []byte("#!")); want != (f.Mode == 0o755) || !want && f.Mode != 0o644 {
				t.Errorf("%s has mode %o", f.Name, f.Mode)
			}
			if bytes.Contains(f.Data, []byte("PRIVATE KEY")) {
				t.Errorf("%s holds a key", f.Name)
			}
			if bytes.Contains(f.Data, []byte("<no value>")) || bytes.Contains(f.Data, []byte("{{")) {
				t.Errorf("%s was not rendered:\n%s", f.Name, f.Data)
			}
			for line := range bytes.Lines(f.Data) {
				long := len(line) > 96 && !bytes.HasPrefix(line, []byte("    ")) && !bytes.Contains(line, []byte("framegate-root-")) && !bytes.Contains(line, []byte("SHA-256"))
				if f.Name == "README.txt" && long {
					t.Errorf("README.txt: a line of %d characters: %s", len(line), line)
				}
			}
			if isCertificate(f.Name) {
				held = append(held, ders509(t, f)...)
			}
		}
		for _, c := range roots {
			if !bytes.Contains(files[0].Data, []byte(newRoot(c).Fingerprint)) {
				t.Errorf("README.txt does not tell the fingerprint of %s", c.Subject)
			}
			if platform != "ios" && !bytes.Contains(held, c.Raw) {
				t.Errorf("%s is not in the bundle", c.Subject)
			}
		}
		slices.Reverse(roots)
		again, err := For(platform, roots)
		if err != nil || !slices.EqualFunc(files, again, func(a, b File) bool { return a.Name == b.Name && bytes.Equal(a.Data, b.Data) }) {
			t.Error("made of the same roots again, in another order, it is not the same")
		}
	})
}

func ders509(t *testing.T, f File) []byte {
	t.Helper()
	if filepath.Ext(f.Name) == ".cer" {
		return f.Data
	}
	var all []byte
	for rest := f.Data; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			t.Fatalf("%s: not PEM: %q", f.Name, rest)
		}
		all = append(all, block.Bytes...)
	}
	return all
}

// Every file is what its kind has to be, in the eyes of the tools of its kind.
func TestFormats(t *testing.T) {
	each(t, func(t *testing.T, _, _ string, roots []*x509.Certificate, files []File) {
		dir := t.TempDir()
		for _, f := range files {
			path := filepath.Join(dir, f.Name)
			if err := os.WriteFile(path, f.Data, f.Mode); err != nil {
				t.Fatal(err)
			}
			switch filepath.Ext(f.Name) {
			case ".sh":
				tool(t, "sh", "-n", path)
				tool(t, "shellcheck", "--shell=sh", path)
			case ".py":
				tool(t, "/usr/bin/python3", "-c", "import ast,sys; ast.parse(open(sys.argv[1]).read())", path)
			case ".json", ".onc":
				if !json.Valid(f.Data) {
					t.Errorf("%s is not JSON", f.Name)
				}
				for _, c := range roots { // by name in Firefox's, as a whole in the others
					if r := newRoot(c); !bytes.Contains(f.Data, []byte(r.base64())) && !bytes.Contains(f.Data, []byte(r.Name)) {
						t.Errorf("%s lacks %s", f.Name, c.Subject)
					}
				}
			case ".xml":
				wellFormed(t, f)
			case ".mobileconfig":
				wellFormed(t, f)
				checkProfile(t, path, roots)
			}
		}
	})
}

func wellFormed(t *testing.T, f File) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(f.Data))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			return
		}
	}
}

// checkProfile reads a profile as Apple's format, by two readers of it.
func checkProfile(t *testing.T, path string, roots []*x509.Certificate) {
	t.Helper()
	tool(t, "plistutil", "-i", path, "-f", "bin", "-o", path+".bin")
	const reader = `
import base64, json, plistlib, sys
p = plistlib.load(open(sys.argv[1], "rb"))
for c in p["PayloadContent"]: c["PayloadContent"] = base64.b64encode(c["PayloadContent"]).decode()
print(json.dumps(p))`
	for _, path := range []string{path, path + ".bin"} {
		type payload struct {
			PayloadType, PayloadIdentifier, PayloadUUID, PayloadDisplayName string
			PayloadVersion                                                  int
		}
		var p struct {
			payload
			PayloadContent []struct {
				payload
				PayloadContent []byte
			}
		}
		if err := json.Unmarshal(tool(t, "/usr/bin/python3", "-c", reader, path), &p); err != nil {
			t.Fatal(err)
		}
		if p.PayloadType != "Configuration" || p.PayloadVersion != 1 || p.PayloadIdentifier == "" || len(p.PayloadContent) != len(roots) {
			t.Fatalf("%+v", p)
		}
		uuids := []string{p.PayloadUUID}
		for i, c := range p.PayloadContent {
			if c.PayloadType != "com.apple.security.root" || c.PayloadVersion != 1 || !bytes.Equal(c.PayloadContent, roots[i].Raw) {
				t.Errorf("payload %d: %+v", i, c.payload)
			}
			if slices.Contains(uuids, c.PayloadUUID) {
				t.Errorf("UUID %s twice", c.PayloadUUID)
			}
			uuids = append(uuids, c.PayloadUUID)
		}
	}
}

func tool(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s %s: %v\n%s%s", name, args, err, out, stderr.Bytes())
	}
	return out
}

func TestUUID(t *testing.T) {
	// By python3 -c 'import uuid as u; print(u.uuid5(u.uuid5(u.UUID(int=0), "framegate"), "x"))'
	out := tool(t, "/usr/bin/python3", "-c", `import uuid as u; print(str(u.uuid5(u.uuid5(u.UUID(int=0), "framegate"), "x")).upper())`)
	if got, want := uuid("x"), strings.TrimSpace(string(out)); got != want {
		t.Errorf("%s, by Python %s", got, want)
	}
}

func TestSubjectHash(t *testing.T) {
	for _, name := range []string{"root.pem", "next.pem"} {
		want := strings.TrimSpace(string(tool(t, "openssl", "x509", "-in", filepath.Join("testdata", name), "-noout", "-subject_hash_old")))
		if got := subjectHashOld(certificate(t, name)); got != want {
			t.Errorf("%s: %s, by openssl %s", name, got, want)
		}
	}
}

func TestBadInput(t *testing.T) {
	one := certificate(t, "root.pem")
	leaf := *one
	leaf.IsCA = false
	evil := *one
	evil.Subject.CommonName = "a\ntouch /evil\u202e</string>&"
	for _, tt := range []struct {
		name, platform string
		roots          []*x509.Certificate
		want           string
	}{
		{"platform", "amiga", []*x509.Certificate{one}, `no bundle for "amiga", only for windows, macos, ios, android, chromeos, linux, firefox, java, node, python, docker`},
		{"empty", "", []*x509.Certificate{one}, `no bundle for "", only for windows`},
		{"no roots", "linux", nil, "bundle: no root certificates"},
		{"twice", "linux", []*x509.Certificate{one, one}, " is there twice"},
		{"leaf", "linux", []*x509.Certificate{&leaf}, " is no certificate of an authority"},
	} {
		files, err := For(tt.platform, tt.roots)
		if err == nil || !strings.Contains(err.Error(), tt.want) || files != nil {
			t.Errorf("%s: %d files, %v", tt.name, len(files), err)
		}
	}
	var unknown *UnknownPlatformError
	if _, err := For("amiga", nil); !errors.As(err, &unknown) || unknown.Name != "amiga" {
		t.Errorf("%v", err)
	}
	for _, platform := range Platforms() {
		files, err := For(platform, []*x509.Certificate{&evil})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if bytes.Contains(f.Data, []byte("\ntouch /evil")) || bytes.Contains(f.Data, []byte("\u202e")) {
				t.Errorf("%s/%s: the subject gets out of its place", platform, f.Name)
			}
			if f.Name == "framegate.mobileconfig" {
				wellFormed(t, f)
				if bytes.Contains(f.Data, []byte("evil?</string>&")) {
					t.Errorf("%s/%s: the subject is not escaped", platform, f.Name)
				}
			}
			if f.Name != "README.txt" && f.Name != "framegate.mobileconfig" && bytes.Contains(f.Data, []byte("touch /evil")) {
				t.Errorf("%s/%s has the subject", platform, f.Name)
			}
		}
	}
}
