package packaging

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// What the release of the tests is said to be.
const (
	version = "0.9.0"
	commit  = "0123456789abcdef0123456789abcdef01234567"
)

var stamp = []string{"VERSION=" + version, "COMMIT=" + commit, "SOURCE_DATE_EPOCH=1700000000", "MAINTAINER="}

var (
	releaseOnce sync.Once
	releaseDir  string
	releaseErr  error
)

func TestMain(m *testing.M) {
	code := m.Run()
	if releaseDir != "" {
		os.RemoveAll(releaseDir)
	}
	os.Exit(code)
}

// release makes a release for this machine, once for all tests, and returns
// its directory.
func release(t *testing.T) string {
	t.Helper()
	releaseOnce.Do(func() {
		if releaseDir, releaseErr = os.MkdirTemp("", "framegate-release"); releaseErr == nil {
			releaseErr = script("release.sh", releaseDir, runtime.GOARCH)
		}
	})
	if releaseErr != nil {
		t.Fatal(releaseErr)
	}
	return releaseDir
}

func script(name string, args ...string) error {
	cmd := exec.Command("bash", append([]string{name}, args...)...)
	cmd.Env = append(os.Environ(), stamp...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func program(t *testing.T) string {
	return filepath.Join(release(t), "framegate-"+version+"-linux-"+runtime.GOARCH)
}

func deb(t *testing.T) string {
	return filepath.Join(release(t), "framegate_"+version+"_"+runtime.GOARCH+".deb")
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A release says which it is, though no checkout has stamped it, and is one file
// that needs nothing else.
func TestReleaseProgram(t *testing.T) {
	out, err := exec.Command(program(t), "version").CombinedOutput()
	want := "framegate v" + version + "\ncommit " + commit + "\n" + runtime.Version() + " linux/" + runtime.GOARCH + "\npolicy schema 1\n"
	if err != nil || string(out) != want {
		t.Errorf("version: %v\n got %q\nwant %q", err, out, want)
	}
	out, err = exec.Command(program(t), "version", "--json").Output()
	var b struct {
		Version, Commit string
		Modified        *bool
		PolicySchema    int `json:"policy_schema"`
	}
	if err != nil || json.Unmarshal(out, &b) != nil || b.Version != "v"+version || b.Commit != commit || b.Modified == nil || *b.Modified || b.PolicySchema != 1 {
		t.Errorf("version --json: %v, %s", err, out)
	}
	if out, err := exec.Command("file", program(t)).Output(); err != nil || !bytes.Contains(out, []byte("statically linked")) || !bytes.Contains(out, []byte(", stripped")) {
		t.Errorf("file: %v, %s", err, out)
	}
}

// Made again, in a directory of another name and under another umask, time zone
// and locale, it is the same to the last byte.
func TestReleaseReproducible(t *testing.T) {
	if err := script("reproduce.sh", release(t), runtime.GOARCH); err != nil {
		t.Error(err)
	}
	// It would say so, if there were a difference.
	other := t.TempDir()
	if out, err := exec.Command("cp", "-r", release(t)+"/.", other).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sums := filepath.Join(other, "SHA256SUMS")
	if err := os.WriteFile(sums, bytes.ToUpper(readFile(t, sums)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := script("reproduce.sh", other, runtime.GOARCH); err == nil || !strings.Contains(err.Error(), "is not what its checksums say") {
		t.Errorf("a release with other checksums: %v", err)
	}
}

// The bill of materials and the notices name every module that is in the program,
// and the standard library.
func TestReleaseContents(t *testing.T) {
	info, err := buildinfo.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	var sbom struct {
		BOMFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Components []struct {
			Name, Version string
			Hashes        []struct{ Alg, Content string }
		}
	}
	if err := json.Unmarshal(readFile(t, program(t)+".cdx.json"), &sbom); err != nil {
		t.Fatal(err)
	}
	if sbom.BOMFormat != "CycloneDX" || sbom.Metadata.Component.Name != "framegate" || sbom.Metadata.Component.Version != "v"+version {
		t.Errorf("SBOM of %+v", sbom.Metadata)
	}
	has := make(map[string]bool)
	for _, c := range sbom.Components {
		has[c.Name+" "+c.Version] = c.Name == "std" || len(c.Hashes) > 0
	}
	notices := string(readFile(t, filepath.Join(release(t), "framegate-"+version+"-NOTICES")))
	if len(info.Deps) < 10 || !has["std "+runtime.Version()] || !strings.Contains(notices, "\nGo "+runtime.Version()+"\n") {
		t.Errorf("%d modules, standard library in SBOM: %v", len(info.Deps), has["std "+runtime.Version()])
	}
	for _, dep := range info.Deps {
		name := dep.Path + " " + dep.Version
		if !has[name] {
			t.Errorf("%s is not in the SBOM", name)
		}
		if _, rest, ok := strings.Cut(notices, "\n"+name+"\n"); !ok || !strings.Contains(rest[:min(len(rest), 4000)], "opyright") {
			t.Errorf("%s has no notice", name)
		}
	}
	if len(has) != len(info.Deps)+1 {
		t.Errorf("the SBOM has %d components, the program %d modules", len(has), len(info.Deps))
	}
}

// What is not a version is refused before anything is built, and so is a directory
// that holds something.
func TestReleaseRefuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dir, env, want string }{
		{full, "VERSION=1", "is not empty"},
		{t.TempDir(), "VERSION=1.0-1", "expected a Debian version without a hyphen"},
		{t.TempDir(), "VERSION=v1", "expected a Debian version without a hyphen"},
		{t.TempDir(), "VERSION=1 2", "expected a Debian version without a hyphen"},
	} {
		cmd := exec.Command("bash", "release.sh", tt.dir)
		cmd.Env = append(append(os.Environ(), stamp...), tt.env)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v, %s", tt.env, err, out)
		}
	}
}

// Debian's own check of packages has nothing to say but what
// debian/lintian-overrides gives reasons for.
func TestLintian(t *testing.T) {
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", deb(t)).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}
