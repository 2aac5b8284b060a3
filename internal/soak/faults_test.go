package soak

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// A span is a time in which something that ends connections was the case.
type span struct{ from, to time.Time }

// covers reports whether what ended then may have ended by it.
func (s span) covers(t time.Time) bool { return !t.Before(s.from) && !t.After(s.to.Add(afterwards)) }

// afterwards is how long a fault may have an effect: the log is tried again each
// second, the closing handshake may take five, and a half-closed peer gets ten.
const afterwards = 12 * time.Second

// injected are the faults that the whole network feels.
type injected struct {
	kills, full       []span
	reloads, upgrades int
}

func (f *injected) report(line func(string, any)) {
	line("servers killed", len(f.kills))
	line("times the disk was full", len(f.full))
	line("reloads asked for", f.reloads)
	line("processes replaced", f.upgrades)
}

// hurt does harm until ctx is done, and says what it did once all is mended.
func (s *site) hurt(t *testing.T, ctx context.Context, g *gateway, p plan) <-chan *injected {
	result := make(chan *injected, 1)
	go func() {
		f := new(injected)
		defer func() { result <- f }()
		start := time.Now()
		deadline, _ := ctx.Deadline()
		length := deadline.Sub(start)
		// A short soak has each fault once, a long one each minute.
		every := min(length, time.Minute)
		nextKill, nextFull := start.Add(every/4), start.Add(every/2)
		between := max(length/5, time.Second) // two upgrades
		if length > 10*time.Minute {
			between = 3 * time.Minute
		}
		nextUpgrade := start.Add(between)
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-second.C:
			}
			f.reloads++
			content := fmt.Sprintf(rules, f.reloads%3)
			if f.reloads%7 == 0 {
				content = "[[rule]]\nid = \"half a rule\n"
			}
			s.write(t, "policy.toml", content)
			g.signal(syscall.SIGHUP)
			if now := time.Now(); now.After(nextKill) {
				nextKill = now.Add(every)
				s.servers[1].kill()
				time.Sleep(300 * time.Millisecond)
				if err := s.startServer(1); err != nil {
					t.Error(err)
				}
				f.kills = append(f.kills, span{now, time.Now()})
			}
			if now := time.Now(); !p.upgrades && now.After(nextFull) {
				nextFull = now.Add(every)
				err := s.fill()
				time.Sleep(min(every/8, 3*time.Second))
				if e := s.empty(); err == nil {
					err = e
				}
				if err != nil {
					t.Errorf("the disk: %v", err)
				}
				f.full = append(f.full, span{now, time.Now()})
			}
			if now := time.Now(); p.upgrades && now.After(nextUpgrade) {
				nextUpgrade = now.Add(between)
				if err := g.upgrade(); err != nil {
					t.Error(err)
				}
				f.upgrades++
			}
		}
	}()
	return result
}
