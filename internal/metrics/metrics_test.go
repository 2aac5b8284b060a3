package metrics

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/audit/ship"
	"framegate/ca"
	"framegate/mitm"
	"framegate/policy"
)

const (
	doc      = "../../docs/METRICS.md"
	examples = "../../examples/observability"
	promtool = "../../bin/promtool" // by internal/lab/setup.sh
)

// source is a gateway that has just been started.
func source(t *testing.T) Source {
	t.Helper()
	authority, err := ca.Create(filepath.Join(t.TempDir(), "ca"), ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse("p.toml", []byte("[[rule]]\nid = \"a-rule\"\naction = \"log\"\n[[rule]]\nid = \"on-trial\"\nmode = \"shadow\"\naction = \"log\"\n"+
		"[[connection]]\nid = \"bank\"\nhost = [\"bank.test\"]\ndecision = \"bypass\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	proxy := &mitm.Proxy{Policy: func() *policy.Policy { return p }, Stats: mitm.NewStats()}
	return Source{
		Build:   Build{"v1.2.3", "abc", "go1"},
		Traffic: proxy.Snapshot,
		Log: func() audit.Status {
			return audit.Status{Queued: 3, QueueSize: 1024, Written: 7, Lost: 2, Gaps: 1, Behind: 1500 * time.Millisecond, Checkpoint: time.Unix(1e9, 5e8)}
		},
		Targets: func() []ship.Status {
			return []ship.Status{{Target: "https://witness.corp.test/x", Failing: "dial tcp 192.0.2.7:443: refused", Failures: 4},
				{Target: "file:///mnt/worm/x", Sent: 5}, {Target: "syslog+tls://siem.corp.test:6514", Records: true, Lost: 6, Queued: 9}}
		},
		Policy:    func() *policy.Policy { return p },
		Authority: func() *ca.Authority { return authority },
		Gateway: func() Gateway {
			return Gateway{Ready: true, Connections: 100, Refused: map[string]int64{"memory": 1, "max_connections": 2, "client_rate": 3}, MemoryUsed: 10, MemoryLimit: 20, Rungs: map[string]int{"memory": 1},
				PolicyLoaded: time.Unix(1e9, 0), Reloads: []Reloads{{"policy", 1, 0, 2}, {"trust", 0, 1, 0}, {"authority", 0, 1, 0}}}
		},
	}
}

func scrape(t *testing.T, s Source) string {
	t.Helper()
	w := httptest.NewRecorder()
	NewHandler(s).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Fatalf("%d %v %v\n%s", w.Code, w.Header(), err, body)
	}
	return string(body)
}

func TestMetrics(t *testing.T) {
	out := scrape(t, source(t))
	for _, want := range []string{
		`framegate_build_info{commit="abc",goversion="go1",version="v1.2.3"} 1`,
		`framegate_ready 1`,
		`framegate_connections_closed_total{state="inspected"} 0`,
		`framegate_connections_refused_total{reason="max_connections"} 2`,
		`framegate_tls_handshakes_total{leg="client",outcome="resumed",version="1.3"} 0`,
		`framegate_tls_handshakes_total{leg="server",outcome="failed",version="none"} 0`,
		`framegate_tls_failures_total{reason="verification",side="server"} 0`,
		`framegate_tls_failures_total{reason="leaf",side="gateway"} 0`,
		`framegate_tls_verify_failures_total{code="no-staple"} 0`,
		`framegate_messages_total{action="redact",direction="to-client"} 0`,
		`framegate_uninspected_bytes_total{direction="to-server",state="opaque"} 0`,
		`framegate_rule_hits_total{mode="enforce",rule="a-rule"} 0`,
		`framegate_rule_hits_total{mode="shadow",rule="on-trial"} 0`,
		`framegate_rule_hits_total{mode="connection",rule="bank"} 0`,
		`framegate_inspect_duration_seconds_bucket{direction="to-server",le="5e-06"} 0`,
		`framegate_hold_duration_seconds_bucket{direction="to-client",le="+Inf"} 0`,
		`framegate_held_bytes 0`,
		`framegate_held_waits_total 0`,
		`framegate_policy_rules{mode="shadow"} 1`,
		`framegate_reloads_total{outcome="rejected",what="policy"} 2`,
		`framegate_ca_certificate_expiry_timestamp_seconds{certificate="root"}`,
		`framegate_audit_writable 1`,
		`framegate_audit_lag_seconds 1.5`,
		`framegate_audit_checkpoint_timestamp_seconds 1.0000000005e+09`,
		`framegate_ship_failing{kind="checkpoints",position="1"} 1`,
		`framegate_ship_failing{kind="checkpoints",position="2"} 0`,
		`framegate_ship_queued_bytes{kind="records",position="1"} 9`,
		`go_goroutines`, `process_open_fds`, `process_resident_memory_bytes`,
	} {
		if !strings.Contains(out, "\n"+want) {
			t.Errorf("no line %s", want)
		}
	}
	for _, secret := range []string{"corp", "192.0.2.7", "worm", "bank.test"} {
		if strings.Contains(out, secret) {
			t.Errorf("a scrape tells of %q", secret)
		}
	}
	if n := strings.Count(out, "\nframegate_"); n > 350 {
		t.Errorf("%d series of a gateway with three rules", n)
	}
}

// Every metric has a row in the documentation, and each row a metric.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range all {
		want = append(want, m.row())
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| `framegate_") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has the rows\n%s\nand the metrics are\n%s", doc, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Names end in their unit, and counters in total; what has no unit is a number of
// things.
func TestNames(t *testing.T) {
	things := []string{"framegate_ready", "framegate_connections", "framegate_connections_half_open", "framegate_websockets",
		"framegate_connections_limit", "framegate_policy_rules", "framegate_leaf_cache_entries", "framegate_leaf_cache_limit",
		"framegate_audit_writable", "framegate_audit_queue_length", "framegate_audit_queue_limit", "framegate_ship_failing", "framegate_held_waiting", "framegate_overload_rung"}
	unit := regexp.MustCompile(`_(seconds|bytes|info)$`)
	for _, m := range all {
		switch {
		case m.help == "" || !strings.HasSuffix(m.help, "."):
			t.Errorf("%s: help %q", m.name, m.help)
		case m.typeName() == "counter" != strings.HasSuffix(m.name, "_total"):
			t.Errorf("%s is a %s", m.name, m.typeName())
		case m.typeName() != "counter" && !unit.MatchString(m.name) && !slices.Contains(things, m.name):
			t.Errorf("%s has no unit", m.name)
		}
	}
}

// promtool finds nothing to say about what a scrape has.
func TestPromtoolMetrics(t *testing.T) {
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, source(t)))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v (make setup installs it)\n%s", err, out)
	}
}

func TestPromtoolRules(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command(filepath.Join("../..", "bin", "promtool"), args...)
		cmd.Dir = examples
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// The alerts, and all that the dashboard shows, are about metrics and labels that
// there are; and each alert has a test.
func TestExamples(t *testing.T) {
	alerts, err := os.ReadFile(filepath.Join(examples, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(examples, "alerts_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllSubmatch(alerts, -1) {
		if !strings.Contains(string(tests), "alertname: "+string(m[1])+"\n        eval_time") {
			t.Errorf("%s is never fired in alerts_test.yml", m[1])
		}
	}
	board, err := os.ReadFile(filepath.Join(examples, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	out := scrape(t, source(t))
	var shown []string
	for file, text := range map[string]string{"alerts.yml": string(alerts), "dashboard.json": strings.Join(expressions(t, board), "\n")} {
		for _, m := range regexp.MustCompile(`\b((?:framegate|go|process)_\w+)(\{[^}]*\})?`).FindAllStringSubmatch(text, -1) {
			name, selector := m[1], m[2]
			if file == "dashboard.json" {
				shown = append(shown, regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, ""))
			}
			if !regexp.MustCompile(`(?m)^` + name + `[ {]`).MatchString(out) {
				t.Errorf("%s: there is no metric %s", file, name)
				continue
			}
			for _, l := range regexp.MustCompile(`(\w+)(=|=~)"`).FindAllStringSubmatch(selector, -1) {
				if l[1] != "instance" && l[1] != "job" && !regexp.MustCompile(`(?m)^`+name+`\{[^}]*\b`+l[1]+`="`).MatchString(out) {
					t.Errorf("%s: %s has no label %s", file, name, l[1])
				}
			}
			for _, l := range regexp.MustCompile(`(\w+)="([^"$]*)"`).FindAllStringSubmatch(selector, -1) {
				if l[1] != "instance" && l[1] != "job" && !strings.Contains(out, l[0]) {
					t.Errorf("%s: nothing has %s", file, l[0])
				}
			}
		}
	}
	for _, m := range all {
		if !slices.Contains(shown, m.name) && m != collectionTime && m != leavesLimit && m != auditQueueMax {
			t.Errorf("the dashboard does not show %s", m.name)
		}
	}
}

