package endtoend

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
)

// TestKilled: after kill -9, and a last write that reached the disk in part,
// the next start repairs the log, says what is missing, and serves.
func TestKilled(t *testing.T) {
	s := newSite(t, settings{})
	g := s.start(t)
	c := s.wss(t, "tcp6", chatHost)
	if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?killed")); err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // the second is in another block of the log than the first
		c.Send(true, frames.Text, []byte("recorded"))
		if _, _, err := c.Frame(); err != nil {
			t.Fatal(err)
		}
		g.log.waitFor(t, audit.WSMessage, 2*round+2)
	}
	g.signal(t, syscall.SIGKILL)
	g.wait(t)
	if rest, _ := c.Rest(); len(rest) > 0 {
		t.Errorf("after the end: %q", rest)
	}
	lost := g.log.all(t)

	files, err := filepath.Glob(filepath.Join(s.path("audit"), "seg", "*.jsonl.zst"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments %q (%v)", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], append(data, data[:100]...), 0o600); err != nil { // as a block begins
		t.Fatal(err)
	}

	again := s.start(t)
	gap := again.log.waitFor(t, audit.AuditGap, 1)
	if gap.Gap == nil || gap.Gap.Bytes != 100 || gap.Seq != lost[len(lost)-1].Seq+1 || !strings.Contains(gap.Reason, "torn tail") {
		t.Errorf("audit.gap: %s", gap)
	}
	again.console.wait(t, "torn tail")
	if start := again.log.waitFor(t, audit.GatewayStart, 2); start.Seq != gap.Seq+1 {
		t.Errorf("gateway.start: %s, after %s", start, gap)
	}
	talk(t, again, s.wss(t, "tcp4", chatHost), chatHost, "/echo?after-the-kill")
	again.signal(t, syscall.SIGTERM)
	if code := again.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, again.console)
	}
	again.log.waitFor(t, audit.GatewayStop, 1)
	for i, r := range again.log.all(t) {
		if r.Seq != uint64(i)+1 {
			t.Fatalf("record %d bears seq %d", i+1, r.Seq)
		}
	}
	checkReadable(t, again)
	if said := s.framegate(t, "audit", "verify"); !strings.Contains(said, "intact") {
		t.Errorf("audit verify: %s", said)
	}

	// After an orderly end there is nothing to repair.
	third := s.start(t)
	third.log.waitFor(t, audit.GatewayStart, 3)
	if n := len(ledger(third.log.all(t)).all(audit.AuditGap)); n != 1 {
		t.Errorf("%d gaps after an orderly end, expected the one before", n)
	}
}
