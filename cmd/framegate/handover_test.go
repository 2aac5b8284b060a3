package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

// TestHandoverFails: whatever is put in the place of the program, the gateway
// that runs has its log afterwards, and says what went wrong.
func TestHandoverFails(t *testing.T) {
	defer func(before time.Duration) { prepareTimeout = before }(prepareTimeout)
	prepareTimeout = 2 * time.Second
	defer func(before time.Duration) { takeTimeout = before }(takeTimeout)
	takeTimeout = 2 * time.Second
	const script = "#!/bin/sh\n"
	for _, tt := range []struct {
		name, program string
		want          string
	}{
		{"not there", "", "no such file or directory"},
		{"another program", script + "exit 1\n", "ended before it was prepared: exit status 1"},
		{"no program", "\x7fELF and nothing more\n", "exec format error"},
		{"a configuration was read", script + "echo \"$FRAMEGATE_HANDOVER\" >&2; exit 1\n", `"config":true`},
		{"its last words", script + "printf 'framegate: it is\\033[2J bad\\n' >&2; exit 2\n", "exit status 2; its last words:\nframegate: it is\x1b[2J bad"},
		{"endless words", script + "while echo word; do :; done >&2\n", "not prepared within 2s; its last words:\n"},
		{"hangs", script + "sleep 9 >/dev/null &\nexec sleep 600\n", "not prepared within 2s"},
		{"ends once the log is its own", script + "echo prepared x >&3; read word <&3; echo \"heard $word\" >&2; exit 1\n", "ended before it was ready: exit status 1; its last words:\nheard yours"},
		{"hangs once the log is its own", script + "echo prepared x >&3; exec sleep 600\n", "not ready within 2s"},
		{"does not take the records", script + "echo prepared x >&3; echo ready >&3\n", "the log: "},
		{"speaks another language", script + "echo hello world >&3; exec sleep 600\n", `said "hello", expected "prepared"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			log, err := audit.Open(audit.Options{Dir: filepath.Join(dir, "audit"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
			if err != nil {
				t.Fatal(err)
			}
			var console bytes.Buffer
			gw := &gateway{config: defaultConfig(), log: log, program: filepath.Join(dir, "framegate"), stderr: &console, source: configSource{read: true}}
			gw.config.Audit.Dir = filepath.Join(dir, "audit")
			if tt.program != "" {
				if err := os.WriteFile(gw.program, []byte(tt.program), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			next, err := gw.handOver(context.Background())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v, expected %q", next, err, tt.want)
			}
			if err != nil && len(err.Error()) > 2*mostWords {
				t.Errorf("%d bytes", len(err.Error()))
			}
			if err := log.Record(audit.Event{Event: audit.GatewayStop, Reason: "goes on"}); err != nil {
				t.Error(err)
			}
			if err := log.Close(); err != nil {
				t.Error(err)
			}
			r, err := audit.NewReader(gw.config.Audit.Dir, audit.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			var events []string
			for rec, err := range r.Records() {
				if err != nil {
					t.Fatal(err)
				}
				events = append(events, rec.Event)
			}
			if got := strings.Join(events, " "); got != audit.GatewayStop {
				t.Errorf("the log has %s", got)
			}
		})
	}
}

// TestHandoverGivenUp: a stop does not wait for a successor.
func TestHandoverGivenUp(t *testing.T) {
	dir := t.TempDir()
	log, err := audit.Open(audit.Options{Dir: filepath.Join(dir, "audit")})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	gw := &gateway{config: defaultConfig(), log: log, program: filepath.Join(dir, "framegate"), stderr: io.Discard}
	gw.config.Audit.Dir = filepath.Join(dir, "audit")
	if err := os.WriteFile(gw.program, []byte("#!/bin/sh\nexec sleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, giveUp)
	if _, err := gw.handOver(ctx); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("%v", err)
	}
}

// TestNotASuccessor: what only a gateway sets, with nothing behind it.
func TestNotASuccessor(t *testing.T) {
	for value, want := range map[string]string{
		"yes":           "FRAMEGATE_HANDOVER, which a gateway sets for its successor",
		`{"version":2}`: "hands over by version 2, this one takes 1",
	} {
		t.Run(value, func(t *testing.T) {
			t.Setenv(handoverVar, value)
			var stderr bytes.Buffer
			code := execute(t.Context(), []string{"run"}, io.Discard, &stderr)
			if code != exitUsage || !strings.Contains(stderr.String(), want) {
				t.Errorf("exit %d: %s", code, stderr.Bytes())
			}
			if _, still := os.LookupEnv(handoverVar); still {
				t.Error("the environment still tells of it")
			}
		})
	}
}