// Prometheus can read every query of the dashboard, and what a query is taken apart
// by, or a legend shows, is a label that its metric has.
func TestDashboardQueries(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(examples, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	out := scrape(t, source(t))
	rules := "groups:\n- name: dashboard\n  rules:\n"
	for _, p := range board.Panels {
		for i, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$job", ".*", "$rule", ".*").Replace(target.Expr)
			rules += fmt.Sprintf("  - record: \"query_%d\"\n    expr: %q\n    labels: {panel: %q}\n", i, expr, p.Title)
			metric := regexp.MustCompile(`\b(?:framegate|go|process)_\w+`).FindString(expr)
			kept := regexp.MustCompile(`\bby \(([^)]*)\)`).FindAllStringSubmatch(expr, -1)
			var labels []string
			for _, m := range kept {
				labels = append(labels, strings.Split(m[1], ", ")...)
			}
			for _, m := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if labels = append(labels, m[1]); kept != nil && !strings.Contains(kept[0][1], m[1]) {
					t.Errorf("%q: %s has gone before the legend shows it: %s", p.Title, m[1], expr)
				}
			}
			for _, l := range labels {
				if l != "instance" && !regexp.MustCompile(`(?m)^`+metric+`\{[^}]*\b`+l+`="`).MatchString(out) {
					t.Errorf("%q: %s has no label %s", p.Title, metric, l)
				}
			}
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v (make setup installs it)\n%s", err, out)
	}
}

