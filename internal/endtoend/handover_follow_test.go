package endtoend

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
)

// A collector takes syslog, RFC 6587 section 3.4.1.
type collector struct {
	mu   sync.Mutex
	seqs map[string]map[string]bool // by the name of the log
}

func (l *collector) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go l.take(c)
	}
}

func (l *collector) take(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		size, err := in.ReadString(' ')
		n, wrong := strconv.Atoi(strings.TrimSuffix(size, " "))
		if err != nil || wrong != nil {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		_, data, _ := strings.Cut(string(message), `log="`)
		log, rest, _ := strings.Cut(data, `" seq="`)
		seq, _, _ := strings.Cut(rest, `"`)
		l.mu.Lock()
		if l.seqs[log] == nil {
			l.seqs[log] = make(map[string]bool)
		}
		l.seqs[log][seq] = true
		l.mu.Unlock()
	}
}

// missing says which records of the log in dir have not arrived.
func (l *collector) missing(t *testing.T, dir string) error {
	t.Helper()
	id, err := os.ReadFile(dir + "/log-id")
	if err != nil {
		t.Fatal(err)
	}
	r, err := audit.NewReader(dir, audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	arrived, all := l.seqs["framegate/"+strings.TrimSpace(string(id))], 0
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if all++; !arrived[strconv.FormatUint(rec.Seq, 10)] {
			return fmt.Errorf("record %d of %s was not shipped: %s", rec.Seq, dir, rec.Raw)
		}
	}
	if all == 0 {
		return fmt.Errorf("%s is empty", dir)
	}
	return nil
}

// TestHandoverFollows: after an upgrade a reload is that of both processes, with
// all of [audit], whichever of the two hears of it, or of neither. When the new one
// is killed, the old one goes on in the log that is in force, and ships it.
func TestHandoverFollows(t *testing.T) {
	s := newSite(t, settings{policy: rule("first", "alpha", "drop"), drain: "1h", spread: "200ms"})
	ln, err := s.Listen(t.Context(), lab.Gateway, "tcp", "127.0.0.1:6514")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	shipped := &collector{seqs: make(map[string]map[string]bool)}
	go shipped.serve(ln)
	before, err := os.ReadFile(s.path("framegate.toml"))
	if err != nil {
		t.Fatal(err)
	}
	config := string(before) + "ship = [\"syslog+tcp://127.0.0.1:6514\"]\n"
	s.write(t, "framegate.toml", config)
	g := s.start(t)
	old := g.cmd.Process.Pid
	c := s.wss(t, "tcp6", chatHost)
	if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?follows")); err != nil {
		t.Fatal(err)
	}
	exchange := func(texts, back string) {
		t.Helper()
		for _, text := range strings.Fields(texts) {
			c.Send(true, frames.Text, []byte(text))
		}
		for _, want := range strings.Fields(back) {
			if _, payload, err := c.Frame(); err != nil || string(payload) != want {
				t.Fatalf("%q (%v), expected %q\n%s", payload, err, want, g.console)
			}
		}
	}
	exchange("alpha omega", "omega")
	next := g.upgrade(t, old, 1)
	exchange("alpha omega", "omega")

	// A mistake that only the new one would find.
	s.write(t, "policy.toml", rule("second", "omega", "drop"))
	s.write(t, "framegate.toml", strings.Replace(config, `":8080"`, `"127.0.0.1:6514"`, 1))
	syscall.Kill(next, syscall.SIGHUP)
	g.console.wait(t, "configuration rejected", "intercept.explicit")
	exchange("alpha omega", "omega")

	// The old one hears, and both follow.
	config = strings.Replace(config, s.path("audit")+`"`, s.path("audit2")+`"`, 1)
	s.write(t, "framegate.toml", config)
	syscall.Kill(old, syscall.SIGHUP)
	g.console.waitTimes(t, 2, "configuration loaded")
	g.console.waitTimes(t, 2, "policy loaded")
	exchange("alpha omega beta", "alpha beta")

	// What waits in its memory when it is killed is not sent.
	eventually(t, func() error { return shipped.missing(t, s.path("audit2")) })
	syscall.Kill(next, syscall.SIGKILL)
	g.console.wait(t, "the gateway that has taken over is gone")
	if h, payload, err := c.Frame(); err != nil || h.Opcode != frames.Close || string(payload) != "\x03\xe9" {
		t.Errorf("%v %q, %v", h.Opcode, payload, err)
	} else {
		c.Send(true, frames.Close, payload)
	}
	c.Close()
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, g.console)
	}
	if n := strings.Count(g.console.String(), "configuration loaded"); n != 2 {
		t.Errorf("%d configurations were loaded, expected one by each\n%s", n, g.console)
	}
	for _, dir := range []string{s.path("audit"), s.path("audit2")} {
		g.framegate(t, "audit", "verify", "--dir", dir)
		eventually(t, func() error { return shipped.missing(t, dir) })
	}
	follow(t, s.path("audit2")).waitFor(t, audit.WSMessage, 5) // alpha and beta twice, omega once
}
