package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// frameOf is a frame as somebody might send it.
func frameOf(kind byte, parts ...string) string {
	body := strings.Join(parts, "")
	return string(appendFrameHead(nil, kind, len(body))) + body
}

func number(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

// lineOf is a record as it travels.
func lineOf(e Event) string { return string(e.appendFields(nil, testTime)) + "\n" }

func helloOf(l *Log) string {
	return protocol + string(protocolVersion) + string(appendJSONFrame(nil, kindHello, hello{l.Origin(), 7}))
}

// Whatever a broken process sends, the log has the records before it and no more,
// and is valid.
func TestAcceptRefuses(t *testing.T) {
	good := lineOf(Event{Event: ConnOpen, Conn: "good"})
	records := func(first uint64, flags string, lines ...string) string {
		return frameOf(kindRecords, number(first), flags, strings.Join(lines, ""))
	}
	one := records(1, "\x00", good)
	line := func(s string) string { return one + records(2, "\x00", good, s) }
	tests := []struct {
		name, sent, want string
		greeted          bool
		records          int
	}{
		{"nothing", "", "unexpected EOF", false, 0},
		{"not a framegate", "GET / HTTP/1.1\r\n\r\n", `it begins with "GET / HT"`, false, 0},
		{"another version", protocol + "9", `in version "9", this one in "1"`, false, 0},
		{"no hello", protocol + "1" + frameOf(kindEnd), "no hello", false, 0},
		{"hello without JSON", protocol + "1" + frameOf(kindHello, "x"), "no hello", false, 0},
		{"another log", protocol + "1" + frameOf(kindHello, `{"origin":"framegate.example/x","pid":5}`), `process 5 has another log: "framegate.example/x"`, false, 0},
		{"long hello", protocol + "1" + "H\xff\xff\xff\xff", "a frame of 4294967295 bytes", false, 0},
		{"an orderly end", one + frameOf(kindEnd), "", true, 1},
		{"a later version adds to it", frameOf('z', "new") + one + frameOf(kindEnd, "more"), "", true, 1},
		{"end of file", one, "unexpected EOF", true, 1},
		{"cut in a head", one + one[:3], "unexpected EOF", true, 1},
		{"cut in a number", one + one[:9], "unexpected EOF", true, 1},
		{"cut in a line", one + one[:len(one)-1], "unexpected EOF", true, 1},
		{"a kind that must be known", one + frameOf('Z', "new"), "a frame of kind 'Z'", true, 1},
		{"an answer", one + frameOf(kindWritten, number(1)), "a frame of kind 'A' from who forwards", true, 1},
		{"too long", one + "R\xff\xff\xff\xff", "a frame of 4294967295 bytes", true, 1},
		{"no records", one + frameOf(kindRecords, number(2), "\x00"), "no records", true, 1},
		{"records again", one + one, "record 1 where 2 should be", true, 1},
		{"records left out", one + records(3, "\x00", good), "record 3 where 2 should be", true, 1},
		{"flags", one + records(2, "\x02", good), "flags 0x2", true, 1},
		{"no newline", line(good[:len(good)-1]), "no newline at the end", true, 1},
		{"many in a frame that is for one", one + records(2, "\x00", slices.Repeat([]string{good}, maxLines/len(good)+1)...), "records of", true, 1},
		{"an empty line", line("\n"), "record 3: it does not begin as one", true, 1},
		{"a whole record", line(`{"seq":9` + good), "it does not begin as one", true, 1},
		{"a seq of its own", line(strings.Replace(good, `"}`, `","seq":9}`, 1)), "a seq of its own", true, 1},
		{"in capitals", line(strings.Replace(good, `"}`, `","SEQ":9}`, 1)), "a seq of its own", true, 1},
		{"more than one object", line(strings.Replace(good, "}\n", `}{"seq":9}`+"\n", 1)), "invalid character", true, 1},
		{"no object", line(strings.Replace(good, "}\n", "\n", 1)), "unexpected end of JSON", true, 1},
		{"a number for a string", line(strings.Replace(good, `"conn":"good"`, `"conn":5`, 1)), "cannot unmarshal number", true, 1},
		{"no time", line(strings.Replace(good, "T00", " 00", 1)), "parsing time", true, 1},
		{"a time elsewhere", line(strings.Replace(good, "Z", "+", 1)), "it does not begin as one", true, 1},
		{"no event", line(strings.Replace(good, ConnOpen, "", 1)), "or no event", true, 1},
		{"an escape sequence", line(strings.Replace(good, "good", "\x1b[2J", 1)), "a byte 0x1b in it", true, 1},
		{"not UTF-8", line(strings.Replace(good, "good", "\xff", 1)), "not UTF-8", true, 1},
	}
	dir, total, killed := t.TempDir(), 0, 0
	l := mustOpen(t, Options{Dir: dir})
	for _, tt := range tests {
		a, b := socketPair(t)
		accepted := make(chan error, 1)
		n := int64(0)
		go func() {
			var err error
			n, err = l.Accept(b)
			accepted <- err
		}()
		if tt.greeted {
			tt.sent = helloOf(l) + tt.sent
		}
		go func() {
			io.WriteString(a, tt.sent)
			a.(*net.UnixConn).CloseWrite()
		}()
		answer, _ := io.ReadAll(a)
		a.Close()
		err := <-accepted
		if err == nil != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if strings.Contains(tt.name, "version") && !bytes.HasPrefix(answer, []byte(protocol+"1H")) {
			t.Errorf("%s: the other process hears %q", tt.name, answer)
		}
		if errors.Is(err, errFrame) && tt.greeted && !bytes.Contains(answer, []byte(`"refused":"`)) {
			t.Errorf("%s: it is not told why: %q", tt.name, answer)
		}
		if int(n) != tt.records {
			t.Errorf("%s: %d records accepted, want %d", tt.name, n, tt.records)
		}
		total += tt.records
		if tt.greeted && tt.want == "unexpected EOF" {
			killed++
		}
	}
	mustClose(t, l)
	if got := len(mustRead(t, dir, Filter{Event: ConnOpen})); got != total {
		t.Errorf("%d records in the log, want %d", got, total)
	}
	if got := len(mustRead(t, dir, Filter{Event: AuditGap})); got != killed {
		t.Errorf("%d gaps, and %d processes ended without a word", got, killed)
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" {
		t.Errorf("%+v", r)
	}
}

// Whatever who accepts answers, the log comes back to who forwards, whole.
func TestForwardRefuses(t *testing.T) {
	tests := []struct{ name, sent, want string }{
		{"nothing", "", "EOF"},
		{"not a framegate", "HTTP/1.1 400 \r\n", "it begins with"},
		{"another version", protocol + "2", `in version "2", this one in "1"`},
		{"another log", protocol + "1" + frameOf(kindHello, `{"origin":"x"}`), "has another log"},
		{"the end of the connection", "+", ""},
		{"an end", "+" + frameOf(kindEnd), ""},
		{"more written than sent", "+" + frameOf(kindWritten, number(1<<40)), ""},
		{"a short number", "+" + frameOf(kindWritten, "1"), ""},
		{"no state", "+" + frameOf(kindState, "{"), ""},
		{"it refuses", "+" + frameOf(kindState, `{"refused":"because"}`), ""},
		{"records", "+" + frameOf(kindRecords, number(1), "\x00", lineOf(Event{Event: "x"})), ""},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		l := mustOpen(t, Options{Dir: dir})
		if err := l.Yield(); err != nil {
			t.Fatal(err)
		}
		if err := l.Record(Event{Event: ConnOpen, Code: 1}); err != nil {
			t.Fatal(err)
		}
		a, b := socketPair(t)
		sent := tt.sent
		if rest, ok := strings.CutPrefix(sent, "+"); ok {
			sent = helloOf(l) + rest
		}
		go func() {
			io.WriteString(b, sent)
			b.(*net.UnixConn).CloseWrite()
			io.Copy(io.Discard, b)
			b.Close()
		}()
		err := l.Forward(a)
		if err == nil != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if err != nil {
			if err := l.Retake(); err != nil {
				t.Error(err)
			}
		}
		for l.Status().Elsewhere {
			time.Sleep(time.Millisecond)
		}
		if err := l.Record(Event{Event: ConnOpen, Code: 2}); err != nil {
			t.Error(err)
		}
		mustClose(t, l)
		got := strings.ReplaceAll(eventsOf(t, dir), "audit.gap 0 lost 0; ", "")
		if got != "conn.open 1; conn.open 2; " {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}

// One record that is longer than a frame of many, and a checkpoint on demand.
func TestForwardLarge(t *testing.T) {
	dir := t.TempDir()
	old := mustOpen(t, Options{Dir: dir})
	if err := old.Yield(); err != nil {
		t.Fatal(err)
	}
	young := mustOpen(t, Options{Dir: dir})
	a, b := socketPair(t)
	accepted := accept(young, b)
	if err := old.Forward(a); err != nil {
		t.Fatal(err)
	}
	huge := strings.Repeat("x", maxUnwritten+maxLines)
	for i := range 3 {
		if err := old.Record(Event{Event: ConnOpen, Code: 2*i + 1, Reason: huge}, Event{Event: ConnOpen, Code: 2*i + 2}); err != nil {
			t.Fatal(err)
		}
	}
	before := read(t, dir, historyFile)
	if err := old.Record(Event{Event: PolicyLoad, Code: 7}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return len(read(t, dir, historyFile)) > len(before) })
	mustClose(t, old)
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	mustClose(t, young)
	if got, want := eventsOf(t, dir), "conn.open 1; conn.open 2; conn.open 3; conn.open 4; conn.open 5; conn.open 6; policy.load 7; "; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What is parsed makes records that a reader takes, and nothing is read beyond a
// frame.
func FuzzRecordsFrame(f *testing.F) {
	e := benchEvent(1)
	good := string(e.appendFields(nil, testTime)) + "\n"
	f.Add([]byte(frameOf(kindRecords, number(1), "\x00", good)))
	f.Add([]byte(frameOf(kindRecords, number(1), "\x01", good, good, lineOf(Event{Event: PolicyLoad}))))
	f.Add([]byte(frameOf('x', "passed over") + frameOf(kindRecords, number(1), "\x00", good) + "rest"))
	f.Add([]byte(frameOf(kindRecords, number(1), "\x00", strings.Replace(good, `"conn"`, `"seq":1,"conn"`, 1))))
	f.Add([]byte(frameOf(kindWritten, number(1))))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		kind, body, err := readFrame(r)
		if err != nil {
			return
		}
		read := b[:len(b)-r.Len()]
		if !bytes.HasSuffix(read, append(appendFrameHead(nil, kind, len(body)), body...)) {
			t.Fatalf("%q is read for a frame of kind %q with %q", read, kind, body)
		}
		if kind != kindRecords {
			return
		}
		c, err := parseRecords(body, 1)
		if err != nil {
			return
		}
		for i := range c.recs {
			line, ns := c.peek(i)
			var rec Record
			if err := json.Unmarshal(append(appendSeq(nil, 5), line...), &rec); err != nil || rec.Seq != 5 || unixNano(rec.Time) != ns {
				t.Fatalf("%v\n%q", err, line)
			}
			if bytes.IndexByte(line, '\n') != len(line)-1 {
				t.Fatalf("%q", line)
			}
		}
	})
}
