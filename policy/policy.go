package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Policy is a set of files, read, checked and compiled. It is immutable.
type Policy struct {
	name        string
	version     string
	def         Action // for a data message that no enforced rule matched
	connections []connection
	rules       []*rule
	matcher     *matcher
	warnings    []Warning
	rates       *Rates // for connections that come without
}

// A source is one file as it was read.
type source struct {
	name   string
	data   []byte
	shadow bool // on trial
}

// Load reads the files that the glob patterns name, in the order of their
// paths, each once. A pattern without glob characters must name a file that
// exists; a glob may match nothing, and no files at all are a policy that
// inspects every connection and allows every message.
//
// The error holds every mistake found, each as an *[Error], joined by
// [errors.Join].
func Load(patterns []string) (*Policy, error) { return LoadBeside(patterns, nil) }

// LoadBeside is Load with further files on trial: whatever mode their rules have,
// they are in shadow mode. Their ids may be those of other rules, so that an
// edited copy of a file can be tried beside it. What else such a file says is not
// tried; [Policy.Warnings] tells of it.
func LoadBeside(patterns, shadow []string) (*Policy, error) {
	var files []source
	var mistakes []*Error
	for _, trial := range []bool{false, true} {
		if trial {
			patterns = shadow
		}
		paths, bad := expand(patterns)
		mistakes = append(mistakes, bad...)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				mistakes = append(mistakes, unreadable(path, err))
				continue
			}
			files = append(files, source{path, data, trial})
		}
	}
	return build(files, mistakes)
}

// Parse makes a policy of a single file that has been read already.
func Parse(name string, data []byte) (*Policy, error) {
	return build([]source{{name: name, data: data}}, nil)
}

func expand(patterns []string) (paths []string, mistakes []*Error) {
	for _, pattern := range patterns {
		if !strings.ContainsAny(pattern, `*?[\`) {
			paths = append(paths, filepath.Clean(pattern))
			continue
		}
		found, err := filepath.Glob(pattern)
		if err != nil {
			mistakes = append(mistakes, &Error{File: pattern, Message: "bad glob pattern, expected *, ? or [a-z] as wildcards"})
		}
		if len(found) == 0 {
			// Glob takes a directory that cannot be read for an empty one. That
			// would turn a missing permission into "everything is allowed".
			dir := filepath.Dir(pattern)
			if _, err := os.ReadDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				mistakes = append(mistakes, unreadable(dir, err))
			}
		}
		for _, path := range found {
			paths = append(paths, filepath.Clean(path))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), mistakes
}

func unreadable(path string, err error) *Error {
	if bad, ok := errors.AsType[*fs.PathError](err); ok {
		err = bad.Err
	}
	return &Error{File: path, Message: fmt.Sprintf("cannot be read: %v", err)}
}

func build(files []source, mistakes []*Error) (*Policy, error) {
	c := &compiler{errors: mistakes, ids: map[string]*Error{}}
	for i, f := range files {
		if f.shadow && (i == 0 || !files[i-1].shadow) {
			c.shadow, c.ids = true, map[string]*Error{}
		}
		c.file(f)
	}
	warnings := append(c.warnings, c.review()...)
	if err := join(c.errors, files); err != nil {
		return nil, err
	}
	p := &c.policy
	p.name = strings.Join(c.names, ", ")
	p.version = version(files)
	p.matcher, p.warnings = newMatcher(p.rules, c.json)
	p.warnings = append(warnings, p.warnings...)
	p.rates = NewRates()
	return p, nil
}

// version is the SHA-256 of the text that sha256sum prints for the files: for
// each one, in the order in which they were read, the hash of its bytes in
// lower-case hex, two spaces, its name without directory, and a line feed. So
//
//	cd /etc/framegate/policy.d && sha256sum *.toml | sha256sum
//
// computes it without this program. Files on trial come after the others, as if
// they lay in a directory called shadow.
func version(files []source) string {
	sum := sha256.New()
	for _, f := range files {
		name := filepath.Base(f.name)
		if f.shadow {
			name = "shadow/" + name
		}
		fmt.Fprintf(sum, "%x  %s\n", sha256.Sum256(f.data), name)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Version identifies the files of the policy: same names and same contents
// give the same version on every machine. It is a SHA-256 in hex.
func (p *Policy) Version() string { return p.version }

// Name is the name that the files give themselves, separated by commas if
// there are several, "" if none.
func (p *Policy) Name() string { return p.name }

// Rules describes the rules in the order of the files.
func (p *Policy) Rules() []Rule {
	list := make([]Rule, len(p.rules))
	for i, r := range p.rules {
		list[i] = r.Rule
	}
	return list
}

// Warnings lists what is allowed but hardly meant: rules that can be left out,
// and regexes that have to run on every message in their scope.
func (p *Policy) Warnings() []Warning { return p.warnings }
