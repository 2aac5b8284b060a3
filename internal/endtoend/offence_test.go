package endtoend

import (
	"io"
	"net/url"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
)

// testOffence: a client that breaks the protocol gets the code, the origin 1001.
func testOffence(t *testing.T, g *gateway) {
	for name, tt := range map[string]struct {
		sent, evidence string
		code           int
	}{
		"not masked": {"\x81\x02hi", "8102", 1002},
		"not UTF-8":  {string(masked(true, frames.Text, "\xc3\x28")), "8182", 1007},
		"too big":    {string(masked(true, frames.Binary, strings.Repeat("x", 1<<20+1))), "82ff", 1009},
	} {
		for i, network := range families {
			t.Run(name+" "+network, func(t *testing.T) {
				c := g.either(t, i == 0, network, chatHost)
				target := "/echo?offence=" + url.QueryEscape(name) + network
				if _, err := c.Upgrade(clients.OddHead(chatHost, target)); err != nil {
					t.Fatal(err)
				}
				c.Write(masked(true, frames.Text, "before"))
				io.WriteString(c, tt.sent)
				_, payload, err := c.Frame()
				if string(payload) == "before" { // or the Close was faster
					_, payload, err = c.Frame()
				}
				if err != nil || len(payload) < 2 || int(payload[0])<<8+int(payload[1]) != tt.code {
					t.Errorf("the client gets %q (%v), expected Close %d", payload, err, tt.code)
				}
				c.Close()
				server := g.serverSide(t, target)
				finished(t, server)
				got := framesOf(t, server.Received())
				if len(got) != 2 || string(got[0].payload) != "before" || got[1].Opcode != frames.Close || string(got[1].payload) != "\x03\xe9" {
					t.Errorf("the server gets %+v", got)
				}
				l := g.log.of(t, c.LocalAddr())
				if r := l.one(t, audit.WSViolation); r.Code != tt.code || r.Dir != "to-server" || !strings.HasPrefix(r.Evidence, tt.evidence) {
					t.Errorf("ws.violation: %s", r)
				}
				l.ended(t, audit.StateFailed)
			})
		}
	}
}
