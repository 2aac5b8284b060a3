package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// policySchema numbers the language of the policy files. It grows when a
// file that was valid would be refused or would mean something else.
const policySchema = 1

// Of a release, set by the linker (internal/packaging/release.sh): a release has
// neither a checkout to be stamped from when it is rebuilt from an archive, nor may
// its bytes depend on whether there is one. A commit ends in "+modified" if the
// files differed from it.
var (
	releaseVersion string
	releaseCommit  string
)

// A build says which program this is.
type build struct {
	Version      string `json:"version"`          // of the release or the module; "(devel)" for a build without one
	Commit       string `json:"commit,omitempty"` // absent outside a checkout
	Modified     bool   `json:"modified"`         // the checkout differed from the commit
	Go           string `json:"go"`
	Platform     string `json:"platform"`
	PolicySchema int    `json:"policy_schema"`
}

func currentBuild() build {
	b := build{
		Version:      "(devel)",
		Go:           runtime.Version(),
		Platform:     runtime.GOOS + "/" + runtime.GOARCH,
		PolicySchema: policySchema,
	}
	if releaseVersion != "" {
		b.Version = releaseVersion
		b.Commit, b.Modified = strings.CutSuffix(releaseCommit, "+modified")
		return b
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// versionLine says in a record or log line which build this is.
func versionLine() string {
	b := currentBuild()
	line := "framegate " + b.Version + " " + b.Go
	if b.Commit != "" {
		line += " " + b.Commit
	}
	return line
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printVersion(cmd.OutOrStdout(), currentBuild(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printVersion(w io.Writer, b build, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(b)
	}
	commit := b.Commit
	switch {
	case commit == "":
		commit = "unknown"
	case b.Modified:
		commit += " (modified)"
	}
	_, err := fmt.Fprintf(w, "framegate %s\ncommit %s\n%s %s\npolicy schema %d\n",
		b.Version, commit, b.Go, b.Platform, b.PolicySchema)
	return err
}
