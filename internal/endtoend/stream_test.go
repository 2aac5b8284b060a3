package endtoend

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// TestStream: with oversize = "stream", what is over limits.hold passes in parts,
// whole and in order, compressed or not, and a rule that is against it ends the
// WebSocket before it is complete.
func TestStream(t *testing.T) {
	s := newSite(t, settings{
		policy: rule("needle", "needle", "close") + rule("noted", "noted", "log"),
		limits: "hold = \"1KiB\"\noversize = \"stream\"",
	})
	g := s.start(t)
	var lines strings.Builder
	for i := range 400 {
		fmt.Fprintf(&lines, "line %d of a long message;", i)
	}
	long := lines.String() // over 10 KB
	burst := []string{long, "short", clients.Binary(long + "\xff"), "noted: " + long, "last"}
	for _, c := range realClients {
		for name, answer := range map[string]string{"takeover": "permessage-deflate", "plain": ""} {
			t.Run(c.name+" "+name, func(t *testing.T) {
				path := "/stream/" + c.name + "/" + name
				g.origin.Handle(path, origin.Deflate)
				target := path + "?answer=" + url.QueryEscape(answer)
				report, err := c.run(g.site, soon(t), g.machine(t), clients.Job{URL: "wss://v4." + chatHost + target, Burst: burst})
				if err != nil {
					t.Fatal(err)
				}
				if failed := report.Failed(); len(failed) > 0 || !slices.Equal(report.Heard, burst) {
					t.Errorf("%q: heard %.100q", failed, report.Heard)
				}
				l := g.log.ofPath(t, path)
				sum := fmt.Sprintf("%x", sha256.Sum256([]byte("noted: "+long)))
				for _, dir := range []string{"to-server", "to-client"} {
					found := 0
					for _, r := range l.messages(dir) {
						if r.SHA256 == sum {
							found++
							if r.Size != int64(len(long)+7) || r.Action != "log" || !slices.Equal(r.Rules, []string{"noted"}) {
								t.Errorf("recorded %s", r)
							}
						}
					}
					if found != 1 {
						t.Errorf("%s: %d records of the message that is noted", dir, found)
					}
				}
				l.ended(t, audit.StateInspected)

				path += "/refused"
				g.origin.Handle(path, origin.Deflate)
				target = path + "?answer=" + url.QueryEscape(answer)
				report, err = c.run(g.site, soon(t), g.machine(t), clients.Job{URL: "wss://v6." + chatHost + target, Burst: []string{"first"}, End: long + "needle" + long})
				if err != nil {
					t.Fatal(err)
				}
				if report.Close == nil || report.Close.Code != 1008 {
					t.Errorf("close %+v of %+v", report.Close, report)
				}
				l = g.log.ofPath(t, path)
				l.ended(t, audit.StateBlocked, "needle")
				for _, m := range g.serverSide(t, target).Received() {
					if strings.Contains(fmt.Sprint(m), "needle") {
						t.Error("it has arrived")
					}
				}
			})
		}
	}
}
