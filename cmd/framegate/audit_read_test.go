package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestReadingWritesNothing: a command that reads the log leaves it as it is,
// byte for byte and name for name, also when it is damaged.
func TestReadingWritesNothing(t *testing.T) {
	for _, damage := range []string{"", "segment cut short", "checkpoint gone"} {
		dir := exportLog(t)
		segments, err := filepath.Glob(filepath.Join(dir, "seg", "*.zst"))
		if err != nil || len(segments) == 0 {
			t.Fatal(segments, err)
		}
		switch damage {
		case "segment cut short":
			err = os.Truncate(segments[0], 200)
		case "checkpoint gone":
			err = os.Remove(filepath.Join(dir, "checkpoint"))
		}
		if err != nil {
			t.Fatal(err)
		}
		before := treeOf(t, dir)
		for _, args := range [][]string{
			{"query"}, {"query", "--json", "--text", "x"}, {"query", "--verify"}, {"query", "--payload"}, {"tail"}, {"stats"},
			{"verify"}, {"prove", "--seq", "2"}, {"export", "--format", "har"}, {"export", "--format", "pcapng"}, {"export", "--format", "parquet"},
		} {
			var stdout, stderr bytes.Buffer
			code := execute(t.Context(), append([]string{"audit", args[0], "--dir", dir}, args[1:]...), &stdout, &stderr)
			if code == exitUsage || damage == "" && stdout.Len()+stderr.Len() == 0 {
				t.Errorf("%q: exit %d, %s", args, code, stderr.String())
			}
			if treeOf(t, dir) != before {
				t.Fatalf("%q has changed the log (%s)", args, damage)
			}
		}
	}
}
