package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

// expiringLog writes a log of a block in each segment until its first segments
// are removed.
func expiringLog(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	log, err := audit.Open(audit.Options{Dir: dir, SegmentSize: 1, MaxSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		if err := log.Record(audit.Event{Event: audit.PolicyLoad, Reason: strings.Repeat("x", 40)}); err != nil {
			t.Fatal(err)
		}
	}
	first := filepath.Join(dir, "seg", "000000000000.jsonl.zst")
	for range 1000 {
		_, proof := os.Stat(filepath.Join(dir, "expired")) // which is there before the segment goes
		if _, err := os.Stat(first); proof == nil && os.IsNotExist(err) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first); err == nil {
		t.Fatal("nothing was removed")
	}
	return dir
}

// Every command that reads a log works on one whose beginning is removed, and
// those that could be asked for it say so.
func TestCommandsOnExpiredLog(t *testing.T) {
	dir := expiringLog(t)
	for _, tt := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"verify", 0, `(?s)\nexpired +blocks 0 to \d+, seq 1 to \d+, removed as recorded\n +blocks 0 to \d+, seq 1 to \d+, .* removed at .*, as seq \d+ says: the log is larger than 4096 bytes\n.*verdict +intact`, `^$`},
		{"verify --json", 0, `"expired_blocks":\d+,"expired_seq":\d+,"expired":\[\{"seq":\d+,"time":"[^"]*","reason":"the log is larger than 4096 bytes","by":"max_size","first_block":0,`, `^$`},
		{"query --json", 0, `^\{"seq":\d+,`, `^framegate: the log begins with seq \d+, .*: what was before is removed, as record \d+ says: the log is larger than 4096 bytes\n$`},
		{"query --from 0s", 0, `^$`, `^$`},
		{"query --verify --event audit.expire", 0, `audit.expire`, `(?s)begins with seq.*proved: all that match`},
		{"stats", 0, `event audit.expire +\d`, `^framegate: the log begins with seq \d+, `},
		{"tail -n 1000", 0, `audit.expire`, `^$`},
		{"index", 0, `^$`, `segments: \d+ indexed`},
		{"prove --seq 1", 1, `^$`, `^framegate: record 1 was removed .*, as record \d+ says\n`},
		{"prove --seq 40", 0, `^framegate-audit-proof@v1\n\{"seq":40,`, `^$`},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"audit"}, strings.Fields(tt.args)...)
		code := execute(t.Context(), append(args, "--dir", dir), &stdout, &stderr)
		if code != tt.code || !regexp.MustCompile(tt.stdout).Match(stdout.Bytes()) || !regexp.MustCompile(tt.stderr).Match(stderr.Bytes()) {
			t.Errorf("%s: exit %d\n%s\n%s", tt.args, code, stdout.String(), stderr.String())
		}
	}
	// A segment that is gone without a record is a gap, and query says that, too.
	segs, err := filepath.Glob(filepath.Join(dir, "seg", "*"))
	if err != nil || len(segs) < 2 {
		t.Fatal(segs, err)
	}
	if err := os.Remove(segs[0]); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := execute(t.Context(), []string{"audit", "verify", "--dir", dir}, &stdout, &stderr); code != 12 {
		t.Errorf("exit %d\n%s", code, stdout.String())
	}
	stderr.Reset()
	execute(t.Context(), []string{"audit", "query", "--dir", dir}, &stdout, &stderr)
	if !strings.Contains(stderr.String(), "what was before is missing, and no record says why") {
		t.Errorf("%s", stderr.String())
	}
}
