package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"framegate/audit"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"framegate": main})
}

// TestScripts runs testdata/script/*.txt, one file per subcommand and one per
// kind of mistake.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			root, err := filepath.Abs(filepath.Join("..", ".."))
			e.Setenv("ROOT", root)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"writelog":      cmdWriteLog,
			"writepayloads": cmdWritePayloads,
			"writesealed":   cmdWriteSealed,
			"mustbejson":    cmdMustBeJSON,
			"busyport":      cmdBusyPort,
		},
		Condition: func(condition string) (bool, error) {
			switch condition {
			case "root":
				return os.Geteuid() == 0, nil
			case "namespaces": // a network and mounts of one's own, to leave this machine's alone
				return exec.Command("unshare", "-mn", "true").Run() == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
	})
}

// cmdWriteLog makes a log in a directory, or adds to one: "writelog DIR".
func cmdWriteLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: writelog DIR")
	}
	ts.Check(writeLog(ts.MkAbs(args[0]), sampleEvents()...))
}

// cmdWritePayloads makes a log with two messages and their payloads.
func cmdWritePayloads(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: writepayloads DIR")
	}
	conn := audit.Event{Event: audit.WSOpen, Conn: "c-1", Client: netip.MustParseAddrPort("10.0.0.7:40000"), Server: netip.MustParseAddrPort("192.0.2.1:443"), Host: "chat.example", Path: "/ws"}
	events := []audit.Event{conn}
	for _, payload := range []string{"card 4012 8888 8888 1881 ok", "hello"} {
		e := conn
		e.Event, e.Action = audit.WSMessage, "allow"
		e.Msg = &audit.Message{
			Dir: "to-server", Opcode: "text", Size: int64(len(payload)), WireSize: int64(len(payload)) + 6, Frames: 1,
			SHA256: sha256.Sum256([]byte(payload)), Payload: []byte(payload),
		}
		events = append(events, e)
	}
	ts.Check(writeLog(ts.MkAbs(args[0]), events...))
}

func writeLog(dir string, events ...audit.Event) error {
	log, err := audit.Open(audit.Options{Dir: dir, Level: audit.Frames})
	if err != nil {
		return err
	}
	if err := log.Record(events...); err != nil {
		log.Close()
		return err
	}
	return log.Close()
}

// sampleEvents are two connections, one of them of somebody who tries to draw
// on the terminal of whoever reads the log.
func sampleEvents() []audit.Event {
	at := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	chat := audit.Event{
		Conn: "c-1", Client: netip.MustParseAddrPort("10.0.0.7:40000"), Server: netip.MustParseAddrPort("192.0.2.1:443"),
		SNI: "chat.example", Host: "chat.example", Policy: "p1",
	}
	evil := audit.Event{
		Conn: "c-2", Client: netip.MustParseAddrPort("[2001:db8::7]:40000"), Server: netip.MustParseAddrPort("[2001:db8::1]:443"),
		Host: "evil\x1b[2J\nexample", Policy: "p1",
	}
	var events []audit.Event
	add := func(e audit.Event, name string, change func(*audit.Event)) {
		e.Event = name
		e.Time = at.Add(time.Duration(len(events)) * time.Minute)
		change(&e)
		events = append(events, e)
	}
	add(chat, audit.ConnOpen, func(*audit.Event) {})
	add(chat, audit.WSMessage, func(e *audit.Event) {
		e.Msg = &audit.Message{Dir: "to-server", Opcode: "text", Size: 5, WireSize: 11, Frames: 1}
		e.Action = "allow"
	})
	add(chat, audit.WSMessage, func(e *audit.Event) {
		e.Msg = &audit.Message{Dir: "to-server", Opcode: "text", Size: 19, WireSize: 25, Frames: 1}
		e.Rules, e.Action = []string{"card-numbers"}, "drop"
	})
	add(evil, audit.HTTPRequest, func(e *audit.Event) { e.Method, e.Path, e.Code = "GET", "/\u202etxt", 200 })
	add(chat, audit.ConnClose, func(e *audit.Event) { e.State = audit.StateInspected })
	return events
}

// cmdBusyPort takes a port of the loopback until the script ends, and puts its
// address into an environment variable: "busyport NAME".
func cmdBusyPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: busyport NAME")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { ln.Close() })
	ts.Setenv(args[0], ln.Addr().String())
}

// cmdMustBeJSON checks that every line of a file or of stdout is JSON: "mustbejson FILE".
func cmdMustBeJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mustbejson FILE")
	}
	text := ts.ReadFile(args[0])
	if text == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			ts.Fatalf("not JSON: %q", line)
		}
	}
}

// The README has every command.
func TestReadmeHasEveryCommand(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			continue
		}
		for name := range strings.SplitSeq(cells[1], ",") {
			rows[strings.TrimSpace(name)] = cells[2]
		}
	}
	for _, cmd := range newRootCommand().Commands() {
		row, ok := rows["`"+cmd.Name()+"`"]
		if !ok {
			t.Errorf("README.md does not have %s", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			if !strings.Contains(row, "`"+sub.Name()+"`") {
				t.Errorf("README.md does not have %s", sub.CommandPath())
			}
		}
	}
}

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain text, ümläut, 漢字", "plain text, ümläut, 漢字"},
		{"\x1b[2J", `\x1b[2J`},
		{"a\r\nb\tc\x00", `a\x0d\x0ab\x09c\x00`},
		{"\u202egpj.exe", `\u202egpj.exe`},
		{"\xff\xfe", `\xff\xfe`},
		{"\u009b31m", `\u009b31m`},
	} {
		if got := printable(tt.in); got != tt.want {
			t.Errorf("printable(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestEveryCommandSaysWhatItDoes(t *testing.T) {
	var stdout, stderr bytes.Buffer
	for _, cmd := range newRootCommand().Commands() {
		stdout.Reset()
		if code := execute(t.Context(), []string{cmd.Name(), "--help"}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
			t.Errorf("%s --help: exit %d, stderr %q", cmd.Name(), code, stderr.String())
		}
		if cmd.Short == "" || !strings.Contains(stdout.String(), "Usage:\n  framegate "+cmd.Name()) {
			t.Errorf("%s --help printed %q", cmd.Name(), stdout.String())
		}
	}
}
