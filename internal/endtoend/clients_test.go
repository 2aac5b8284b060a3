package endtoend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// A realClient is somebody else's WebSocket client.
type realClient struct {
	name string
	run  func(s *site, ctx context.Context, h clients.Host, job clients.Job) (clients.Report, error)
}

var realClients = []realClient{
	{"node", func(_ *site, ctx context.Context, h clients.Host, job clients.Job) (clients.Report, error) {
		return h.Node(ctx, job)
	}},
	{"python", func(_ *site, ctx context.Context, h clients.Host, job clients.Job) (clients.Report, error) {
		return h.Python(ctx, job)
	}},
	{"chromium", func(s *site, ctx context.Context, h clients.Host, job clients.Job) (clients.Report, error) {
		u, err := url.Parse(job.URL)
		if err != nil {
			return clients.Report{}, err
		}
		host := u.Host
		if strings.HasSuffix(host, nodeHost) || strings.HasSuffix(host, pythonHost) {
			host = chatHost // they have no pages
		}
		// A page of https may not open ws.
		page := map[string]string{"wss": "https://", "ws": "http://"}[u.Scheme] + host
		return h.Chromium(ctx, page, s.origin, job)
	}},
}

// A said is one message of a real client as it must be in the log.
type said struct {
	opcode, payload string
	parts           int // least number of frames
}

// work is what the scripts of a client send, each of which comes back.
func work(client string, say []string) []said {
	list := []said{{"text", "text with ümlauts, 世界 and 😀", 1}}
	var all, big []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	switch client {
	case "node":
		big = bytes.Repeat([]byte("70 KB "), 70*1024/6+1)[:70*1024]
	case "python":
		big = bytes.Repeat([]byte("70 KB "), 70*1024/6)
	case "chromium":
		for i := range 70 * 1024 {
			big = append(big, byte(i%251))
		}
	}
	list = append(list, said{"binary", string(all), 1}, said{"binary", string(big), 1})
	if client != "chromium" { // a page can neither fragment nor ping
		list = append(list, said{"text", "fragmented", 3})
	}
	for _, text := range say {
		list = append(list, said{"text", text, 1})
	}
	return list
}

func digest(payload string) string {
	sum := sha256.Sum256([]byte(payload))
	return hex.EncodeToString(sum[:])
}

// compareMessages compares records of messages with what was said.
func compareMessages(t *testing.T, got ledger, want []said) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d messages, expected %d:\n%s", len(got), len(want), lines(got))
		return
	}
	for i, r := range got {
		w := want[i]
		if r.Opcode != w.opcode || r.Size != int64(len(w.payload)) || r.SHA256 != digest(w.payload) || r.Frames < w.parts || r.WireSize < r.Size+2 && !r.Compressed {
			t.Errorf("expected %s of %d bytes in %d frames or more, got %s", w.opcode, len(w.payload), w.parts, r)
		}
	}
}

// testClients: real clients, which trust framegate's root alone, get all that
// they ask for, and the log has all that they said.
func testClients(t *testing.T, g *gateway) {
	say := []string{"one", "two"}
	for _, c := range realClients {
		for _, scheme := range []string{"wss", "ws"} {
			for _, family := range []string{"v4", "v6"} {
				t.Run(c.name+" "+scheme+" "+family, func(t *testing.T) {
					t.Parallel()
					host, path := family+"."+chatHost, strings.Join([]string{"/echo", c.name, scheme, family}, "/")
					g.origin.Handle(path, origin.Echo)
					report, err := c.run(g.site, soon(t), g.machine(t), clients.Job{URL: scheme + "://" + host + path, Say: say, Protocols: []string{"lab.v1"}})
					if err != nil {
						t.Fatal(err)
					}
					if failed := report.Failed(); len(failed) > 0 || report.Protocol != "lab.v1" {
						t.Errorf("%q of %+v", failed, report)
					}
					checkClient(t, g, c.name, scheme, host, path, say)
				})
			}
		}
	}
}

