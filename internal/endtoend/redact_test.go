package endtoend

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
	"framegate/internal/lab/wire"
)

// redactRules are a part of sharedPolicy.
const redactRules = `
[[rule]]
id     = "mask"
action = "redact"
scope  = { direction = "to-server" }
match  = { regex = ['key-there-\d{4}', '\b471147\d{4}\b'] }

[[rule]]
id      = "rename"
action  = "redact"
replace = '"N. N." \o/'
scope   = { direction = "to-server" }
match   = { contains = ["Kim There"] }

[[rule]]
id     = "mask-back"
action = "redact"
scope  = { direction = "to-client" }
match  = { regex = ['key-back-\d{4}', '\b882288\d{4}\b'] }

[[rule]]
id      = "rename-back"
action  = "redact"
replace = "世界 [a\tguest]"
scope   = { direction = "to-client" }
match   = { contains = ["Ann Back"] }

[[rule]]
id     = "stop"
action = "close"
code   = 4010
reason = "stop that"
scope  = { direction = "to-server" }
match  = { contains = ["stop there"] }

[[rule]]
id     = "stop-back"
action = "close"
code   = 4011
reason = "stop that, too"
scope  = { direction = "to-client" }
match  = { contains = ["stop back"] }
`

// A passage is a message on its way to a server and back.
type passage struct {
	binary      bool
	sent        string
	there, back string // the rules that redact it, separated by spaces
	reached     string // what the server gets; empty: what was sent
	heard       string // what the client gets back; empty: what reached the server
}

// passages are said with nothing waiting for anything. Parts of a text that is
// redacted come again after it: a compressor that keeps its window refers back
// to them.
var passages = []passage{
	{sent: `{"type":"ticker","sequence":1,"product":"BTC-USD","price":"6000.01"}`},
	{sent: `{"order":"key-there-1234","for":"` + lostThere + `"}`, there: "mask",
		reached: `{"order":"**************","for":"` + lostThere + `"}`},
	{sent: "there was" + lostThere},
	{sent: ""},
	{sent: `{"who":"Kim There","says":"\"Kim There\"\n","account":4711471234}`, there: "mask rename",
		reached: `{"who":"\"N. N.\" \\o/","says":"\"\"N. N.\" \\o/\"\n","account":1111111111}`},
	{sent: "Kim There has key-there-9999, Kim has none", there: "mask rename",
		reached: `"N. N." \o/ has **************, Kim has none`},
	{binary: true, sent: "\x00\xffkey-there-0000\xfe" + lostThere + "Kim There\x00", there: "mask rename",
		reached: "\x00\xff**************\xfe" + lostThere + `"N. N." \o/` + "\x00"},
	{binary: true, sent: "\x00\xffno key at all\xfe" + lostThere},

	{sent: `{"quote":"key-back-1234","for":"` + lostBack + `"}`, back: "mask-back",
		heard: `{"quote":"*************","for":"` + lostBack + `"}`},
	{sent: "there was" + lostBack},
	{sent: `{"who":["Ann Back","Ann Back"],"account":-8822881234.5}`, back: "mask-back rename-back",
		heard: `{"who":["世界 [a\tguest]","世界 [a\tguest]"],"account":-1111111111.5}`},
	{sent: "Ann Back has key-back-9999, Ann has none", back: "mask-back rename-back",
		heard: "世界 [a\tguest] has *************, Ann has none"},
	{binary: true, sent: "\x00\xffkey-back-0000\xfe" + lostBack + "Ann Back\x00", back: "mask-back rename-back",
		heard: "\x00\xff*************\xfe" + lostBack + "世界 [a\tguest]\x00"},
	{binary: true, sent: `{"who":"Kim There","to":"Ann Back","for":"` + lostBack + `"}`, there: "rename", back: "rename-back",
		reached: `{"who":"\"N. N.\" \\o/","to":"Ann Back","for":"` + lostBack + `"}`,
		heard:   `{"who":"\"N. N.\" \\o/","to":"世界 [a\tguest]","for":"` + lostBack + `"}`},

	// Longer than 16 bits can say.
	{sent: strings.Repeat("from key-there-1234 to key-back-1234"+lostThere, 600), there: "mask", back: "mask-back",
		reached: strings.Repeat("from ************** to key-back-1234"+lostThere, 600),
		heard:   strings.Repeat("from ************** to *************"+lostThere, 600)},
	{sent: `{"type":"ticker","sequence":2,"product":"BTC-USD","price":"6000.02"}`},
	{sent: "the last, with" + lostThere + " and" + lostBack},
}

