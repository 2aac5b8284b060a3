package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"framegate/audit"
	"framegate/audit/capture"
)

// exportEvents are two connections, over IPv4 and IPv6, with every kind of
// message that an export has to tell apart.
func exportEvents() []audit.Event {
	at := time.Date(2026, 1, 2, 15, 4, 5, 123456789, time.UTC)
	one := audit.Event{
		Conn: "c-1", Client: netip.MustParseAddrPort("10.0.0.7:40000"), Server: netip.MustParseAddrPort("192.0.2.1:443"),
		SNI: "chat.example", Host: "chat.example", Path: "/ws", Policy: "p1",
	}
	two := audit.Event{
		Conn: "c-2", Client: netip.MustParseAddrPort("[2001:db8::7]:40000"), Server: netip.MustParseAddrPort("[2001:db8::1]:8080"),
		Host: "feed.example", Path: "/a b\r\nX: y?", Policy: "p1",
	}
	var events []audit.Event
	add := func(e audit.Event, name string, change func(*audit.Event)) {
		e.Event = name
		e.Time = at.Add(time.Duration(len(events)) * time.Second)
		change(&e)
		events = append(events, e)
	}
	message := func(dir, opcode, payload string) func(*audit.Event) {
		return func(e *audit.Event) {
			e.Action = "allow"
			e.Msg = &audit.Message{
				Dir: dir, Opcode: opcode, Size: int64(len(payload)), WireSize: int64(len(payload)) + 6, Frames: 1,
				SHA256: sha256.Sum256([]byte(payload)), Payload: []byte(payload),
			}
		}
	}
	open := func(e *audit.Event) { e.Code, e.Subprotocol = 101, "chat.v1" }
	add(one, audit.ConnOpen, func(*audit.Event) {})
	add(one, audit.HTTPRequest, func(e *audit.Event) { e.Method, e.Path, e.Code, e.Action = "GET", "/page", 200, "allow" })
	add(one, audit.WSOpen, open)
	add(two, audit.WSOpen, open)
	add(one, audit.WSMessage, message("to-server", "text", "card 4012 8888 8888 1881 \u202eok\x1b"))
	events[len(events)-1].Rules, events[len(events)-1].Action = []string{"card-numbers"}, "drop"
	add(two, audit.WSMessage, message("to-client", "binary", "\x00\xff\xfe"))
	add(one, audit.WSMessage, message("to-client", "text", strings.Repeat("long ", 40_000)))
	add(two, audit.WSControl, message("to-client", "ping", "beat"))
	add(one, audit.WSMessage, message("to-server", "text", ""))
	add(one, audit.WSMessage, func(e *audit.Event) { // not recorded
		message("to-server", "text", "unknown")(e)
		e.Msg.Payload = nil
	})
	add(two, audit.WSMessage, func(e *audit.Event) { // redacted
		message("to-server", "text", "secret")(e)
		e.Msg.Payload = []byte("[redacted]")
	})
	add(one, audit.WSClose, func(e *audit.Event) { e.Code, e.Reason = 1000, "bye\n\"" })
	add(one, audit.ConnClose, func(e *audit.Event) { e.State = audit.StateInspected })
	add(two, audit.WSMessage, message("to-client", "text", "after"))
	return events
}

// exported runs audit export over a log of exportEvents.
func exported(t *testing.T, dir, format string, args ...string) (data []byte, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), append([]string{"audit", "export", "--dir", dir, "--format", format}, args...), &out, &errs)
	return out.Bytes(), errs.String(), code
}

func exportLog(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	if err := writeLog(dir, exportEvents()...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mustExport exports all and writes it to a file.
func mustExport(t *testing.T, dir, format string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "chat."+format)
	if _, stderr, code := exported(t, dir, format, "--out", name); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	return name
}

// tool runs a program that setup.sh installs.
func tool(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v (internal/lab/setup.sh test installs what it needs): %v\n%s", cmd, err, stderr.Bytes())
	}
	return string(out)
}

