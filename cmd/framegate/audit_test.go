package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

// A person who follows the log sees a record that comes later, and ends the
// command with an interrupt, which is no failure.
func TestTailFollows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := writeLog(dir, audit.Event{Event: audit.GatewayStart}); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var stderr bytes.Buffer
	done := make(chan int)
	go func() {
		code := execute(ctx, []string{"audit", "tail", "-f", "--json", "--dir", dir}, w, &stderr)
		w.Close()
		done <- code
	}()
	lines := bufio.NewScanner(r)
	for i, event := range []string{audit.GatewayStart, audit.GatewayStop} {
		if i > 0 {
			if err := writeLog(dir, audit.Event{Event: event}); err != nil {
				t.Error(err)
			}
		}
		if !lines.Scan() || !strings.Contains(lines.Text(), `"event":"`+event+`"`) {
			t.Errorf("got %q, want %s", lines.Text(), event)
		}
	}
	interrupt()
	for lines.Scan() {
		t.Errorf("unexpected record %s", lines.Text())
	}
	if code := <-done; code != 0 {
		t.Errorf("exit %d, stderr %q", code, stderr.String())
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"":                          {},
		"2h":                        now.Add(-2 * time.Hour),
		"90m ago":                   now.Add(-90 * time.Minute),
		"0s":                        now,
		"400d":                      now.AddDate(0, 0, -400),
		"1d ago":                    now.AddDate(0, 0, -1),
		"2026-01-01T00:00:00Z":      time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		"2026-01-01T01:00:00+01:00": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := parseTime("from", in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"yesterday", "-2h", "2", "2026-01-01", "ago", "d", "-1d", "1.5d", "99999d"} {
		if got, err := parseTime("from", in, now); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		}
	}
}
