// Package framegate_test holds the rules of the repository that no compiler
// knows: which package may import which, and where a foreign module may be
// used.
package framegate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// arrows is the import order of DESIGN.md. "a, b < c, d" means that c and d may
// import a and b; the standard library is open to all. A package that stands on
// the right of no rule may not exist.
//
// DO NOT CHANGE THIS TO MEND A BUILD. An arrow is a decision about the design:
// frames and ca are to be read without anything else, an auditor's tool needs
// audit alone, and mitm takes ca and intercept through one-method interfaces.
const arrows = `
	NONE                            < frames, ca/bundle;
	AGE                             < ca;
	SYS, GOPROXY                    < intercept;
	ZSTD, TLOG, AGE                 < audit;
	GOPACKET                        < audit/capture;
	audit, PARQUET                  < audit/format;
	audit, OTLP, PROTOBUF           < audit/ship;
	NONE                            < policy/detect, policy/jsonpath;
	policy/detect, policy/jsonpath  < policy;
	frames, TOML, IDNA              < policy;
	policy, TOML                    < policy/gitleaks;
	OCSP, PSL                       < mitm/chain;
	frames, policy, audit           < mitm;
	mitm/chain                      < mitm, cmd/framegate;
	GOPROXY, HTTPGUTS               < mitm;

	NONE                            < examples/policies;
	frames                          < examples/traffic;
	SYS                             < internal/lab;
	frames                          < internal/lab/wire;
	internal/lab/wire, frames       < internal/lab/origin, internal/lab/clients;
	examples/traffic                < internal/lab/origin, internal/lab/clients;
	internal/lab/origin             < internal/lab/clients;
	NONE                            < internal/endtoend, internal/soak;
	COBRA, PFLAG                    < internal/packaging;
	ca/bundle                       < internal/onboarding;
	ca, policy, audit, audit/ship   < internal/metrics;
	mitm, PROMETHEUS                < internal/metrics;

	frames, policy, audit           < cmd/framegate;
	ca, ca/bundle, intercept, mitm  < cmd/framegate;
	COBRA, TOML, SYS, SYSTEMD       < cmd/framegate;
	NETUTIL                         < cmd/framegate;
	audit/capture, audit/format     < cmd/framegate;
	audit/ship                      < cmd/framegate;
	policy/gitleaks                 < cmd/framegate;
	policy/detect                   < cmd/framegate;
	internal/onboarding             < cmd/framegate;
	internal/packaging              < cmd/framegate; # with the tag manual
	internal/metrics                < cmd/framegate;
	internal/lab                    < cmd/framegate;
	internal/lab/origin             < cmd/framegate;
	internal/lab/clients            < cmd/framegate;
	examples/policies               < cmd/framegate;
	examples/traffic                < cmd/framegate;
`

// rooms names the foreign packages, each with everything below it.
var rooms = map[string]string{
	"GOPACKET":   "github.com/google/gopacket",
	"AGE":        "filippo.io/age",
	"COBRA":      "github.com/spf13/cobra",
	"GOPROXY":    "github.com/elazarl/goproxy",
	"HTTPGUTS":   "golang.org/x/net/http/httpguts",
	"IDNA":       "golang.org/x/net/idna",
	"NETUTIL":    "golang.org/x/net/netutil",
	"OCSP":       "golang.org/x/crypto/ocsp",
	"OTLP":       "go.opentelemetry.io/proto/otlp",
	"PARQUET":    "github.com/parquet-go/parquet-go",
	"PFLAG":      "github.com/spf13/pflag",
	"PROMETHEUS": "github.com/prometheus/client_golang/prometheus",
	"PROTOBUF":   "google.golang.org/protobuf",
	"PSL":        "golang.org/x/net/publicsuffix",
	"SYS":        "golang.org/x/sys/unix",
	"SYSTEMD":    "github.com/coreos/go-systemd/v22",
	"TLOG":       "golang.org/x/mod/sumdb",
	"TOML":       "github.com/BurntSushi/toml",
	"ZSTD":       "github.com/klauspost/compress/zstd",
}

// A listed is what `go list` says about one package.
type listed struct {
	ImportPath     string
	Dir            string
	Doc            string
	Deps           []string
	GoFiles        []string
	CgoFiles       []string
	IgnoredGoFiles []string // of other systems
}

func TestImportOrder(t *testing.T) {
	const module = "framegate"
	allowed := parseArrows(t)
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		files := slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles)
		files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
		if len(files) == 0 {
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no package documentation", name)
		}
		may, ok := allowed[name]
		if !ok {
			t.Errorf("%s has no rule in the import order", name)
			continue
		}
		for _, file := range files {
			for _, path := range importsOf(t, filepath.Join(p.Dir, file)) {
				room := roomOf(path, module)
				switch {
				case room != "" && !slices.Contains(may, room):
					t.Errorf("%s/%s imports %s: the import order has no such arrow", name, file, path)
				case room == "SYS" && !strings.HasSuffix(file, "_linux.go"):
					t.Errorf("%s/%s imports %s: only a _linux.go file may", name, file, path)
				}
			}
		}
	}
}

// The wire format is parsed from bytes; nothing in it could do I/O on a network.
func TestFramesNeverNet(t *testing.T) {
	for _, p := range list(t, "./frames") {
		if slices.Contains(p.Deps, "net") {
			t.Error("frames depends on package net")
		}
	}
}

// A replace directive would build something else here than at the user of the module.
func TestNoReplace(t *testing.T) {
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct{ Replace []any }
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace) > 0 {
		t.Errorf("go.mod replaces %v", mod.Replace)
	}
}

// parseArrows returns for each package what it may import.
func parseArrows(t *testing.T) map[string][]string {
	t.Helper()
	allowed := make(map[string][]string)
	text := regexp.MustCompile(`(?m)#.*$`).ReplaceAllString(arrows, "")
	for rule := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(text), ";"), ";") {
		left, right, ok := strings.Cut(rule, "<")
		if !ok {
			t.Fatalf("import order: %q", rule)
		}
		for _, importer := range names(right) {
			allowed[importer] = append(allowed[importer], names(left)...)
		}
	}
	for importer, may := range allowed {
		for _, name := range may {
			if _, ok := allowed[name]; !ok && rooms[name] == "" && name != "NONE" {
				t.Errorf("import order: %s < %s: no such package", name, importer)
			}
		}
	}
	return allowed
}

func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// roomOf returns the name that the import order has for an import path: "" for
// the standard library, the path itself for what it does not know.
func roomOf(path, module string) string {
	if rest, ok := strings.CutPrefix(path, module+"/"); ok {
		return rest
	}
	for name, prefix := range rooms {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return name
		}
	}
	if first, _, _ := strings.Cut(path, "/"); path != "C" && !strings.Contains(first, ".") {
		return ""
	}
	return path
}

func importsOf(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func list(t *testing.T, pattern string) []listed {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Deps,GoFiles,CgoFiles,IgnoredGoFiles", pattern)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("%v: %w\n%s", cmd, err, stderr.Bytes()))
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
