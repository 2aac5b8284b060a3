package format

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

// record is an event as a reader of the log gets it.
func record(t testing.TB, e audit.Event, seq uint64) *audit.Record {
	t.Helper()
	if e.Time.IsZero() {
		e.Time = time.Date(2026, 3, 9, 0, 2, 3, 4005, time.UTC)
	}
	r := &audit.Record{Raw: e.AppendJSON(nil, seq)}
	if err := json.Unmarshal(r.Raw, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// samples are records of every event.
func samples(t testing.TB) []*audit.Record {
	base := audit.Event{
		Conn: "c-1", Client: netip.MustParseAddrPort("10.0.0.7:40000"), Server: netip.MustParseAddrPort("192.0.2.1:443"),
		SNI: "chat.example", Host: "chat.example", Policy: "p1",
	}
	var list []*audit.Record
	add := func(name string, change func(e *audit.Event)) {
		e := base
		e.Event = name
		change(&e)
		list = append(list, record(t, e, uint64(len(list)+1)))
	}
	six := func(e *audit.Event) {
		e.Client, e.Server = netip.MustParseAddrPort("[2001:db8::7]:40000"), netip.MustParseAddrPort("[2001:db8::1]:443")
	}
	message := func(e *audit.Event) {
		e.Path = "/ws"
		e.Msg = &audit.Message{Dir: "to-server", Opcode: "text", Size: 19, WireSize: 25, Frames: 1, SHA256: [32]byte{1}}
	}
	plain := func(e *audit.Event) { *e = audit.Event{Event: e.Event, Policy: "p1", Reason: "framegate 1.0"} }
	add(audit.GatewayStart, plain)
	add(audit.GatewayStop, plain)
	add(audit.PolicyLoad, plain)
	add(audit.PolicyReject, plain)
	add("admin.reload", plain)
	add(audit.AuditGap, func(e *audit.Event) {
		plain(e)
		e.Gap = &audit.Gap{Count: 3, Bytes: 100, Since: time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)}
	})
	add(audit.ConnOpen, func(*audit.Event) {})
	add(audit.ConnOpen, six)
	add(audit.ConnBypass, func(e *audit.Event) { e.Action, e.Rules = "bypass", []string{"banking"} })
	add(audit.ConnBlock, func(e *audit.Event) { e.Action, e.Rules = "block", []string{"ads"} })
	add(audit.TLSFail, func(e *audit.Event) { e.Reason = "bad certificate" })
	add(audit.HTTPRequest, func(e *audit.Event) { e.Method, e.Path, e.Code, e.Action = "POST", "/a=b|c", 403, "block" })
	add(audit.HTTPRequest, func(e *audit.Event) { e.Method, e.Path, e.Code = "PURGE", "/", 200 })
	add(audit.WSOpen, func(e *audit.Event) { e.Path, e.Code, e.Subprotocol = "/ws", 101, "chat.v1" })
	add(audit.WSMessage, func(e *audit.Event) { message(e); e.Action = "allow" })
	for _, action := range []string{"log", "redact", "drop", "close"} {
		add(audit.WSMessage, func(e *audit.Event) { message(e); e.Action, e.Rules = action, []string{"cards", "iban"} })
	}
	add(audit.WSMessage, func(e *audit.Event) {
		message(e)
		e.Action, e.Shadow, e.Msg.Dir = "allow", []string{"trial"}, "to-client"
	})
	add(audit.WSControl, func(e *audit.Event) { message(e); e.Action, e.Msg.Opcode = "allow", "ping" })
	add(audit.WSViolation, func(e *audit.Event) {
		e.Msg, e.Action, e.Code, e.Evidence = &audit.Message{Dir: "to-server"}, "close", 1002, []byte{0xff, 0x80}
	})
	add(audit.WSClose, func(e *audit.Event) { e.Code, e.Reason = 1000, "bye" })
	add(audit.ConnClose, func(e *audit.Event) {
		e.State = audit.StateInspected
		e.Totals = &audit.Totals{ToServer: audit.Tally{Messages: 2, Bytes: 38, SHA256: [32]byte{2}}}
	})
	add(audit.TrustLoad, plain)
	add(audit.TrustReject, plain)
	add(audit.CALoad, plain)
	add(audit.CAReject, plain)
	add(audit.CAIssue, func(e *audit.Event) { plain(e); e.Host = "chat.example" })
	add(audit.AdminErase, plain)
	for _, missing := range []uint64{0, 2} {
		add(audit.AuditExpire, func(e *audit.Event) {
			plain(e)
			e.Expired = &audit.Expired{By: audit.ByKeep, FirstBlock: 71, LastBlock: 72, FirstSeq: 73, LastSeq: 74, Count: 75, Bytes: 76, Missing: missing,
				From: time.Date(2026, 1, 9, 0, 0, 0, 7, time.UTC), To: time.Date(2026, 2, 9, 0, 0, 0, 7, time.UTC)}
		})
	}
	add(audit.AuditUnshipped, func(e *audit.Event) {
		plain(e)
		e.Unshipped = &audit.Unshipped{Target: "syslog+tls://siem.example:6514", Count: 81, From: 82, To: 83}
	})
	add(audit.GatewayOverload, plain)
	add(audit.GatewayHandover, plain)
	add(audit.ConfigLoad, plain)
	add(audit.ConfigReject, plain)
	return list
}

func line(t testing.TB, name string, r *audit.Record) string {
	t.Helper()
	f, err := New(name, "1.0")
	if err != nil {
		t.Fatal(err)
	}
	return string(f.Append(nil, r))
}

func find(t testing.TB, event, action string) *audit.Record {
	t.Helper()
	for _, r := range samples(t) {
		if r.Event == event && r.Action == action {
			return r
		}
	}
	t.Fatalf("no %s %s", event, action)
	return nil
}

const hash01 = "0100000000000000000000000000000000000000000000000000000000000000"

func TestLines(t *testing.T) {
	drop := find(t, audit.WSMessage, "drop")
	for _, tt := range []struct {
		format string
		r      *audit.Record
		want   string
	}{
		{"csv", drop, `18,2026-03-09T00:02:03.000004005Z,ws.message,c-1,to-server,text,19,25,1,false,` + hash01 +
			`,"cards iban",drop,p1,10.0.0.7:40000,192.0.2.1:443,chat.example,chat.example,/ws,,,,,,,,,,,,,,,,,,`},
		{"cef", drop, `CEF:0|framegate|framegate|1.0|ws.message|WebSocket message matched a rule|6|rt=1773014523000 externalId=18` +
			` cat=websocket act=drop outcome=failure proto=TCP src=10.0.0.7 spt=40000 dst=192.0.2.1 dpt=443 dhost=chat.example` +
			` deviceDirection=1 out=25 request=/ws cs1Label=rules cs1=cards,iban cs2Label=conn cs2=c-1 cs3Label=policy cs3=p1` +
			` cs4Label=sni cs4=chat.example cn2Label=size cn2=19 cn3Label=frames cn3=1 framegateOpcode=text framegateCompressed=false` +
			` framegateSha256=` + hash01},
		{"cef", find(t, audit.HTTPRequest, "block"), `CEF:0|framegate|framegate|1.0|http.request|HTTP request|6|rt=1773014523000 externalId=12` +
			` cat=http act=block outcome=failure proto=TCP src=10.0.0.7 spt=40000 dst=192.0.2.1 dpt=443 dhost=chat.example` +
			` request=/a\=b|c requestMethod=POST cs2Label=conn cs2=c-1 cs3Label=policy cs3=p1 cs4Label=sni cs4=chat.example cn1Label=code cn1=403`},
		{"ecs", drop, `{"@timestamp":"2026-03-09T00:02:03.000004005Z","ecs":{"version":"8.11.0"},"event":{"kind":"alert",` +
			`"category":["network","intrusion_detection"],"type":["protocol","denied"],"action":"drop","outcome":"failure","code":"ws.message",` +
			`"sequence":18,"module":"framegate","dataset":"framegate.audit"},"observer":{"vendor":"framegate","product":"framegate",` +
			`"type":"proxy","version":"1.0"},"source":{"ip":"10.0.0.7","port":40000,"bytes":25},"destination":{"ip":"192.0.2.1","port":443,` +
			`"domain":"chat.example"},"network":{"transport":"tcp","type":"ipv4","protocol":"websocket","direction":"outbound",` +
			`"community_id":"1:HgpCU6aGudtzPTYmTkWVKUg/UvM="},"url":{"domain":"chat.example","path":"/ws"},` +
			`"tls":{"client":{"server_name":"chat.example"}},"rule":{"id":["cards","iban"],"version":"p1"},` +
			`"related":{"ip":["10.0.0.7","192.0.2.1"],"hosts":["chat.example"],"hash":["` + hash01 + `"]},` +
			`"framegate":{"conn":"c-1","ws":{"opcode":"text","size":19,"wire_size":25,"frames":1,"compressed":false,"sha256":"` + hash01 + `"}}}`},
		{"ocsf", drop, `{"activity_id":1,"activity_name":"Create","category_uid":2,"class_uid":2006,"class_name":"Data Security Finding",` +
			`"type_uid":200601,"severity_id":3,"time":1773014523000,"metadata":{"version":"1.6.0","product":{"name":"framegate",` +
			`"vendor_name":"framegate","version":"1.0"},"profiles":["security_control"],"log_name":"audit","event_code":"ws.message",` +
			`"original_time":"2026-03-09T00:02:03.000004005Z","sequence":18,"correlation_uid":"c-1"},"action_id":2,"disposition_id":6,` +
			`"is_alert":true,"src_endpoint":{"ip":"10.0.0.7","port":40000},"dst_endpoint":{"ip":"192.0.2.1","port":443,"hostname":"chat.example"},` +
			`"finding_info":{"uid":"c-1/18","title":"A message matched cards, iban","created_time":1773014523000,"types":["cards","iban"]},` +
			`"data_security":{"detection_pattern":"cards, iban","data_lifecycle_state_id":2,"policy":{"version":"p1"}},` +
			`"unmapped":{"rules":["cards","iban"],"sni":"chat.example","path":"/ws","action":"drop","ws":{"dir":"to-server","opcode":"text",` +
			`"size":19,"wire_size":25,"frames":1,"compressed":false,"sha256":"` + hash01 + `"}}}`},
	} {
		if got := line(t, tt.format, tt.r); got != tt.want+"\n" {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.format, got, tt.want)
		}
	}
}

