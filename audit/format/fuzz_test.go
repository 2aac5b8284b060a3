package format

import (
	"encoding/csv"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"framegate/audit"
)

// parseCEF reads a message as its receiver does.
func parseCEF(t testing.TB, s string) (header []string, ext map[string]string) {
	t.Helper()
	s, ok := strings.CutSuffix(s, "\n")
	if !ok {
		t.Fatalf("no newline: %q", s)
	}
	var b strings.Builder
	i := 0
	for ; i < len(s) && len(header) < 7; i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '|':
			header = append(header, b.String())
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	ext = make(map[string]string)
	key, start := "", i
	for ; i <= len(s); i++ {
		switch {
		case i == len(s):
			if key != "" {
				ext[key] = s[start:]
			}
		case s[i] == '\\':
			i++
		case s[i] == '=':
			before := s[start:i]
			if space := strings.LastIndexByte(before, ' '); space >= 0 && key != "" {
				ext[key], key = before[:space], before[space+1:]
			} else {
				key = before
			}
			start = i + 1
		}
	}
	return header, ext
}

var unescapeCEF = strings.NewReplacer(`\\`, `\`, `\=`, `=`, `\n`, "\n", `\r`, "\r")

// Whatever a record holds is one printable line that reads back as it should.
func FuzzOneLine(f *testing.F) {
	for _, s := range []string{
		"plain", "=cmd|'/c calc'!A1", "@SUM(1)", "+1", "-1", "a,=1", `";=1`, "  =1", "＝1", "a\r\nb", "\x1b[2J", "\u202e",
		"a=b c=d", `a|b\c`, "\\", "\xff", "x\u2028y", "\U000e0041", "'=1", "\t=1", "\x00", "src=1.2.3.4", `\u001b`,
	} {
		f.Add(s, s, s)
	}
	f.Add("ws.message", "r1", "reason")
	f.Fuzz(func(t *testing.T, event, rule, reason string) {
		e := audit.Event{
			Event: event, Conn: rule, Rules: []string{rule, reason}, Shadow: []string{reason}, Action: reason, Host: reason, SNI: rule,
			Path: reason, Reason: reason, Subprotocol: rule, Method: rule, State: reason, Policy: rule,
			Msg: &audit.Message{Dir: rule, Opcode: reason, Size: 1}, Totals: &audit.Totals{}, Gap: &audit.Gap{Count: 1},
			Expired: &audit.Expired{By: rule}, Unshipped: &audit.Unshipped{Target: reason},
		}
		r := record(t, e, 1)
		for _, name := range Names() {
			got := line(t, name, r)
			if !utf8.ValidString(got) || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
				t.Fatalf("%s: %q", name, got)
			}
			for _, c := range got[:len(got)-1] {
				if !strconv.IsPrint(c) {
					t.Fatalf("%s: %q in %q", name, c, got)
				}
			}
			switch name {
			case "csv":
				cells, err := csv.NewReader(strings.NewReader(got)).Read()
				if err != nil || len(cells) != len(columns) {
					t.Fatalf("%d cells, %v: %s", len(cells), err, got)
				}
				for _, c := range cells {
					for _, part := range strings.FieldsFunc(c, func(r rune) bool { return strings.ContainsRune(`,;"`, r) }) {
						part = strings.TrimLeft(part, " ")
						if part != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(part)[0]) {
							t.Fatalf("a formula: %q in %s", part, got)
						}
					}
				}
			case "ecs":
				var v struct {
					Event struct{ Code, Reason string }
					Rule  struct{ ID []string }
				}
				if err := json.Unmarshal([]byte(got), &v); err != nil || v.Event.Code != r.Event || v.Event.Reason != r.Reason {
					t.Fatalf("%v, %+v: %s", err, v, got)
				}
			case "ocsf":
				var v struct {
					StatusDetail string `json:"status_detail"`
					ClassUID     int64  `json:"class_uid"`
					ActivityID   int64  `json:"activity_id"`
					TypeUID      int64  `json:"type_uid"`
				}
				if err := json.Unmarshal([]byte(got), &v); err != nil || v.StatusDetail != r.Reason || v.TypeUID != 100*v.ClassUID+v.ActivityID {
					t.Fatalf("%v, %+v: %s", err, v, got)
				}
			case "cef":
				header, ext := parseCEF(t, got)
				if len(header) != 7 || header[0] != "CEF:0" || header[3] != "1.0" {
					t.Fatalf("%q: %s", header, got)
				}
				for key := range ext {
					if !slices.ContainsFunc(extension, func(f field) bool { return f.name == key }) {
						t.Fatalf("key %q: %s", key, got)
					}
				}
				if plain := printableOrBreak(r.Reason); plain && unescapeCEF.Replace(ext["reason"]) != r.Reason {
					t.Fatalf("reason %q: %s", ext["reason"], got)
				}
			}
		}
	})
}

func printableOrBreak(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\r' && !strconv.IsPrint(r) })
}
