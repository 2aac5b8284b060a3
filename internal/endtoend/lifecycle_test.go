package endtoend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// A holder lets a number of WebSockets begin together, and hear no answer when
// they say "hold".
type holder struct {
	all   sync.WaitGroup // those who have not asked yet
	holds chan struct{}  // one for each "hold"
}

func (h *holder) serve(s *origin.Session) error {
	h.all.Done()
	h.all.Wait()
	if err := s.Switch(); err != nil {
		return err
	}
	for {
		f, payload, err := s.Frame()
		if err != nil {
			return err
		}
		switch {
		case f.Opcode == frames.Close:
			return s.Send(true, frames.Close, payload)
		case string(payload) == "hold":
			h.holds <- struct{}{}
			continue
		case f.Opcode == frames.Ping:
			err = s.Send(true, frames.Pong, payload)
		case f.Opcode != frames.Pong:
			err = s.Send(f.Fin, f.Opcode, payload)
		}
		if err != nil {
			return err
		}
	}
}

// TestDrain: on SIGTERM every kind of client gets Close 1001, and so does the
// origin, after the time that it had to end by itself; the log is complete and
// readable without framegate.
func TestDrain(t *testing.T) {
	s := newSite(t, settings{drain: "500ms"})
	g := s.start(t)
	hold := &holder{holds: make(chan struct{}, len(realClients)+1)}
	hold.all.Add(len(realClients) + 1)
	type outcome struct {
		report clients.Report
		err    error
	}
	outcomes := make([]outcome, len(realClients))
	var ended sync.WaitGroup
	ctx := soon(t)
	// The browser takes longest to start. The others, once they have asked for
	// the upgrade, have only so much patience.
	for i := len(realClients) - 1; i >= 0; i-- {
		c := realClients[i]
		path := "/hold/" + c.name
		s.origin.Handle(path, hold.serve)
		host := s.machine(t)
		run := c.run
		if c.name == "chromium" {
			// Its report goes over a connection that the gateway does not end.
			run = func(s *site, ctx context.Context, h clients.Host, job clients.Job) (clients.Report, error) {
				return h.Chromium(ctx, "http://"+pageHost, s.origin, job)
			}
		}
		ended.Go(func() {
			o := &outcomes[i]
			o.report, o.err = run(s, ctx, host, clients.Job{URL: "wss://" + []string{"v4.", "v6."}[i%2] + chatHost + path, Say: []string{"hold"}})
		})
		s.serverSide(t, path)
	}
	s.origin.Handle("/hold/raw", hold.serve)
	raw := s.dial(t, "tcp6", chatHost, 80, nil)
	if _, err := raw.Upgrade(clients.OddHead(chatHost, "/hold/raw")); err != nil {
		t.Fatal(err)
	}
	raw.Send(true, frames.Text, []byte("hold"))
	for range cap(hold.holds) {
		select {
		case <-hold.holds:
		case <-ctx.Done():
			t.Fatalf("not all clients hold\n%s", g.console)
		}
	}

	g.signal(t, syscall.SIGTERM)
	if h, payload, err := raw.Frame(); err != nil || h.Opcode != frames.Close || string(payload) != "\x03\xe9" {
		t.Errorf("%v %q (%v), expected Close 1001", h.Opcode, payload, err)
	}
	raw.Send(true, frames.Close, []byte("\x03\xe9"))
	raw.Rest()
	raw.Close()
	ended.Wait()
	for i, c := range realClients {
		o := outcomes[i]
		if o.err != nil || o.report.Close == nil || o.report.Close.Code != 1001 || fmt.Sprint(o.report.Said) != "[false]" {
			t.Errorf("%s: %+v, close %+v (%v)", c.name, o.report, o.report.Close, o.err)
		}
	}
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, g.console)
	}
	g.console.wait(t, "draining: no new connections")
	g.console.wait(t, "msg=stopped")

	stop := g.log.waitFor(t, audit.GatewayStop, 1)
	for _, name := range []string{"node", "python", "chromium", "raw"} {
		server := s.serverSide(t, "/hold/"+name)
		finished(t, server)
		got := framesOf(t, server.Received())
		if last := got[len(got)-1]; last.Opcode != frames.Close || string(last.payload) != "\x03\xe9" {
			t.Errorf("%s: last to the origin %v %q", name, last.Opcode, last.payload)
		}
		l := g.log.ofPath(t, "/hold/"+name)
		if r := l.one(t, audit.WSClose); r.Code != 1001 || r.Action != "drain" || r.Reason != "the gateway stops" {
			t.Errorf("ws.close: %s", r)
		}
		if end := l.ended(t, audit.StateInspected); end.Seq > stop.Seq {
			t.Errorf("closed after gateway.stop: %s", end)
		}
	}
	checkWholeLog(t, g.log)
	checkReadable(t, g)
}

