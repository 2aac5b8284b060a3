package endtoend

import (
	"context"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// Parts of texts that a rule takes away together with the first text that has
// them. A compressor that keeps its window refers back to them ever after.
const (
	lostThere = " an order of 1200 pieces of part 77-4431/b, to be delivered to gate 9 by Thursday"
	lostBack  = " a quote of 98.50 for each of them, less the rebate of a customer of long standing"
)

// burst is said with nothing waiting for anything.
var burst = []string{
	`{"type":"ticker","sequence":1,"product":"BTC-USD","price":"6000.01"}`,
	`{"type":"ticker","sequence":2,"product":"BTC-USD","price":"6000.02"}`,
	"drop this:" + lostThere,
	"there was" + lostThere,
	"",
	"lose this coming back:" + lostBack,
	"there was" + lostBack,
	strings.Repeat(lostThere+lostBack, 300),
	`{"type":"ticker","sequence":3,"product":"BTC-USD","price":"6000.03"}`,
	"the last, with" + lostThere + " and" + lostBack,
}

// without returns the texts that do not begin with prefix.
func without(texts []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return strings.HasPrefix(s, prefix) })
}

// A deflatePeer is a server that compresses.
type deflatePeer struct {
	name, host     string
	answer         string          // of the origin: the parameters
	real           *clients.Server // nil for the origin
	end, rule      string          // what ends the connection and why; empty for a Close of the client
	client, server clients.Closing // how the two see the end
}

// realServers are somebody else's WebSocket servers, which run as long as the
// test that started them.
type realServers struct{ node, python *clients.Server }

func startRealServers(t *testing.T, g *gateway) realServers {
	t.Helper()
	certificate, key, err := g.pki.IssuePEM(origin.Leaf{Names: []string{"v4." + nodeHost, "v6." + pythonHost}})
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "peer.pem", string(certificate))
	g.write(t, "peer.key", string(key))
	machine := clients.Host{Home: t.TempDir(), Command: func(ctx context.Context, name string, args ...string) *exec.Cmd {
		return g.Command(ctx, lab.Server, name, args...)
	}}
	start := func(host string, server func(context.Context, clients.ServerOptions) (*clients.Server, error)) *clients.Server {
		o := clients.ServerOptions{Port: 443, Certificate: g.path("peer.pem"), Key: g.path("peer.key")}
		for _, a := range g.Lookup(host) {
			o.Addresses = append(o.Addresses, a.String())
		}
		s, err := server(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	return realServers{start(nodeHost, machine.NodeServer), start(pythonHost, machine.PythonServer)}
}

func deflatePeers(real realServers) []deflatePeer {
	done := clients.Closing{Code: 1000, Reason: "done"}
	return []deflatePeer{
		{name: "takeover", host: "v4." + chatHost, client: done},
		{name: "bits", host: "v6." + chatHost, answer: "; server_max_window_bits=9; client_max_window_bits=10", client: done},
		{name: "none", host: "v6." + chatHost, answer: noTakeover, client: done},
		{
			name: "node", host: "v4." + nodeHost, real: real.node, end: "close this", rule: "end",
			client: clients.Closing{Code: 1008, Reason: "not allowed here"}, server: clients.Closing{Code: 1001},
		},
		{
			name: "python", host: "v6." + pythonHost, real: real.python, end: "end this coming back", rule: "end-back",
			client: clients.Closing{Code: 1001}, server: clients.Closing{Code: 1008, Reason: "not allowed back"},
		},
	}
}

// noTakeover are the parameters without which there is context takeover.
const noTakeover = "; server_no_context_takeover; client_no_context_takeover"

// testDeflate: real clients compress all that they say to real servers and to
// the origin, and the other way round. It is judged and recorded by what it
// says, and what comes after a message that was dropped can be read.
func testDeflate(t *testing.T, g *gateway, real realServers) {
	for _, p := range deflatePeers(real) {
		for _, c := range realClients {
			t.Run(c.name+" "+p.name, func(t *testing.T) {
				path := "/deflate/" + p.name + "/" + c.name
				g.origin.Handle(path, origin.Deflate)
				target := path + "?answer=" + url.QueryEscape("permessage-deflate"+p.answer)
				report, err := c.run(g.site, soon(t), g.machine(t), clients.Job{URL: "wss://" + p.host + target, Burst: burst, End: p.end})
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(report.Extensions, "permessage-deflate") || report.Close == nil || *report.Close != p.client || report.Error != "" {
					t.Fatalf("%+v, close %+v, expected %+v", report, report.Close, p.client)
				}
				report.Close = &clients.Closing{Code: 1000} // the rest is as with any other end
				if failed := report.Failed(); len(failed) > 0 {
					t.Errorf("%q of %+v", failed, report)
				}
				reached := without(burst, "drop this")
				if heard := without(reached, "lose this"); !slices.Equal(report.Heard, heard) {
					t.Errorf("the client heard %q, expected %q", report.Heard, heard)
				}

				there, back := slices.Clone(burst), slices.Clone(reached)
				if p.end != "" {
					there = append(there, p.end)
				}
				if strings.Contains(p.end, "coming back") {
					reached, back = append(reached, p.end), append(back, p.end)
				}
				answers := work(c.name, back)
				for i := range answers {
					if p.real != nil {
						answers[i].parts = 1 // these servers do not fragment
					}
				}
				l := g.log.ofPath(t, path)
				checkDeflated(t, l, work(c.name, there), answers)
				if p.rule == "" {
					l.ended(t, audit.StateInspected)
				} else {
					l.ended(t, audit.StateBlocked, p.rule)
				}
				if p.real == nil {
					server := g.serverSide(t, target)
					finished(t, server)
					checkAfterDrop(t, framesOf(t, server.Received()), p.answer != noTakeover)
					return
				}
				served, err := p.real.Wait(soon(t), target)
				if err != nil {
					t.Fatal(err)
				}
				var heard []string
				for _, m := range work(c.name, reached) {
					heard = append(heard, digest(m.payload))
				}
				if !slices.Equal(served.Heard, heard) || served.Close == nil || *served.Close != p.server || served.Error != "" || served.Extensions == "" {
					t.Errorf("served %+v, close %+v", served, served.Close)
				}
			})
		}
	}
}

// checkDeflated checks the records of a connection on which all was compressed.
func checkDeflated(t *testing.T, l ledger, there, back []said) {
	t.Helper()
	compareMessages(t, l.messages("to-server"), there)
	compareMessages(t, l.messages("to-client"), back)
	for _, r := range l.all(audit.WSMessage) {
		if !r.Compressed {
			t.Errorf("not compressed: %s", r)
		}
	}
}

// checkAfterDrop: the messages after a drop are not compressed if those before
// them would be needed to read them, and as they were otherwise.
func checkAfterDrop(t *testing.T, got []frame, takeover bool) {
	t.Helper()
	plain := 0 // messages
	for _, f := range got {
		if f.Opcode != frames.Text && f.Opcode != frames.Binary {
			continue
		}
		switch {
		case f.RSV == 0:
			if after := burst[3:]; !takeover || plain == len(after) || string(f.payload) != after[plain] {
				t.Errorf("not compressed: %.60q", f.payload)
			}
			plain++
		case plain > 0:
			t.Errorf("compressed after the drop: %x", f.payload)
		}
	}
	if want := len(burst[3:]); takeover && plain != want {
		t.Errorf("%d messages left inflated, expected %d", plain, want)
	}
}