// What is not about a connection has words, a weight and a category of its own.
func TestEvents(t *testing.T) {
	for _, tt := range []struct {
		event          string
		name           string
		cef, ocsf      int64
		category, kind string
		outcome        string
	}{
		{audit.ConfigLoad, "Configuration loaded", 1, 1, "configuration", "change", "success"},
		{audit.ConfigReject, "Configuration refused", 3, 2, "configuration", "info", "failure"},
		{audit.PolicyLoad, "Policy loaded", 1, 1, "configuration", "change", "success"},
		{audit.PolicyReject, "Policy refused", 3, 2, "configuration", "info", "failure"},
		{audit.TrustLoad, "Trusted roots loaded", 1, 1, "configuration", "change", "success"},
		{audit.TrustReject, "Trusted roots refused", 3, 2, "configuration", "info", "failure"},
		{audit.CALoad, "Authority loaded", 1, 1, "configuration", "change", "success"},
		{audit.CAReject, "Authority refused", 3, 2, "configuration", "info", "failure"},
		{audit.CAIssue, "Certificate issued", 1, 1, "configuration", "creation", "success"},
		{audit.GatewayHandover, "Gateway upgraded", 1, 1, "process", "info", "unknown"},
		{audit.GatewayOverload, "Gateway load changed", 1, 1, "process", "info", "unknown"},
		{audit.AuditGap, "Audit records missing", 8, 4, "process", "info", "failure"},
		{audit.AuditUnshipped, "Audit records not shipped", 6, 3, "process", "info", "failure"},
		{audit.AuditExpire, "Audit records expired", 1, 1, "file", "deletion", "success"},
		{audit.AdminErase, "Payloads erased", 3, 2, "file", "deletion", "unknown"},
		{"admin.reload", "admin.reload", 1, 1, "configuration", "access", "unknown"},
	} {
		r := find(t, tt.event, "")
		category, kind := ecsCategory(r)
		if got := cefName(r); got != tt.name {
			t.Errorf("%s: name %s, want %s", tt.event, got, tt.name)
		}
		if cef, ocsf := cefSeverity(r), severity(r); cef != tt.cef || ocsf != tt.ocsf {
			t.Errorf("%s: severity %d and %d, want %d and %d", tt.event, cef, ocsf, tt.cef, tt.ocsf)
		}
		if !slices.Equal(category, []string{tt.category}) || !slices.Equal(kind, []string{tt.kind}) {
			t.Errorf("%s: %v %v, want %s %s", tt.event, category, kind, tt.category, tt.kind)
		}
		if got := outcome(r); got != tt.outcome {
			t.Errorf("%s: outcome %s, want %s", tt.event, got, tt.outcome)
		}
		if c := classOf(r); c.uid != 0 || c.what != tt.event {
			t.Errorf("%s: class %+v", tt.event, c)
		}
	}
	for _, r := range samples(t) {
		if r.Expired != nil && r.Expired.Missing > 0 && severity(r) != 3 {
			t.Errorf("blocks that were missing before they expired: severity %d", severity(r))
		}
	}
}

