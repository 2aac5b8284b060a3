//go:build manual

package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"framegate/internal/packaging"
)

// With the tag manual this program writes its manual pages and completions to the
// directory it is given, and ends: only this package knows the tree of commands,
// and the product need not carry the writer.
func init() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: SOURCE_DATE_EPOCH=N go run -tags manual ./cmd/framegate DIR")
		os.Exit(exitUsage)
	}
	if err := writeManual(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "framegate:", err)
		os.Exit(exitFailed)
	}
	os.Exit(0)
}

// writeManual runs in the root of the source.
func writeManual(dir string) error {
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	config, err := os.ReadFile("examples/framegate.toml")
	if err != nil {
		return err
	}
	return packaging.Write(dir, newRootCommand(), config, packaging.Release{Version: currentBuild().Version, Date: time.Unix(epoch, 0)})
}
