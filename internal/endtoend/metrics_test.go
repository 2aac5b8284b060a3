package endtoend

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
)

const adminURL = "http://127.0.0.1:9470"

// curl asks the admin port from the machine that the gateway is on, and returns
// the status and what comes.
func (g *gateway) curl(t *testing.T, args ...string) (status, body string) {
	t.Helper()
	args = append([]string{"-sS", "--noproxy", "*", "-w", "\n%{http_code}"}, args...)
	out, err := g.Command(soon(t), lab.Gateway, "curl", args...).Output()
	if err != nil {
		t.Fatalf("curl %v: %v", args, err)
	}
	body, status = string(out), ""
	if i := strings.LastIndexByte(body, '\n'); i >= 0 {
		body, status = body[:i], body[i+1:]
	}
	return status, body
}

// series are the samples of a scrape.
type series map[string]float64

func (g *gateway) scrape(t *testing.T) (series, string) {
	t.Helper()
	status, body := g.curl(t, adminURL+"/metrics")
	if status != "200" {
		t.Fatalf("/metrics: %s %s", status, body)
	}
	s := series{}
	for line := range strings.Lines(body) {
		i := strings.LastIndexByte(line, ' ')
		if v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64); err == nil && line[0] != '#' {
			s[line[:i]] = v
		}
	}
	return s, body
}

// sum adds up the samples of a metric that have all of the labels.
func (s series) sum(name string, labels ...string) (total int64) {
	for id, v := range s {
		if rest, ok := strings.CutPrefix(id, name); ok && (rest == "" || rest[0] == '{') && containsAll(rest, labels) {
			total += int64(v)
		}
	}
	return total
}