// atServer and atClient are what the rules leave.
func (p passage) atServer() string { return cmp.Or(p.reached, p.sent) }
func (p passage) atClient() string { return cmp.Or(p.heard, p.reached, p.sent) }

// said is what a record calls the message.
func (p passage) said(payload string) said {
	if p.binary {
		return said{"binary", payload, 1}
	}
	return said{"text", payload, 1}
}

// quoted is what a job and a report call it.
func (p passage) quoted(payload string) string {
	if p.binary {
		return clients.Binary(payload)
	}
	return payload
}

// testRedact: real clients, real servers and the origin get what the rules leave
// of each message, and all others as they were said, with context takeover,
// without it and without compression. Then a rule closes on the client or on the
// server.
func testRedact(t *testing.T, g *gateway, real realServers) {
	for i, mode := range []string{"takeover", "no-takeover", "plain"} {
		for j, c := range realClients {
			// Chromium's offer is always the same, so the server has to decide.
			servers := map[string][]string{"node": {"origin", "python"}, "python": {"origin", "node"}, "chromium": {"origin"}}[c.name]
			for k, server := range servers {
				t.Run(strings.Join([]string{mode, c.name, server}, " "), func(t *testing.T) {
					r := redaction{mode: mode, client: c, host: []string{"v4.", "v6."}[j%2] + chatHost, back: (i+j+k)%2 == 1}
					switch server {
					case "node":
						r.host, r.server = "v4."+nodeHost, real.node
					case "python":
						r.host, r.server = "v6."+pythonHost, real.python
					}
					r.test(t, g)
				})
			}
		}
	}
}

// A redaction is one connection of testRedact.
type redaction struct {
	mode   string
	client realClient
	host   string
	server *clients.Server // nil for the origin
	back   bool            // the server, not the client, says what closes
}

func (r *redaction) test(t *testing.T, g *gateway) {
	path := strings.Join([]string{"/redact", r.mode, r.client.name, r.host}, "/")
	job, target := clients.Job{End: "stop there"}, path
	g.origin.Handle(path, origin.Deflate)
	switch r.mode {
	case "no-takeover":
		target += "?answer=" + url.QueryEscape("permessage-deflate"+noTakeover)
		job.Offer = clients.OfferEach
	case "plain":
		g.origin.Handle(path, origin.Echo)
		job.Offer = clients.OfferNone
	}
	job.URL = "wss://" + r.host + target
	rule, offence := "stop", clients.Closing{Code: 4010, Reason: "stop that"}
	atClient, atServer := offence, clients.Closing{Code: 1001}
	if r.back {
		job.End = "stop back"
		rule, offence = "stop-back", clients.Closing{Code: 4011, Reason: "stop that, too"}
		atClient, atServer = clients.Closing{Code: 1001}, offence
	}
	there, reached := work(r.client.name, nil), work(r.client.name, nil)
	usual := len(there)
	var heard []string
	for _, p := range passages {
		job.Burst = append(job.Burst, p.quoted(p.sent))
		there, reached = append(there, p.said(p.sent)), append(reached, p.said(p.atServer()))
		heard = append(heard, p.quoted(p.atClient()))
	}
	there = append(there, said{"text", job.End, 1})
	if r.back {
		reached = append(reached, said{"text", job.End, 1})
	}

	report, err := r.client.run(g.site, soon(t), g.machine(t), job)
	if err != nil {
		t.Fatal(err)
	}
	if report.Close == nil || *report.Close != atClient || (report.Extensions != "") != (r.mode != "plain") {
		t.Fatalf("%+v, close %+v, expected %+v", report, report.Close, atClient)
	}
	report.Close = &clients.Closing{Code: 1000} // the rest is as with any other end
	if failed := report.Failed(); len(failed) > 0 {
		t.Errorf("%q of %+v", failed, report)
	}
	if !slices.Equal(report.Heard, heard) {
		t.Errorf("the client heard\n%.200q\nexpected\n%.200q", report.Heard, heard)
	}

	if r.server != nil {
		served, err := r.server.Wait(soon(t), target)
		if err != nil {
			t.Fatal(err)
		}
		var digests []string
		for _, m := range reached {
			digests = append(digests, digest(m.payload))
		}
		if !slices.Equal(served.Heard, digests) || served.Close == nil || *served.Close != atServer || served.Error != "" {
			t.Errorf("served %+v, close %+v, expected %+v and %q", served, served.Close, atServer, digests)
		}
		// Not all of these libraries tell the parameters.
		agreed := report.Extensions + served.Extensions
		if each := strings.Contains(agreed, noTakeover[2:]); each != (r.mode == "no-takeover") {
			t.Errorf("agreed on %q", agreed)
		}
		for i := range reached {
			reached[i].parts = 1 // these servers do not fragment
		}
	} else {
		server := g.serverSide(t, target)
		finished(t, server)
		r.checkReached(t, framesOf(t, server.Received()), reached, usual, atServer)
	}

	l := g.log.ofPath(t, path)
	compareMessages(t, l.messages("to-server"), there)
	compareMessages(t, l.messages("to-client"), reached)
	r.checkRecords(t, l, usual)
	if end := l.one(t, audit.WSClose); end.Action != "close" || end.Code != offence.Code || end.Reason != offence.Reason || (end.Dir == "to-client") != r.back {
		t.Errorf("ws.close: %s", end)
	}
	l.ended(t, audit.StateBlocked, rule)
}

