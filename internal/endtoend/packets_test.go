package endtoend

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// With audit.pcap_dir, tshark and inspect find in the packets what the log says
// that real clients have said, under the same ids, and the clients notice nothing.
func TestPackets(t *testing.T) {
	s := newSite(t, settings{policy: "[[rule]]\nid = \"loss\"\naction = \"drop\"\nmatch.contains = [\"drop this\"]\n"})
	config, err := os.ReadFile(s.path("framegate.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "framegate.toml", string(config)+fmt.Sprintf("pcap_dir = %q\npcap_max_size = \"16MiB\"\n", s.path("pcap")))
	g := s.start(t)
	say := []string{"one", "drop this", strings.Repeat("two ", 100)}
	for i, c := range realClients[:2] {
		host, path := []string{"v4.", "v6."}[i]+chatHost, "/packets/"+c.name
		g.origin.Handle(path, origin.Echo)
		report, err := c.run(g.site, soon(t), g.machine(t), clients.Job{URL: "wss://" + host + path, Say: say})
		if err != nil || fmt.Sprint(report.Said) != "[true false true]" {
			t.Fatalf("%v, %+v", err, report)
		}
		g.log.ofPath(t, path).ended(t, audit.StateInspected)
	}
	g.signal(t, syscall.SIGTERM)
	if code := g.wait(t); code != 0 {
		t.Fatalf("exit %d\n%s", code, g.console)
	}
	files, err := filepath.Glob(filepath.Join(s.path("pcap"), "*.pcapng"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}

	var want, conns []string
	for _, r := range g.log.all(t) {
		if r.Event == audit.WSMessage || r.Event == audit.WSControl {
			want = append(want, fmt.Sprintf("%s %s %s %d", r.Host, r.Dir, r.Opcode, r.Size))
		}
		if r.Event == audit.WSOpen {
			conns = append(conns, "framegate conn="+r.Conn)
		}
	}
	s.write(t, "all.toml", "[[rule]]\nid = \"all\"\naction = \"log\"\nmatch.opcode = [\"text\", \"binary\", \"ping\", \"pong\", \"close\"]\n")
	var got []string
	for line := range strings.Lines(s.framegate(t, "inspect", "--json", "--policy", s.path("all.toml"), files[0])) {
		var f struct {
			Host, Dir, Opcode string
			Size              int64
			Message           int
		}
		if json.Unmarshal([]byte(line), &f) == nil && f.Message > 0 { // the last line is a sum
			got = append(got, fmt.Sprintf("%s %s %s %d", f.Host, f.Dir, f.Opcode, f.Size))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(got) < 20 || !slices.Equal(got, want) {
		t.Errorf("inspect finds\n%s\nthe log has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	out, err := exec.Command("tshark", "-r", files[0], "-Y", "websocket", "-T", "fields", "-e", "frame.comment").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := slices.Compact(slices.Sorted(slices.Values(strings.Fields(strings.ReplaceAll(string(out), " ", "_")))))
	slices.Sort(conns)
	if strings.Join(seen, ",") != strings.ReplaceAll(strings.Join(conns, ","), " ", "_") {
		t.Errorf("tshark finds %q, the log has %q", seen, conns)
	}
}
