package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/policy"
)

const recordPolicy = `
[[rule]]
id = "chat"
action = "drop"
match.contains = ["secret"]
[rule.scope]
direction = "to-client"
host = ["chat.example"]
path = ["/ws"]
origin = ["https://app.example"]
subprotocol = ["v1"]
client = ["10.0.0.0/8"]
`

// TestExplainRecord takes the scope, and where the log has it the message, from
// the record of a message.
func TestExplainRecord(t *testing.T) {
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.toml")
	if err := os.WriteFile(rules, []byte(recordPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load([]string{rules})
	if err != nil {
		t.Fatal(err)
	}
	conn := audit.Event{
		Conn: "c-1", Client: netip.MustParseAddrPort("10.0.0.7:40000"), Server: netip.MustParseAddrPort("192.0.2.1:443"),
		Host: "chat.example", Path: "/ws", Policy: p.Version(),
	}
	open, other := conn, conn
	open.Event, open.Subprotocol, open.Code = audit.WSOpen, "v1", 101
	other.Event, other.Conn, other.Subprotocol = audit.WSOpen, "c-2", "v2"
	message := func(text string, payload []byte) audit.Event {
		e := conn
		e.Event, e.Rules, e.Action = audit.WSMessage, []string{"chat"}, "drop"
		e.Msg = &audit.Message{
			Dir: "to-client", Opcode: "binary", Size: int64(len(text)), WireSize: 20, Frames: 1,
			SHA256: sha256.Sum256([]byte(text)), Payload: payload,
		}
		return e
	}
	log := filepath.Join(dir, "log")
	events := []audit.Event{
		other, open, other,
		message("a secret", nil),
		message("a secret", []byte("a secret")),
		message("a secret\xff", []byte("a secret\xff")),
		message("a secret", []byte("a ******")),
	}
	if err := writeLog(log, events...); err != nil {
		t.Fatal(err)
	}
	seq := map[int]string{} // of events
	var list, errs bytes.Buffer
	if code := execute(t.Context(), []string{"audit", "query", "--dir", log, "--json"}, &list, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	for line := range strings.Lines(list.String()) {
		if strings.Contains(line, `"event":"ws.`) {
			number, _, _ := strings.Cut(strings.TrimPrefix(line, `{"seq":`), ",")
			seq[len(seq)] = number
		}
	}

	origin := []string{"--origin", "https://app.example"}
	sum := fmt.Sprintf("8 bytes, SHA-256 %x", sha256.Sum256([]byte("a secret")))
	for _, c := range []struct {
		name  string
		event int
		args  []string
		code  int
		want  []string
	}{
		{"message given", 3, append([]string{"--message", "a secret"}, origin...), 0, []string{
			"message: binary to-client, 8 bytes, host chat.example, path /ws, origin https://app.example, subprotocol v1, client 10.0.0.7\n",
			"record:  drop by chat, under this policy\n", `contains "secret" at 2-8: "secret"`, "verdict: drop by chat\n",
		}},
		{"no origin in the log", 3, []string{"--message", "a secret"}, 0, []string{"chat: origin: got none, expected \"https://app.example\"\n", "verdict: allow by default"}},
		{"another direction", 3, []string{"--message", "a secret", "--direction", "to-server"}, 0, []string{"chat: direction: got to-server"}},
		{"another message", 3, []string{"--message", "a SECRET"}, 1, []string{"is not that of record", "expected " + sum}},
		{"no payload", 3, origin, 1, []string{"without its payload", "hint: pass the message with --message or --message-file: " + sum}},
		{"payload in the log", 4, origin, 0, []string{"verdict: drop by chat\n"}},
		{"payload that is not text", 5, origin, 0, []string{"9 bytes", "verdict: drop by chat\n"}},
		{"redacted payload", 6, origin, 1, []string{"with a payload that is not the message as it was sent", sum}},
		{"as JSON", 4, append([]string{"--json"}, origin...), 0, []string{`"record":` + seq[4], `"outcome":"matched"`}},
	} {
		var out bytes.Buffer
		args := append([]string{"policy", "explain", rules, "--dir", log, "--record", seq[c.event]}, c.args...)
		if code := execute(t.Context(), args, &out, &out); code != c.code {
			t.Errorf("%s: exit %d, want %d", c.name, code, c.code)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: got\n%s\nwithout %q", c.name, out.String(), want)
			}
		}
	}
}
