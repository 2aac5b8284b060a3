package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"framegate/audit"
)

// A heldConsole takes what the gateway of exec says. The terminal is the
// command's, so warnings and errors wait until it has ended; the rest is for
// those who ask.
type heldConsole struct {
	out     io.Writer
	through bool // everything, at once

	mu   sync.Mutex
	held [][]byte
	more int64
}

// mostHeld bounds what waits.
const mostHeld = 20

// Write takes one line of log/slog.
func (c *heldConsole) Write(line []byte) (int, error) {
	if c.through {
		return c.out.Write(line)
	}
	_, rest, _ := bytes.Cut(line, []byte(" ")) // after the time
	if bytes.HasPrefix(rest, []byte("level=INFO ")) || bytes.Contains(rest, []byte(noRules)) {
		return len(line), nil // the summary says the latter
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) < mostHeld {
		c.held = append(c.held, slices.Clone(rest))
	} else {
		c.more++
	}
	return len(line), nil
}

// release prints what has waited.
func (c *heldConsole) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.held {
		say(c.out, "%s", bytes.TrimRight(line, "\n"))
	}
	if c.more > 0 {
		say(c.out, "%s more of the gateway: --verbose prints them", counted(c.more, "line"))
	}
	c.held, c.more = nil, 0
}

// mostFailures bounds what a summary tells one by one.
const mostFailures = 5

// of tells the counts of some names, those that are not zero.
func of(counts map[string]int64, names ...string) string {
	var list []string
	for _, name := range names {
		if n := counts[name]; n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, name))
		}
	}
	if list == nil {
		return ""
	}
	return ": " + strings.Join(list, ", ")
}

// summary says what became of the traffic. noRule is true for a policy without
// rules.
func (x *execution) summary(noRule bool) error {
	r, err := audit.NewReader(x.config.Audit.Dir, audit.Filter{From: x.began})
	if err != nil {
		return err
	}
	counter := audit.NewCounter()
	var failures []string
	for rec, err := range r.Records() {
		var damage *audit.DamageError
		if errors.As(err, &damage) {
			continue // of an earlier run, which verify tells of
		} else if err != nil {
			return err
		}
		counter.Add(&rec)
		if rec.Event == audit.TLSFail {
			host := rec.Host
			if host == "" {
				host = rec.Server
			}
			if f := host + ": " + rec.Reason; !slices.Contains(failures, f) {
				failures = append(failures, f)
			}
		}
	}
	s := counter.Stats(10)
	say(x.stderr, "%s%s", counted(s.Connections.Opened, "connection"), of(s.States,
		audit.StateInspected, audit.StateBypassed, audit.StateBlocked, audit.StateOpaque, audit.StateFailed))
	say(x.stderr, "%s of WebSockets%s", counted(s.ToServer.Messages+s.ToClient.Messages, "message"), of(s.Actions, "log", "redact", "drop", "close"))
	for _, rule := range s.Rules {
		say(x.stderr, "rule %s: %s", rule.Name, counted(rule.Records, "record"))
	}
	if noRule {
		say(x.stderr, "%s", noRules)
	}
	for _, f := range failures[:min(len(failures), mostFailures)] {
		say(x.stderr, "failed: %s", f)
	}
	if n := len(failures) - mostFailures; n > 0 {
		say(x.stderr, "failed: %d more", n)
	}
	if x.dir != "" {
		say(x.stderr, "the log is kept: framegate audit query --dir %s", x.dir)
	}
	return nil
}