func nodeScript(t *testing.T, script string, args ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "internal", "lab", "clients", "node", script))
	if err != nil {
		t.Fatal(err)
	}
	return tool(t, ".", "node", append([]string{path}, args...)...)
}

// A known is a message of which the payload is known, as each format tells it.
type known struct{ conn, dir, opcode, payload string }

// wanted are those of exportEvents, by seq.
func wanted() map[uint64]known {
	want := map[uint64]known{}
	for i, e := range exportEvents() {
		if e.Msg != nil && (e.Msg.Payload != nil || e.Msg.Size == 0) {
			want[uint64(i+1)] = known{e.Conn, e.Msg.Dir, e.Msg.Opcode, string(e.Msg.Payload)}
		}
	}
	return want
}

func joins(t *testing.T, got map[uint64]known) {
	t.Helper()
	want := wanted()
	for _, seq := range slices.Sorted(maps.Keys(want)) {
		if got[seq] != want[seq] {
			t.Errorf("record %d: %.200q, want %.200q", seq, got[seq], want[seq])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d messages, want %d", len(got), len(want))
	}
}

// The developer tools of a real Chromium import the archive.
func TestExportHAR(t *testing.T) {
	name := mustExport(t, exportLog(t), "har")
	var requests []struct {
		URL, Type, Remote, Conn string
		Status                  int
		Frames                  []struct {
			Type   string
			Opcode int
			Time   float64
			Data   string
		}
	}
	if err := json.Unmarshal([]byte(nodeScript(t, "devtools.js", name)), &requests); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range requests {
		got = append(got, fmt.Sprintf("%s %s %d %s %s", r.Type, r.URL, r.Status, r.Remote, r.Conn))
		for _, f := range r.Frames {
			got = append(got, fmt.Sprintf("%s %d %.3f %.60s", f.Type, f.Opcode, f.Time, f.Data))
		}
	}
	want := []string{
		"other https://chat.example/page 200 192.0.2.1:443 c-1",
		"websocket wss://chat.example/ws 101 192.0.2.1:443 c-1",
		"send 1 1767366249.123 card 4012 8888 8888 1881 \u202eok\x1b",
		"receive 1 1767366251.123 " + strings.Repeat("long ", 12),
		"send 1 1767366253.123 ",
		"error -1 1767366254.123 a message that is not here (send, text, seq 10): no payload ",
		"websocket ws://feed.example:8080/a%20b%0D%0AX:%20y%3F 101 [2001:db8::1]:8080 c-2",
		"receive 2 1767366250.123 AP/+",
		"receive 9 1767366252.123 YmVhdA==",
		"send 1 1767366255.123 [redacted]",
		"receive 1 1767366258.123 after",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the developer tools show\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The same ids lead to the same messages in every format.
func TestExportIDs(t *testing.T) {
	dir := exportLog(t)
	t.Run("har", func(t *testing.T) {
		b, _, _ := exported(t, dir, "har")
		var archive struct {
			Log struct {
				Entries []struct {
					ConnectionID string `json:"_connectionId"`
					Messages     []struct {
						Type, Data string
						Opcode     int
						Framegate  struct{ Seq uint64 } `json:"_framegate"`
					} `json:"_webSocketMessages"`
				}
			}
		}
		if err := json.Unmarshal(b, &archive); err != nil {
			t.Fatal(err)
		}
		names := map[int]string{1: "text", 2: "binary", 9: "ping"}
		got := map[uint64]known{}
		for _, e := range archive.Log.Entries {
			for _, m := range e.Messages {
				if m.Type == "error" {
					continue
				}
				data := m.Data
				if m.Opcode != 1 {
					raw, err := base64.StdEncoding.DecodeString(data)
					if err != nil {
						t.Fatal(err)
					}
					data = string(raw)
				}
				dir := map[string]string{"send": "to-server", "receive": "to-client"}[m.Type]
				got[m.Framegate.Seq] = known{e.ConnectionID, dir, names[m.Opcode], data}
			}
		}
		joins(t, got)
	})
	t.Run("pcapng", func(t *testing.T) {
		name := mustExport(t, dir, "pcapng")
		out := tool(t, ".", "tshark", "-r", name, "-Y", "websocket", "-T", "fields",
			"-e", "frame.comment", "-e", "websocket.opcode", "-e", "websocket.mask", "-e", "tcp.reassembled.data", "-e", "tcp.payload")
		comment := regexp.MustCompile(`^framegate conn=(\S+) seq=(\d+) event=`)
		names := map[string]string{"1": "text", "2": "binary", "9": "ping"}
		got := map[uint64]known{}
		for line := range strings.Lines(out) {
			f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			m := comment.FindStringSubmatch(f[0])
			if m == nil {
				t.Fatalf("comment %q", f[0])
			}
			seq, _ := strconv.ParseUint(m[2], 10, 64)
			wire := f[3] // of several segments
			if wire == "" {
				wire = f[4]
			}
			frame, err := hex.DecodeString(strings.ReplaceAll(wire, ":", ""))
			if err != nil {
				t.Fatal(err)
			}
			dir := map[string]string{"1": "to-server", "0": "to-client", "True": "to-server", "False": "to-client"}[f[2]]
			opcode := names[f[1]]
			got[seq] = known{m[1], dir, opcode, unframed(t, frame)}
		}
		joins(t, got)
		if bad := tool(t, ".", "tshark", "-r", name, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
			"-Y", `_ws.malformed or (_ws.expert.severity >= 0x600000 and not http) or (tcp.analysis.flags and not frame.comment contains "is not here")`); bad != "" {
			t.Errorf("tshark finds fault with\n%s", bad)
		}
		if notes := tool(t, ".", "tshark", "-r", name, "-Y", `frame.comment contains "is not here"`, "-T", "fields", "-e", "frame.comment", "-e", "tcp.len"); notes !=
			"framegate conn=c-1 seq=10 event=ws.message action=allow text of 7 bytes is not here: no payload is recorded\t0\n" {
			t.Errorf("%q", notes)
		}
	})
	t.Run("parquet", func(t *testing.T) {
		name := mustExport(t, dir, "parquet")
		var rows []struct{ Seq, Conn, Dir, Opcode, Payload string }
		query := fmt.Sprintf("SELECT seq, conn, dir, opcode, hex(payload) AS payload FROM '%s' WHERE payload IS NOT NULL", name)
		if err := json.Unmarshal([]byte(nodeScript(t, "duckdb.js", query)), &rows); err != nil {
			t.Fatal(err)
		}
		got := map[uint64]known{}
		for _, r := range rows {
			seq, err := strconv.ParseUint(r.Seq, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := hex.DecodeString(r.Payload)
			if err != nil {
				t.Fatal(err)
			}
			got[seq] = known{r.Conn, r.Dir, r.Opcode, string(payload)}
		}
		joins(t, got)
	})
}

// DuckDB reads the columns with their types.
func TestExportParquetTypes(t *testing.T) {
	name := mustExport(t, exportLog(t), "parquet")
	var got []map[string]any
	query := `SELECT typeof(seq) AS seq, typeof(time) AS time, typeof(rules) AS rules, typeof(size) AS size, typeof(compressed) AS compressed,
		typeof(payload) AS payload, typeof(client_port) AS port, epoch_ns(time::TIMESTAMP_NS) AS ns, client_ip, payload_missing, payload_redacted
		FROM '` + name + `' WHERE seq IN (5, 10, 11) ORDER BY seq`
	if err := json.Unmarshal([]byte(nodeScript(t, "duckdb.js", query)), &got); err != nil {
		t.Fatal(err)
	}
	t.Log(got)
	for i, want := range []map[string]any{
		{"seq": "UBIGINT", "rules": "VARCHAR[]", "size": "BIGINT", "compressed": "BOOLEAN", "payload": "BLOB", "port": "USMALLINT", "client_ip": "10.0.0.7", "payload_redacted": false},
		{"payload_missing": "no payload is recorded", "payload_redacted": nil},
		{"client_ip": "2001:db8::7", "payload_redacted": true, "payload_missing": nil},
	} {
		for key, value := range want {
			if i >= len(got) || got[i][key] != value {
				t.Errorf("row %d: %s is %v, want %v", i, key, got[i][key], value)
			}
		}
	}
}

// unframed is the payload of one frame, whose masking is that of RFC 6455.
func unframed(t *testing.T, b []byte) string {
	t.Helper()
	var c frameCursor
	payload, n := readFrame(t, b)
	if !c.pass(b) || n != len(b) || c.left != 0 {
		t.Fatalf("not one frame: %d of %d bytes", n, len(b))
	}
	return payload
}

// Our own reader finds the same messages in all that it can read.
func TestExportInspect(t *testing.T) {
	dir := exportLog(t)
	rules := filepath.Join(t.TempDir(), "rules.toml")
	if err := os.WriteFile(rules, []byte("[[rule]]\nid = \"all\"\naction = \"log\"\n[rule.match]\nopcode = [\"text\", \"binary\", \"ping\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, e := range exportEvents() {
		if e.Msg != nil && (e.Msg.Payload != nil || e.Msg.Size == 0) {
			want = append(want, fmt.Sprintf("%s %s %s %d", e.Host, e.Msg.Dir, e.Msg.Opcode, len(e.Msg.Payload)))
		}
	}
	slices.Sort(want)
	for _, format := range []string{"har", "pcapng"} {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), []string{"inspect", "--json", "--policy", rules, mustExport(t, dir, format)}, &out, &errs); code != 0 {
			t.Fatalf("%s: exit %d: %s", format, code, errs.String())
		}
		var got []string
		for _, f := range findingsOf(t, out.String()) {
			host, _, _ := strings.Cut(f.Host, ":")
			got = append(got, fmt.Sprintf("%s %s %s %d", host, f.Dir, f.Opcode, f.Size))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", format, got, want)
		}
	}
}

// findingsOf are the messages that inspect --json names; its last line is the sum.
func findingsOf(t *testing.T, out string) (found []finding) {
	t.Helper()
	lines := strings.SplitAfter(strings.TrimSpace(out), "\n")
	for _, line := range lines[:len(lines)-1] {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if f.Message > 0 {
			found = append(found, f)
		}
	}
	return found
}

// A selection without the opening is exported all the same; what is not chosen
// is not there.
func TestExportSelection(t *testing.T) {
	dir := exportLog(t)
	for format, want := range map[string]string{"har": "ws.open is not among the records", "pcapng": "ws.open is not among the records", "parquet": "PAR1"} {
		b, stderr, code := exported(t, dir, format, "--rule", "card-numbers")
		if code != 0 || !strings.Contains(stderr, "1 record read") || !bytes.Contains(b, []byte(want)) || bytes.Contains(b, []byte("feed.example")) {
			t.Errorf("%s: exit %d, %s, %.300q", format, code, stderr, b)
		}
		if b, _, code := exported(t, dir, format, "--conn", "nobody"); code != 0 || len(b) == 0 {
			t.Errorf("%s of nothing: exit %d, %d bytes", format, code, len(b))
		}
	}
	_, stderr, _ := exported(t, dir, "har")
	if !strings.Contains(stderr, "without payload, 1 message: no payload is recorded") {
		t.Error(stderr)
	}
}

// Sealed payloads need the identity, and are gone with their key.
func TestExportSealed(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir, file := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	recipients, err := audit.ParseRecipients([]string{identity.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(audit.Options{Dir: dir, Level: audit.Frames, Recipients: recipients})
	if err != nil {
		t.Fatal(err)
	}
	key, err := log.PayloadKey("c-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range exportEvents() {
		if e.Msg != nil && e.Msg.Payload != nil {
			if e.Conn != "c-1" {
				continue
			}
			e.Msg.Sealed = key.Seal(nil, e.Msg, e.Msg.Payload, time.Now())
			e.Msg.Payload = nil
		}
		if err := log.Record(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"har", "pcapng"} {
		b, stderr, code := exported(t, dir, format)
		if code != 0 || !strings.Contains(stderr, "2 messages: the payload is sealed: no identity that was given opens its key") || bytes.Contains(b, []byte("long long")) {
			t.Errorf("%s without identity: exit %d, %s", format, code, stderr)
		}
		if b, stderr, code = exported(t, dir, format, "--identity", file); code != 0 || !bytes.Contains(b, []byte("long long")) {
			t.Errorf("%s with identity: exit %d, %s", format, code, stderr)
		}
	}
}

// A file is there once it is whole, for its owner only, and the log stays as it is.
func TestExportOut(t *testing.T) {
	dir := exportLog(t)
	before := treeOf(t, dir)
	out := t.TempDir()
	name := filepath.Join(out, "x.har")
	if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, code := exported(t, dir, "har", "--out", name); code != 0 || len(stdout) > 0 {
		t.Fatal(code, stderr)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() < 100 {
		t.Errorf("%v, %v", info, err)
	}
	f, err := capture.Open(name)
	if err != nil || f.Format != capture.HAR {
		t.Error(f, err)
	}
	f.Close()
	if _, stderr, code := exported(t, dir, "har", "--out", filepath.Join(out, "no", "x.har")); code != exitUsage || !strings.Contains(stderr, "--out: ") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	for _, args := range [][]string{{"--format", "xml"}, {"--format", "har", "--identity", filepath.Join(out, "none")}, {"--format", "har", "--from", "soon"}, {}} {
		var stdout, stderr bytes.Buffer
		if code := execute(t.Context(), append([]string{"audit", "export", "--dir", dir}, args...), &stdout, &stderr); code != exitUsage || stdout.Len() > 0 {
			t.Errorf("%q: exit %d, %s", args, code, stderr.String())
		}
	}
	segments, err := filepath.Glob(filepath.Join(dir, "seg", "*"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	if after := treeOf(t, dir); after != before {
		t.Error("the log has changed")
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-3] ^= 1
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := exported(t, dir, "har", "--out", name); code != exitFailed || !strings.Contains(stderr, "the log is damaged") {
		t.Errorf("damaged: exit %d, %s", code, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, interrupted bytes.Buffer
	if code := execute(ctx, []string{"audit", "export", "--dir", dir, "--format", "har", "--out", filepath.Join(out, "never")}, &stdout, &interrupted); code != exitFailed {
		t.Errorf("interrupted: exit %d, %s", code, interrupted.String())
	}
	if _, err := os.Stat(filepath.Join(out, "never")); err == nil {
		t.Error("an export that was interrupted is there")
	}
	if left, _ := filepath.Glob(filepath.Join(out, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// treeOf is a hash of every name and byte below a directory.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		fmt.Fprintln(h, path)
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		h.Write(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// The commands of the document do what it says.
func TestExportDocument(t *testing.T) {
	dir := exportLog(t)
	work := t.TempDir()
	for _, format := range []string{"har", "pcapng", "parquet"} {
		if err := os.Rename(mustExport(t, dir, format), filepath.Join(work, "chat."+format)); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "AUDIT-EXPORT.md"))
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^    (tshark .*)$`).FindAllStringSubmatch(string(doc), -1)
	queries := regexp.MustCompile("(?s)```sql\n(.*?)\n```").FindAllStringSubmatch(string(doc), -1)
	if len(commands) != 4 || len(queries) != 3 {
		t.Fatal(commands, queries)
	}
	for _, c := range commands {
		out := tool(t, work, "sh", "-c", c[1])
		if !strings.Contains(out, "\n") {
			t.Errorf("%s: %s", c[1], out)
		}
		if strings.Contains(c[1], "-e text") && !strings.Contains(out, "card 4012") {
			t.Errorf("%s does not show the text: %s", c[1], out)
		}
	}
	for _, q := range queries {
		out := nodeScript(t, "duckdb.js", strings.ReplaceAll(q[1], "chat.parquet", filepath.Join(work, "chat.parquet")))
		if !strings.Contains(out, "card") && !strings.Contains(out, "chat.example") {
			t.Errorf("%s: %s", q[1], out)
		}
	}
}