// checkReached: a message that was redacted is one frame of its own that is not
// compressed, and so are all that follow it if they would need it to be read.
// The others are as the client sent them. The first usual ones are no passages.
func (r *redaction) checkReached(t *testing.T, got []frame, want []said, usual int, end clients.Closing) {
	t.Helper()
	in := wire.Inflater{NoTakeover: r.mode == "no-takeover"}
	masks := make(map[[4]byte]bool)
	var messages []said
	var compressed, redacted bool
	for _, f := range got {
		if !f.Masked || masks[f.Mask] {
			t.Errorf("masked %v, with %x", f.Masked, f.Mask)
		}
		masks[f.Mask] = true
		switch f.Opcode {
		case frames.Close:
			code, reason, err := frames.ParseClose(f.payload)
			if err != nil || (clients.Closing{Code: int(code), Reason: reason}) != end {
				t.Errorf("the origin got Close %d %q (%v), expected %+v", code, reason, err, end)
			}
			continue
		case frames.Text, frames.Binary:
			messages = append(messages, said{opcode: f.Opcode.String()})
			compressed = f.RSV != 0
			edit := false
			if i := len(messages) - 1 - usual; i >= 0 && i < len(passages) {
				edit = passages[i].there != ""
			}
			redacted = redacted || edit
			if plain := r.mode == "plain" || edit || redacted && r.mode == "takeover"; compressed == plain || edit && !f.Fin {
				t.Errorf("message %d: compressed %v, whole %v", len(messages), compressed, f.Fin)
			}
		case frames.Continuation:
		default:
			continue
		}
		m := &messages[len(messages)-1]
		m.parts++
		m.payload += string(f.payload)
		if f.Fin && compressed {
			payload, err := in.Inflate([]byte(m.payload))
			if err != nil {
				t.Fatalf("message %d: %v", len(messages), err)
			}
			m.payload = string(payload)
		}
	}
	if got[len(got)-1].Opcode != frames.Close || len(messages) != len(want) {
		t.Fatalf("%d messages, expected %d; the last frame is %v", len(messages), len(want), got[len(got)-1].Opcode)
	}
	for i, m := range messages {
		if m.opcode != want[i].opcode || m.payload != want[i].payload || m.parts < want[i].parts {
			t.Errorf("message %d: %s %.200q, expected %s %.200q", i, m.opcode, m.payload, want[i].opcode, want[i].payload)
		}
	}
}

// checkRecords checks what was done with each message, and why.
func (r *redaction) checkRecords(t *testing.T, l ledger, usual int) {
	t.Helper()
	for _, m := range l.all(audit.WSMessage) {
		if m.Compressed != (r.mode != "plain") {
			t.Errorf("compressed: %s", m)
		}
	}
	for dir, rules := range map[string]func(passage) string{
		"to-server": func(p passage) string { return p.there },
		"to-client": func(p passage) string { return p.back },
	} {
		list := l.messages(dir)
		for i, p := range passages {
			action := "allow"
			if rules(p) != "" {
				action = "redact"
			}
			if m := list[usual+i]; m.Action != action || strings.Join(m.Rules, " ") != rules(p) {
				t.Errorf("expected %s by %q: %s", action, rules(p), m)
			}
		}
	}
}
