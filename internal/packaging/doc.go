// Package packaging writes the manual pages and the shell completions that a
// package of framegate contains, and holds what a release is made with:
//
//	release.sh    static binaries, .deb, notices, SBOM and checksums, into dist/
//	reproduce.sh  the same again elsewhere, and whether it is the same
//	stamp.sh      which version and commit that is
//	nfpm.yaml     what the .deb contains
//	debian/       maintainer scripts, the system user, overrides of lintian
//
// The product does not carry the writer. Built with the tag "manual",
// cmd/framegate does nothing but call [Write] with its tree of commands:
//
//	go run -tags manual ./cmd/framegate DIR
//
// Pages are man(7). They say what --help says, and the same input gives the same
// bytes: the date is an argument.
//
// The tests install, upgrade and remove the package on a machine that is thrown
// away: testdata/machine.sh boots it beside this one, from the same files.
//
// Nothing here is on the way of a connection.
package packaging

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// A Release is what every page tells of the program it is about.
type Release struct {
	Version string    // such as "v1.2.0"
	Date    time.Time // of the commit
}

// Write writes man/*.1, man/framegate.toml.5 and completions/ to dir, which it
// makes. config is the commented configuration, examples/framegate.toml.
func Write(dir string, root *cobra.Command, config []byte, r Release) error {
	root.InitDefaultHelpFlag()
	files := make(map[string][]byte)
	for _, cmd := range commands(root) {
		files["man/"+pageName(cmd)+".1"] = commandPage(cmd, r)
	}
	var err error
	if files["man/framegate.toml.5"], err = configPage(config, r); err != nil {
		return err
	}
	var bash, zsh, fish bytes.Buffer
	if err := root.GenBashCompletionV2(&bash, true); err != nil {
		return err
	}
	if err := root.GenZshCompletion(&zsh); err != nil {
		return err
	}
	if err := root.GenFishCompletion(&fish, true); err != nil {
		return err
	}
	files["completions/framegate.bash"] = bash.Bytes()
	files["completions/framegate.zsh"] = zsh.Bytes()
	files["completions/framegate.fish"] = fish.Bytes()
	for _, sub := range []string{"man", "completions"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