func checkClient(t *testing.T, g *gateway, client, scheme, host, path string, say []string) {
	t.Helper()
	l := g.log.ofPath(t, path)
	compareMessages(t, l.messages("to-server"), work(client, say))
	compareMessages(t, l.messages("to-client"), work(client, say))
	port, sni := uint16(443), host
	if scheme == "ws" {
		port, sni = 80, ""
	}
	open := l.one(t, audit.WSOpen)
	if dst := netip.AddrPortFrom(g.Lookup(host)[0], port); open.Server != dst.String() {
		t.Errorf("original destination %s, expected %s", open.Server, dst)
	}
	if open.Host != host || open.SNI != sni || open.Subprotocol != "lab.v1" || open.Path != path {
		t.Errorf("ws.open: %s", open)
	}
	if end := l.one(t, audit.WSClose); end.Code != 1000 || end.Reason != "done" || end.Dir != "to-server" {
		t.Errorf("ws.close: %s", end)
	}
	l.ended(t, audit.StateInspected)

	control := map[string]string{"to-server close": digest("\x03\xe8done"), "to-client close": digest("\x03\xe8done")}
	if client != "chromium" {
		control["to-server ping"], control["to-client pong"] = digest("are you there"), digest("are you there")
	}
	for _, r := range l.all(audit.WSControl) {
		if kind := r.Dir + " " + r.Opcode; r.SHA256 != control[kind] {
			t.Errorf("control frame: %s", r)
		} else {
			delete(control, kind)
		}
	}
	if len(control) > 0 {
		t.Errorf("control frames that are not in the log: %v", control)
	}

	checkSource(t, g, g.serverSide(t, path), open.Client)
	if client == "chromium" {
		page := slices.ContainsFunc(g.log.all(t), func(r record) bool {
			return r.Event == audit.HTTPRequest && r.Host == host && r.Path == "/page" && r.Method == "GET" && r.Code == 200 && r.SNI == sni
		})
		if !page {
			t.Errorf("the page of %s is not in the log", host)
		}
	}
}

// testActions: log, drop and close, as real clients and the origin see them.
func testActions(t *testing.T, g *gateway) {
	say := []string{"note this", "drop this", "close this"}
	for i, c := range realClients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			host, path := []string{"v4.", "v6."}[i%2]+chatHost, "/action/"+c.name
			g.origin.Handle(path, origin.Echo)
			report, err := c.run(g.site, soon(t), g.machine(t), clients.Job{URL: "wss://" + host + path, Say: say})
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(report.Said) != "[true false false]" || report.Close == nil || *report.Close != (clients.Closing{Code: 1008, Reason: "not allowed here"}) {
				t.Errorf("%+v, close %+v", report, report.Close)
			}
			l := g.log.ofPath(t, path)
			compareMessages(t, l.messages("to-server"), work(c.name, say))
			compareMessages(t, l.messages("to-client"), work(c.name, say[:1]))
			for id, action := range map[string]string{"note": "log", "loss": "drop", "end": "close"} {
				for _, r := range l.all(audit.WSMessage) {
					if slices.Contains(r.Rules, id) != (r.Action == action) {
						t.Errorf("rule %s, action %s: %s", id, action, r)
					}
				}
			}
			if r := l.one(t, audit.WSClose); r.Code != 1008 || r.Reason != "not allowed here" || r.Action != "close" || r.Dir != "to-server" {
				t.Errorf("ws.close: %s", r)
			}
			l.ended(t, audit.StateBlocked, "end")

			server := g.serverSide(t, path)
			finished(t, server)
			got := framesOf(t, server.Received())
			for _, f := range got {
				if bytes.Contains(f.payload, []byte("drop this")) || bytes.Contains(f.payload, []byte("close this")) {
					t.Errorf("the origin received %q", f.payload)
				}
			}
			if last := got[len(got)-1]; last.Opcode != frames.Close || string(last.payload) != "\x03\xe9" || !last.Masked {
				t.Errorf("last to the origin: %+v", last)
			}
		})
	}
}
