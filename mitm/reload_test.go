package mitm

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// Thousands of connections go on while the policy changes under them. Each message
// is judged by one policy, and its record names the one; none is lost; and once a
// reload is over, the next message is judged by the new rules.
func TestReloadUnderLoad(t *testing.T) {
	const connections, rounds, versions = 2000, 4, 3
	rules := func(i int) string {
		return fmt.Sprintf("[[rule]]\nid = \"v%d\"\naction = \"log\"\nmatch.contains = [\"all\"]\n", i)
	}
	h := newHub(t, "ws", rules(0))
	ids := map[string]string{h.policy.Load().Version(): "v0"}
	for i := 1; i < versions; i++ {
		h.reload(rules(i))
		ids[h.policy.Load().Version()] = fmt.Sprintf("v%d", i)
	}

	sockets := make([]*socket, connections)
	for i := range sockets {
		sockets[i] = h.open()
	}
	var sent atomic.Int64
	everybody := func() {
		var all sync.WaitGroup
		for _, s := range sockets {
			soon := time.Now().Add(10 * patience) // so many take their time
			s.client.SetDeadline(soon)
			s.server.SetDeadline(soon)
			all.Go(func() {
				for dir := range frames.Direction(2) {
					from, to := s.sides(dir)
					m := from.frame(frames.Text, "hello, all of you")
					_, err := io.WriteString(from, m)
					if _, _, got, bad := readFrame(to); err != nil || bad != nil || got != m {
						t.Errorf("%v: %q (%v, %v)", dir, got, err, bad)
						return
					}
					sent.Add(1)
				}
			})
		}
		all.Wait()
	}

	stop := make(chan struct{})
	var reloading sync.WaitGroup
	reloads := 0
	reloading.Go(func() {
		for ; ; reloads++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				h.reload(rules(reloads % versions))
			}
		}
	})
	for range rounds {
		everybody()
	}
	close(stop)
	reloading.Wait()
	h.reload(rules(1))
	before := len(h.ledger.of(audit.WSMessage))
	everybody()

	records := h.ledger.of(audit.WSMessage)
	if len(records) != int(sent.Load()) {
		t.Errorf("%d messages recorded, %d sent", len(records), sent.Load())
	}
	seen := map[string]int{}
	for i, e := range records {
		id := ids[e.Policy]
		if seen[id]++; id == "" || !slices.Equal(e.Rules, []string{id}) || e.Action != "log" {
			t.Fatalf("judged by %v under policy %q", e.Rules, id)
		}
		if i >= before && id != "v1" {
			t.Fatalf("after the last reload: judged by %s", id)
		}
	}
	if reloads < rounds || len(seen) < versions {
		t.Errorf("%d reloads, messages by version %v", reloads, seen)
	}
	for _, s := range sockets {
		s.client.Close()
		s.server.Close()
	}
	if n := len(h.ledger.of(audit.WSViolation)); n > 0 {
		t.Errorf("%d violations", n)
	}
}