// expressions returns the queries of a dashboard, having looked at what else is to
// hold for one that others import.
func expressions(t *testing.T, text []byte) (list []string) {
	t.Helper()
	var board struct {
		ID         any
		UID        string
		Title      string
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
		Panels []struct {
			ID         int
			Type       string
			Title      string
			Datasource *struct{ Type, UID string }
			GridPos    struct{ H, W, X, Y int }
			Targets    []struct {
				Expr       string
				Datasource *struct{ Type, UID string }
			}
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	if board.ID != nil || board.Title == "" {
		t.Errorf("id %v, title %q: expected none and one", board.ID, board.Title)
	}
	ids := map[int]bool{}
	filled := map[[2]int]string{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("panel id %d twice", p.ID)
		}
		ids[p.ID] = true
		for y := range p.GridPos.H {
			for x := range p.GridPos.W {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := filled[at]; ok || at[0] >= 24 {
					t.Errorf("panel %q lies on %q at %v", p.Title, other, at)
				}
				filled[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource == nil || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %q: datasource %v, %d targets", p.Title, p.Datasource, len(p.Targets))
		}
		for _, target := range p.Targets {
			list = append(list, target.Expr)
			if !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("panel %q does not go by the variable instance: %s", p.Title, target.Expr)
			}
		}
	}
	for _, v := range board.Templating.List {
		if v.Type == "query" {
			list = append(list, v.Query)
		}
	}
	return list
}
