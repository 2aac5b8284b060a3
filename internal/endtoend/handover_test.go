package endtoend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// handedTo is how a gateway says which process has taken over.
var handedTo = regexp.MustCompile(`upgrade: handed over.* pid=(\d+)`)

// successors returns the processes that have taken over, the first one first.
func (g *gateway) successors() (pids []int) {
	for _, m := range handedTo.FindAllStringSubmatch(g.console.String(), -1) {
		pid, err := strconv.Atoi(m[1])
		if err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// upgrade has process pid hand over, and returns the one that takes over as the
// nth. Both say what they have to say on the same console.
func (g *gateway) upgrade(t *testing.T, pid, nth int) (next int) {
	t.Helper()
	if nth == 1 {
		t.Cleanup(func() { // before the gateway is waited for
			for _, pid := range g.successors() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
	syscall.Kill(pid, syscall.SIGUSR2)
	eventually(t, func() error {
		if n := len(g.successors()); n < nth {
			return fmt.Errorf("%d upgrades of %d\n%s", n, nth, g.console)
		}
		return nil
	})
	return g.successors()[nth-1]
}

// ended waits for the end of a process that is not a child of ours.
func ended(t *testing.T, pid int) {
	t.Helper()
	eventually(t, func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return nil
		}
		return fmt.Errorf("process %d lives", pid)
	})
}

// A liveOne is a WebSocket on which messages go back and forth until it is closed.
type liveOne struct {
	path   string
	sent   atomic.Int64 // and echoed
	err    error
	closed time.Time
}

// run says numbers and hears them.
func (l *liveOne) run(c *clients.Raw) {
	defer c.Close()
	for i := 0; ; i++ {
		want := fmt.Sprintf("%s %d", l.path, i)
		sending := c.Send(true, frames.Text, []byte(want))
		h, payload, err := c.Frame()
		switch {
		case err != nil:
			l.err = fmt.Errorf("message %d: %w (%v)", i, err, sending)
			return
		case h.Opcode == frames.Close:
			if l.closed = time.Now(); string(payload) != "\x03\xe9" {
				l.err = fmt.Errorf("closed with %q", payload)
			}
			c.Send(true, frames.Close, payload)
			c.Rest()
			return
		case h.Opcode != frames.Text || string(payload) != want:
			l.err = fmt.Errorf("said %q, heard %v %q", want, h.Opcode, payload)
			return
		}
		l.sent.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
}

// TestHandover: under a thousand new connections a second, redirected ones of both
// families and those of the explicit proxy, and with live WebSockets, a gateway is
// upgraded twice in a row. None is refused, none is reset or left without an answer, and no message is lost or recorded twice. Those that live stay with the
// process that has accepted them, until it closes them, not all at once.
func TestHandover(t *testing.T) {
	s := newSite(t, settings{drain: "200ms", spread: "2s", limits: `handover_timeout = "1h"`,
		policy: "[[connection]]\nid = \"no\"\nhost = [\"" + blockedHost + "\"]\ndecision = \"block\"\n"})
	g := s.start(t)
	first := g.cmd.Process.Pid

	const lives = 50
	var all []*liveOne
	var running sync.WaitGroup
	begin := func(name string, count int) {
		for i := range count {
			l := &liveOne{path: fmt.Sprintf("/live/%s/%d", name, i)}
			all = append(all, l)
			s.origin.Handle(l.path, origin.Echo)
			network := families[i%2]
			var c *clients.Raw
			if i%10 == 0 {
				c = s.wss(t, network, chatHost)
			} else {
				c = s.dial(t, network, chatHost, 80, nil)
			}
			if _, err := c.Upgrade(clients.OddHead(chatHost, l.path)); err != nil {
				t.Fatal(err)
			}
			running.Go(func() { l.run(c) })
		}
	}
	begin("first", lives)

	// New connections, each of which wants an answer that the gateway itself gives.
	const each, most = time.Second / 1000, 5000
	var tried, refused, reset, other atomic.Int64
	var example atomic.Pointer[error]
	const established = "HTTP/1.1 200 Connection established\r\n\r\n"
	doors := []struct{ network, addr, before, answer string }{
		{"tcp4", s.address(t, "tcp4", blockedHost, 80).String(), "", ""},
		{"tcp6", s.address(t, "tcp6", blockedHost, 80).String(), "", ""},
		{"tcp4", s.proxyAddress("tcp4"), "CONNECT " + blockedHost + ":80 HTTP/1.1\r\nHost: " + blockedHost + ":80\r\n\r\n", established},
	}
	knock := func(ctx context.Context) {
		door := doors[tried.Add(1)%int64(len(doors))]
		err := func() error {
			c, err := s.dialer()(ctx, door.network, door.addr)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, door.before+"GET / HTTP/1.1\r\nHost: "+blockedHost+"\r\n\r\n")
			answer, err := io.ReadAll(c)
			if err == nil && !strings.HasPrefix(string(answer), door.answer+"HTTP/1.1 403 ") {
				err = fmt.Errorf("answered %q", answer)
			}
			return err
		}()
		switch {
		case err == nil:
			return
		case errors.Is(err, syscall.ECONNREFUSED):
			refused.Add(1)
		case errors.Is(err, syscall.ECONNRESET):
			reset.Add(1)
		default:
			other.Add(1)
		}
		example.Store(&err)
	}
	stop := make(chan struct{})
	knocked := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(knocked)
		var visitors sync.WaitGroup
		defer visitors.Wait()
		room := make(chan struct{}, 500)
		for i := range most {
			select {
			case <-stop:
				return
			case <-time.After(time.Until(began.Add(time.Duration(i) * each))): // none is left out by a late one
			}
			room <- struct{}{}
			visitors.Go(func() {
				knock(t.Context())
				<-room
			})
		}
	}()
	eventually(t, func() error { return atLeast(&tried, 200) })
	second := g.upgrade(t, first, 1)
	begin("second", 10)
	third := g.upgrade(t, second, 2)
	since := tried.Load()
	eventually(t, func() error {
		if tried.Load() >= most {
			return nil
		}
		return atLeast(&tried, since+300)
	})
	close(stop)
	<-knocked
	t.Logf("%d new connections in %v", tried.Load(), time.Since(began).Round(time.Millisecond))
	if refused.Load()+reset.Load()+other.Load() > 0 {
		t.Errorf("%d refused, %d reset, %d otherwise failed of %d: %v\n%s", refused.Load(), reset.Load(), other.Load(), tried.Load(), *example.Load(), g.console)
	}

	// Both older processes still serve theirs.
	for _, l := range all {
		before := l.sent.Load()
		eventually(t, func() error { return atLeast(&l.sent, before+1) })
	}
	for _, pid := range []int{first, second, third} {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	begin("third", 1)
	last := all[len(all)-1]

	// The end of the oldest is spread, and nobody else's.
	syscall.Kill(first, syscall.SIGTERM)
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, g.console)
	}
	before := last.sent.Load()
	eventually(t, func() error { return atLeast(&last.sent, before+1) })

	// The stop of the newest is that of all.
	syscall.Kill(third, syscall.SIGTERM)
	ended(t, third)
	ended(t, second)
	running.Wait()
	var ends []time.Time
	for _, l := range all {
		if l.err != nil {
			t.Errorf("%s: %v", l.path, l.err)
		}
		ends = append(ends, l.closed)
	}
	ends = ends[:lives]
	slices.SortFunc(ends, time.Time.Compare)
	if spread := ends[lives-1].Sub(ends[0]); spread < 500*time.Millisecond {
		t.Errorf("%d WebSockets were closed within %v", lives, spread)
	}

	g.log.waitFor(t, audit.GatewayStop, 1)
	list := ledger(g.log.all(t))
	if r := list[len(list)-1]; r.Event != audit.GatewayStop {
		t.Errorf("the last record is %s", r)
	}
	var did []string
	for _, r := range list.all(audit.GatewayHandover) {
		did = append(did, r.Action)
	}
	if got := strings.Join(did, " "); got != "done done drained drained" {
		t.Errorf("gateway.handover: %s", got)
	}
	// All three have accepted some: the ids of a process begin alike.
	acceptedBy := make(map[string]int)
	for _, r := range list.all(audit.ConnBlock) {
		process, _, _ := strings.Cut(r.Conn, "-")
		acceptedBy[process]++
	}
	if t.Logf("by process: %v", acceptedBy); len(acceptedBy) != 3 {
		t.Errorf("new connections were accepted by %v", acceptedBy)
	}
	if n := len(list.all(audit.ConnOpen)); int64(n) != tried.Load()+int64(len(all)) {
		t.Errorf("%d conn.open of %d connections", n, tried.Load()+int64(len(all)))
	}
	checkWholeLog(t, g.log) // each once, with its messages
	said := make(map[string]int64)
	paths := make(map[string]string) // the client's port may be another behind the redirection
	for _, r := range list {
		switch r.Event {
		case audit.WSOpen:
			paths[r.Conn] = r.Path
		case audit.WSMessage:
			said[paths[r.Conn]]++
		}
	}
	for _, l := range all {
		// The last one may have been on its way when it was closed.
		if n, want := said[l.path], 2*l.sent.Load(); n < want || n > want+2 {
			t.Errorf("%s: %d messages recorded, %d were heard", l.path, n, want)
		}
	}
	g.framegate(t, "audit", "verify")
}

func atLeast(n *atomic.Int64, want int64) error {
	if have := n.Load(); have < want {
		return fmt.Errorf("%d, expected %d", have, want)
	}
	return nil
}

// TestSuccessorKilled: the process before it takes the log back, ends what lives
// there, and gives way to a new start.
func TestSuccessorKilled(t *testing.T) {
	s := newSite(t, settings{drain: "1h", spread: "200ms"})
	g := s.start(t)
	l := &liveOne{path: "/live/orphan"}
	s.origin.Handle(l.path, origin.Echo)
	c := s.wss(t, "tcp6", chatHost)
	if _, err := c.Upgrade(clients.OddHead(chatHost, l.path)); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { l.run(c) })
	eventually(t, func() error { return atLeast(&l.sent, 3) })
	next := g.upgrade(t, g.cmd.Process.Pid, 1)
	before := l.sent.Load()
	eventually(t, func() error { return atLeast(&l.sent, before+3) })
	syscall.Kill(next, syscall.SIGKILL)
	running.Wait()
	if l.err != nil {
		t.Error(l.err)
	}
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, g.console)
	}
	g.console.wait(t, "the gateway that has taken over is gone")
	g.log.waitFor(t, audit.GatewayStop, 1)
	checkWholeLog(t, g.log)
	if n, want := int64(len(g.log.ofPath(t, l.path).all(audit.WSMessage))), 2*l.sent.Load(); n < want || n > want+2 {
		t.Errorf("%d messages recorded, %d were heard", n, want)
	}
	g.framegate(t, "audit", "verify")
	again := s.start(t)
	again.signal(t, syscall.SIGTERM)
	again.wait(t)
}
