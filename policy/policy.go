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
	slow        []SlowRule
}

// A source is one file as it was read.
type source struct {
	name string
	data []byte
}

// Load reads the files that the glob patterns name, in the order of their
// paths, each once. A pattern without glob characters must name a file that
// exists; a glob may match nothing, and no files at all are a policy that
// inspects every connection and allows every message.
//
// The error holds every mistake found, each as an *[Error], joined by
// [errors.Join].
func Load(patterns []string) (*Policy, error) {
	paths, mistakes := expand(patterns)
	var files []source
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			mistakes = append(mistakes, unreadable(path, err))
			continue
		}
		files = append(files, source{path, data})
	}
	return build(files, mistakes)
}

// Parse makes a policy of a single file that has been read already.
func Parse(name string, data []byte) (*Policy, error) {
	return build([]source{{name, data}}, nil)
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
	for _, f := range files {
		c.file(f)
	}
	if err := join(c.errors, files); err != nil {
		return nil, err
	}
	p := &c.policy
	p.name = strings.Join(c.names, ", ")
	p.version = version(files)
	p.matcher, p.slow = newMatcher(p.rules)
	return p, nil
}

// version is the SHA-256 of the text that sha256sum prints for the files: for
// each one, in the order in which they were read, the hash of its bytes in
// lower-case hex, two spaces, its name without directory, and a line feed. So
//
//	cd /etc/framegate/policy.d && sha256sum *.toml | sha256sum
//
// computes it without this program.
func version(files []source) string {
	sum := sha256.New()
	for _, f := range files {
		fmt.Fprintf(sum, "%x  %s\n", sha256.Sum256(f.data), filepath.Base(f.name))
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

// Slow lists the regexes that have to run on every message in their scope,
// because nothing cheaper can rule a match out.
func (p *Policy) Slow() []SlowRule { return p.slow }

// A SlowRule is a regex that costs time on every message.
type SlowRule struct {
	Rule         string // id
	File         string
	Line, Column int
	Reason       string
}
