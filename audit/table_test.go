package audit

import (
	"strconv"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var out strings.Builder
	table := NewTable(&out)
	if err := table.Header(); err != nil {
		t.Fatal(err)
	}
	for _, rec := range []Record{
		{Time: testTime, Event: ConnOpen, Conn: "c1", SNI: "chat.example.com"},
		{Time: testTime, Event: WSOpen, Conn: "c1", Host: "chat.example.com", Method: "GET", Path: "/ws", Code: 101},
		{Time: testTime, Event: WSMessage, Conn: "c1", Dir: "to-server", Opcode: "text", Size: 1234, Action: "drop",
			Rules: []string{"r1", "r2"}, Host: "chat.example.com", Reason: "card number"},
		{Time: testTime, Event: WSMessage, Conn: "c1", Dir: "to-client", Opcode: "binary", Action: "allow"},
		{Time: testTime, Event: WSClose, Conn: "\x1b[2J", Host: "a  close  b", Reason: "x\r\n\u202ey \\ \xff"},
		{Time: testTime, Event: ConnClose, Conn: "c1", State: StateInspected},
	} {
		if err := table.Row(rec); err != nil {
			t.Fatal(err)
		}
	}
	want := `
TIME                     EVENT          CONN              DIR        OPCODE      SIZE  ACTION     RULES                 HOST                      REASON
2026-03-09T00:02:03.000  conn.open      c1                -          -              -  -          -                     chat.example.com          -
2026-03-09T00:02:03.000  ws.open        c1                -          -              -  -          -                     chat.example.com          GET /ws 101
2026-03-09T00:02:03.000  ws.message     c1                to-server  text        1234  drop       r1,r2                 chat.example.com          card number
2026-03-09T00:02:03.000  ws.message     c1                to-client  binary         0  allow      -                     -                         -
2026-03-09T00:02:03.000  ws.close       \x1b[2J           -          -              -  -          -                     a\x20\x20close\x20\x20b   x\r\n\u202ey \\ \xff
2026-03-09T00:02:03.000  conn.close     c1                -          -              -  inspected  -                     -                         -
`[1:]
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func FuzzTable(f *testing.F) {
	f.Add("\x1b]0;title\x07", "a  b", "\u202e\xff\n")
	f.Add("", "-", "\\x1b")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var out strings.Builder
		table := NewTable(&out)
		if err := table.Row(Record{Event: a, Conn: b, Rules: []string{c, a}, Host: c}); err != nil {
			t.Fatal(err)
		}
		if n := len(strings.Fields(out.String())); n != len(columns) {
			t.Fatalf("%d columns: %q", n, out.String())
		}
		out.Reset()
		if err := table.Row(Record{Event: a, Conn: b, Host: c, Path: b, Reason: c}); err != nil {
			t.Fatal(err)
		}
		line, ok := strings.CutSuffix(out.String(), "\n")
		if !ok {
			t.Fatal("no line")
		}
		for _, r := range line {
			if !strconv.IsPrint(r) {
				t.Fatalf("not printable: %q", line)
			}
		}
	})
}