// checkReadable: what `framegate audit query --json` prints is what the tools
// of everybody find in the files.
func checkReadable(t *testing.T, g *gateway) {
	t.Helper()
	printed := g.framegate(t, "audit", "query", "--json")
	var want strings.Builder
	for _, r := range g.log.all(t) {
		fmt.Fprintln(&want, r)
	}
	if printed != want.String() {
		t.Errorf("audit query prints %d bytes, the log has %d", len(printed), want.Len())
	}
	files, err := filepath.Glob(filepath.Join(g.path("audit"), "seg", "*.jsonl.zst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	if _, err := exec.LookPath("zstdcat"); err != nil {
		t.Log("no zstdcat here")
		return
	}
	plain, err := exec.Command("zstdcat", files...).Output()
	if err != nil || string(plain) != printed {
		t.Errorf("zstdcat prints %d bytes (%v), audit query %d", len(plain), err, len(printed))
	}
	if _, err := exec.LookPath("jq"); err != nil {
		t.Log("no jq here")
		return
	}
	jq := exec.Command("jq", "-c", "select(.seq)")
	jq.Stdin = bytes.NewReader(plain)
	if out, err := jq.Output(); err != nil || bytes.Count(out, []byte("\n")) != strings.Count(printed, "\n") {
		t.Errorf("jq prints %d lines (%v), expected %d", bytes.Count(out, []byte("\n")), err, strings.Count(printed, "\n"))
	}
}

// TestSecondSignal: while draining, no connection is accepted and the open ones
// live on; a second SIGTERM closes them at once.
func TestSecondSignal(t *testing.T) {
	s := newSite(t, settings{drain: "1h"})
	g := s.start(t)
	c := s.wss(t, "tcp4", chatHost)
	if _, err := c.Upgrade(clients.OddHead(chatHost, "/echo?second-signal")); err != nil {
		t.Fatal(err)
	}
	g.signal(t, syscall.SIGTERM)
	for _, network := range families {
		eventually(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			late, err := s.dialer()(ctx, network, chatHost+":443")
			if errors.Is(err, syscall.ECONNREFUSED) {
				return nil
			}
			if err == nil {
				late.Close() // it was in time
			}
			return fmt.Errorf("a new connection by %s: %v, expected a refusal", network, err)
		})
	}
	for range 3 {
		c.Send(true, frames.Text, []byte("still here"))
		if _, payload, err := c.Frame(); err != nil || string(payload) != "still here" {
			t.Fatalf("while draining: %q (%v)", payload, err)
		}
	}
	g.signal(t, syscall.SIGTERM)
	if h, payload, err := c.Frame(); err != nil || h.Opcode != frames.Close || string(payload) != "\x03\xe9" {
		t.Errorf("%v %q (%v), expected Close 1001", h.Opcode, payload, err)
	}
	c.Send(true, frames.Close, []byte("\x03\xe9"))
	c.Close()
	if code := g.wait(t); code != 0 {
		t.Errorf("exit %d\n%s", code, g.console)
	}
	g.log.waitFor(t, audit.GatewayStop, 1)
	checkWholeLog(t, g.log)
}