// TestMetrics: after traffic of every kind the metrics of a gateway are what its
// log says, promtool likes them, and they tell no names.
func TestMetrics(t *testing.T) {
	s := newSite(t, settings{drain: "1m", policy: rule("note", "alpha", "log") + rule("cut", "omega", "drop") +
		"[[connection]]\nid = \"bank\"\nhost = [\"" + bankHost + "\"]\ndecision = \"bypass\"\n" +
		"[[connection]]\nid = \"no\"\nhost = [\"" + blockedHost + "\"]\ndecision = \"block\"\n"})
	g := s.start(t)
	for i := range 10 {
		c := s.either(t, i%2 == 0, families[i/2%2], chatHost)
		if _, err := c.Upgrade(clients.OddHead(chatHost, fmt.Sprint("/echo?metrics", i))); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"alpha", "omega", "plain", strings.Repeat("long ", 5000)} {
			c.Send(true, frames.Text, []byte(text))
		}
		c.Send(false, frames.Text, []byte("in "))
		c.Send(true, frames.Ping, nil)
		c.Send(true, frames.Continuation, []byte("parts"))
		if _, err := c.Bye(1000, ""); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	bank := s.dial(t, "tcp4", bankHost, 443, clients.Trust(s.pki.Roots(), bankHost))
	fmt.Fprintf(bank, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", bankHost)
	bank.Rest()
	bank.Close()
	for _, host := range []string{blockedHost, expiredHost, selfHost} {
		c, err := clients.DialRaw(soon(t), clients.RawOptions{
			Dial: s.dialer(), Network: "tcp6", Address: s.address(t, "tcp6", host, 443).String(), TLS: clients.Trust(s.roots, host),
		})
		if err == nil {
			c.Close()
			t.Errorf("%s can be reached", host)
		}
	}
	s.write(t, "policy.toml", "[[rule]]\n")
	g.signal(t, syscall.SIGHUP)
	g.log.waitFor(t, audit.PolicyReject, 1)
	g.log.wait(t, "the end of all connections", func(list []record) bool {
		open, closed := 0, 0
		for _, r := range list {
			switch r.Event {
			case audit.ConnOpen:
				open++
			case audit.ConnClose:
				closed++
			}
		}
		return closed == 14 && open == closed
	})

	want := map[string]int64{}
	for _, r := range g.log.all(t) {
		switch r.Event {
		case audit.ConnClose:
			want["connections "+r.State]++
			for dir, n := range map[string]tally{"to-server": r.Totals.ToServer, "to-client": r.Totals.ToClient} {
				want["messages "+dir] += n.Messages
				want["bytes "+dir] += n.Bytes
			}
		case audit.WSMessage:
			want["messages "+r.Action+" "+r.Dir]++
		case audit.TLSFail:
			code, _, _ := strings.Cut(r.Reason, ":")
			want["verify "+code]++
		}
		for _, id := range r.Rules {
			if r.Event == audit.WSMessage || r.Event == audit.ConnClose {
				want["rule "+id]++
			}
		}
	}
	var x series
	var got map[string]int64
	var text string
	for end := soon(t); ; {
		x, text = g.scrape(t)
		got = map[string]int64{
			"verify expired": x.sum("framegate_tls_verify_failures_total", `"expired"`), "verify self-signed": x.sum("framegate_tls_verify_failures_total", `"self-signed"`),
		}
		for _, state := range []string{"inspected", "bypassed", "blocked", "failed"} {
			got["connections "+state] = x.sum("framegate_connections_closed_total", `"`+state+`"`)
		}
		for _, dir := range []string{"to-server", "to-client"} {
			got["messages "+dir] = x.sum("framegate_messages_total", dir)
			got["bytes "+dir] = x.sum("framegate_message_bytes_total", dir) + x.sum("framegate_uninspected_bytes_total", dir)
			for _, action := range []string{"allow", "log", "drop"} {
				got["messages "+action+" "+dir] = x.sum("framegate_messages_total", dir, `"`+action+`"`)
			}
		}
		for _, id := range []string{"note", "cut", "bank", "no"} {
			got["rule "+id] = x.sum("framegate_rule_hits_total", `"`+id+`"`)
		}
		maps.DeleteFunc(got, func(_ string, n int64) bool { return n == 0 })
		if maps.Equal(got, want) || end.Err() != nil {
			break
		}
		time.Sleep(20 * time.Millisecond) // the record of an end is written before it is counted
	}
	if !maps.Equal(got, want) {
		t.Errorf("metrics %v\nand the log %v", got, want)
	}
	for name, want := range map[string]int64{
		"framegate_connections": 0, "framegate_websockets": 0, "framegate_ready": 1, "framegate_audit_writable": 1, "framegate_audit_lost_total": 0,
	} {
		if n := x.sum(name); n != want {
			t.Errorf("%s: %d, expected %d", name, n, want)
		}
	}
	if n := x.sum("framegate_reloads_total", `"rejected"`, `"policy"`); n != 1 {
		t.Errorf("%d policies rejected", n)
	}
	if n, failed := x.sum("framegate_tls_handshakes_total", `"client"`), x.sum("framegate_tls_handshakes_total", `"server"`, `"failed"`); n != 5 || failed != 2 {
		t.Errorf("%d handshakes with clients, expected 5, and %d failed with servers, expected 2", n, failed)
	}
	if hold, inspect := x.sum("framegate_hold_duration_seconds_count"), x.sum("framegate_inspect_duration_seconds_count", "to-server"); inspect < 10 || hold > 20 {
		t.Errorf("%d batches and %d holds", inspect, hold)
	}
	for _, name := range []string{".test", "10.", "/echo"} {
		for id := range x {
			if strings.HasPrefix(id, "framegate_") && strings.Contains(id, name) && !strings.Contains(id, "le=") && !strings.Contains(id, "build_info") {
				t.Errorf("a scrape tells %s", id)
			}
		}
	}
	check := exec.Command("../../bin/promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool (make setup installs it): %v\n%s", err, out)
	}
	if status, _ := g.curl(t, "-H", "Host: gateway.evil.example", adminURL+"/metrics"); status != "403" {
		t.Errorf("a page whose name points here gets %s", status)
	}
	g.console.wait(t, "called by a name that is not its own", "gateway.evil.example")

	c := s.wss(t, "tcp4", chatHost) // keeps the gateway from its end
	if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?last")); err != nil {
		t.Fatal(err)
	}
	g.log.wait(t, "the last WebSocket", func(list []record) bool { return list[len(list)-1].Event == audit.WSOpen })
	if status, body := g.curl(t, adminURL+"/readyz"); status != "200" {
		t.Errorf("/readyz: %s %s", status, body)
	}
	g.signal(t, syscall.SIGTERM)
	g.console.wait(t, "draining")
	if status, body := g.curl(t, adminURL+"/readyz"); status != "503" || !strings.Contains(body, "draining") {
		t.Errorf("/readyz while draining: %s %s", status, body)
	}
	if status, body := g.curl(t, adminURL+"/healthz"); status != "200" || body != "ok\n" {
		t.Errorf("/healthz while draining: %s %q", status, body)
	}
	if x, _ := g.scrape(t); x.sum("framegate_ready") != 0 || x.sum("framegate_connections") != 1 || x.sum("framegate_websockets") != 1 {
		t.Errorf("while draining: ready %d, %d connections, %d WebSockets", x.sum("framegate_ready"), x.sum("framegate_connections"), x.sum("framegate_websockets"))
	}
	g.signal(t, syscall.SIGTERM)
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, g.console)
	}

	var stats audit.Stats
	if err := json.Unmarshal([]byte(s.framegate(t, "audit", "stats", "--json")), &stats); err != nil {
		t.Fatal(err)
	}
	if want, got := stats.ToServer, x; want.Messages != got.sum("framegate_messages_total", "to-server") || want.RecordedMessages != want.Messages || stats.Differing != 0 {
		t.Errorf("audit stats: %+v, and the metrics had %d messages", stats, got.sum("framegate_messages_total", "to-server"))
	}
}