// Each event of the specification is one of the samples, and has a name.
func TestEveryEvent(t *testing.T) {
	b, err := os.ReadFile("../../docs/AUDIT-FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "\n### Events\n")
	table, _, _ = strings.Cut(table, "\n## ")
	if !ok {
		t.Fatal("no section Events")
	}
	have := make(map[string]bool)
	for _, r := range samples(t) {
		have[r.Event] = true
	}
	found := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z]+\\.[a-z]+)`").FindAllStringSubmatch(cells[1], -1) {
			found++
			if r := (&audit.Record{Event: m[1]}); cefName(r) == m[1] || !have[m[1]] {
				t.Errorf("%s: name %q, a sample: %v", m[1], cefName(r), have[m[1]])
			}
		}
	}
	if found < 23 {
		t.Errorf("%d events", found)
	}
}

// Baseline of the Community ID specification: TCP, seed 0.
func TestCommunityID(t *testing.T) {
	const want = "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
	if got := communityID("128.232.110.120:34855", "66.35.250.204:80"); got != want {
		t.Errorf("got %s", got)
	}
	if got := communityID("66.35.250.204:80", "128.232.110.120:34855"); got != want {
		t.Errorf("the other way round: got %s", got)
	}
	for _, pair := range [][2]string{{"", "10.0.0.1:1"}, {"10.0.0.1:1", "[::1]:1"}, {"x", "y"}} {
		if got := communityID(pair[0], pair[1]); got != "" {
			t.Errorf("%v: got %s", pair, got)
		}
	}
}

// Nothing of a record is lost, but for payload.
func TestNothingIsLost(t *testing.T) {
	for _, r := range samples(t) {
		var raw map[string]any
		if err := json.Unmarshal(r.Raw, &raw); err != nil {
			t.Fatal(err)
		}
		for _, name := range Names() {
			got := line(t, name, r)
			for _, key := range []string{"expired", "unshipped"} {
				values, _ := raw[key].(map[string]any)
				for inner, v := range values {
					s := fmt.Sprint(v)
					if !strings.Contains(got, s) {
						t.Errorf("%s: %s: no %s.%s %s in %s", name, r.Event, key, inner, s, got)
					}
				}
			}
			for key, v := range raw {
				s, ok := v.(string)
				if !ok || key == "time" {
					continue
				}
				if key == "client" || key == "server" {
					s = address(s)
				}
				if key == "dir" {
					continue // has a name of its own in each
				}
				if name == "cef" {
					s = string(cefExtension(nil, s))
				}
				if !strings.Contains(got, s) {
					t.Errorf("%s: %s: no %s %q in %s", name, r.Event, key, s, got)
				}
			}
		}
	}
}

// The page for users has a row for each field.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/AUDIT-QUERY.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := make(map[string]string)
	for s := range strings.SplitSeq(string(b), "\n### ") {
		title, _, _ := strings.Cut(s, "\n")
		sections[title] = s
	}
	for title, fields := range map[string][]field{
		"CSV": columns, "ECS": ecsFields("1.0"), "OCSF": ocsfFields("1.0"), "CEF": extension,
	} {
		if sections[title] == "" {
			t.Errorf("no section %s: there are %v", title, slices.Sorted(maps.Keys(sections)))
			continue
		}
		for _, f := range fields {
			if base, ok := strings.CutSuffix(f.name, "Label"); ok && strings.HasPrefix(f.name, "c") {
				f.name = base // said once for all
			}
			if !strings.Contains(sections[title], "`"+f.name+"`") {
				t.Errorf("section %s has no `%s`", title, f.name)
			}
		}
	}
}

func TestNew(t *testing.T) {
	if _, err := New("xml", "1.0"); err == nil || !strings.Contains(err.Error(), "expected cef, csv, ecs, ocsf") {
		t.Errorf("got %v", err)
	}
	if f, err := New("csv", "1.0"); err != nil || !strings.HasPrefix(f.Header(), "seq,time,event,") {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestCell(t *testing.T) {
	for in, want := range map[string]string{
		"":                 ``,
		"plain":            `plain`,
		"two words":        `"two words"`,
		"=1+1":             `'=1+1`,
		" =1":              `" '=1"`,
		"-1":               `'-1`,
		"a-b@c.d":          `a-b@c.d`,
		"a,b":              `"a,b"`,
		"a,=b":             `"a,'=b"`,
		"a; +b":            `"a; '+b"`,
		`say "@x"`:         `"say ""'@x"""`,
		"\t=1":             `\u0009=1`,
		"a\nb":             `a\u000ab`,
		`\`:                `\\`,
		"＝1":               `'＝1`,
		"=cmd|'/c x'!A1":   `"'=cmd|'/c x'!A1"`,
		"/path?a=1&b=-2":   `/path?a=1&b=-2`,
		"2001:db8::1":      `2001:db8::1`,
		"\u202etxt":        `\u202etxt`,
		"'quoted' already": `"'quoted' already"`,
	} {
		if got := string(cell(nil, in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	r := find(b, audit.WSMessage, "drop")
	for _, name := range Names() {
		f, err := New(name, "1.0")
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = f.Append(buf[:0], r)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}
