package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"framegate/audit"
	"framegate/examples/traffic"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/policy"
)

// showTraffic plays recorded traffic of real services through the gateway.
func (d *demo) showTraffic(ctx context.Context) error {
	d.section("Recorded traffic of real services, played through the gateway")
	d.say("Each line is one WebSocket. The last column compares the frames that one side")
	d.say("sent with those that the other received, byte for byte, in both directions.\n")
	rules, err := policy.Load([]string{filepath.Join(d.dir, "demo.toml")})
	if err != nil {
		return err
	}
	var notable []playedRecord
	var fragmented []demoRecord
	rows := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(rows, "  traffic\tover\tto server\tto client\tlog\tdrop\tclose\tframes on the wire")
	for i, set := range traffic.Sets() {
		family := []string{"tcp4", "tcp6"}[i%2]
		p, err := d.play(ctx, family, set, rules)
		if err != nil {
			return fmt.Errorf("%s: %w", set, err)
		}
		fmt.Fprintf(rows, "  %s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", set, familyName(family),
			p.messages(frames.ToServer), p.messages(frames.ToClient), p.actions("log"), p.actions("drop"), p.actions("close"), p.compared)
		for _, r := range p.records {
			if r.Event == audit.WSMessage && r.Action != "allow" || r.Event == audit.WSViolation {
				notable = append(notable, playedRecord{set, r})
			}
		}
		if set == "zeek-two-binary-fragments" {
			fragmented = p.records
		}
		p.claims(d)
	}
	rows.Flush()
	d.flushClaims()

	d.say("\nWhat was not simply allowed:\n")
	d.table("traffic\tdirection\topcode\tsize\taction\trule or reason", func(w io.Writer) {
		for _, n := range notable {
			why := strings.Join(n.Rules, " ")
			if why == "" {
				why = n.Reason
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", n.set, n.Dir, dash(n.Opcode), n.size(), n.Action, printable(why))
		}
	})
	d.say("\nEvery message of zeek-two-binary-fragments, with its verdict:\n")
	d.table("seq\tevent\tdirection\topcode\tsize\tframes\taction\tsha-256", func(w io.Writer) {
		for _, r := range fragmented {
			if r.Opcode != "" {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\t%s\t%.16s\n", r.Seq, r.Event, r.Dir, r.Opcode, r.size(), r.Frames, r.Action, r.SHA256)
			}
		}
	})
	return nil
}

type playedRecord struct {
	set string
	demoRecord
}

// A played is one recorded connection after it was played.
type played struct {
	set      string
	want     map[string]int // by action
	records  []demoRecord
	compared string
	same     bool
}

func (p *played) actions(action string) int {
	n := 0
	for _, r := range p.records {
		if r.Event == audit.WSMessage && r.Action == action {
			n++
		}
	}
	return n
}

func (p *played) messages(dir frames.Direction) int {
	n := 0
	for _, r := range p.records {
		if r.Event == audit.WSMessage && r.Dir == dir.String() {
			n++
		}
	}
	return n
}

func (p *played) claims(d *demo) {
	for _, action := range []string{"log", "drop", "close"} {
		d.later(p.actions(action) == p.want[action], "%s: %d messages with action %s, expected %d", p.set, p.actions(action), action, p.want[action])
	}
	d.later(p.same, "%s: %s", p.set, p.compared)
	d.later(countOf(p.records, audit.ConnClose) == 1, "%s: one conn.close", p.set)
}

// play plays one set between client and server. What the rules will do with it
// is worked out beforehand.
func (d *demo) play(ctx context.Context, family, set string, rules *policy.Policy) (*played, error) {
	messages, err := traffic.Load(set)
	if err != nil {
		return nil, err
	}
	p := &played{set: set, want: map[string]int{}}
	scope := rules.Scope(policy.Upgrade{Host: feedHost})
	expect, lost := 0, 0
	for _, m := range messages {
		v := scope.Message(m.Direction, m.Opcode, m.Payload)
		if m.Opcode.IsControl() || p.want["close"] > 0 && m.Direction == frames.ToClient {
			continue
		}
		p.want[v.Action.String()]++
		switch {
		case m.Direction != frames.ToClient:
		case v.Action < policy.Drop:
			expect++
		default:
			lost++
		}
	}
	if p.want["close"] > 0 {
		expect = len(messages) // the Close comes first
	}
	c, err := d.dial(ctx, family, feedHost, 443)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	target := "/replay?set=" + set
	head := clients.OddHead(feedHost, target)
	reply, err := c.Upgrade(head)
	if err != nil {
		return nil, err
	}
	if _, err := c.Replay(messages, expect); err != nil {
		return nil, err
	}
	server, err := d.origin.Find(ctx, target)
	if err != nil {
		return nil, err
	}
	if p.records, err = d.recordsOf(ctx, c.LocalAddr()); err != nil {
		return nil, err
	}
	select {
	case <-server.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	up := compare(c.Sent()[len(head):], server.Received()[len(head):])
	down := compare(server.Sent()[len(reply):], c.Received()[len(reply):])
	p.compared, p.same = describeFrames(max(up, down), p, lost)
	return p, nil
}

// A sameness is how much of what was sent was received.
type sameness int

const (
	identical sameness = iota
	overtaken          // the same frames, but a control frame came before fragments that were held
	partial            // some frames are missing, the others are the same and in order
	different
)

// describeFrames says what a sameness means for one set, and whether it is as
// it should be.
func describeFrames(s sameness, p *played, lost int) (string, bool) {
	ended := p.want["close"] > 0 || countOf(p.records, audit.WSViolation) > 0
	switch {
	case s == identical:
		return "identical", true
	case s == overtaken:
		return "identical, a ping ahead of held fragments", true
	case s == partial && (lost > 0 || ended):
		return "identical but for what was stopped", true
	case ended:
		return "identical up to the end", true
	}
	return "DIFFERENT", false
}

// compare compares two streams of frames.
func compare(sent, received []byte) sameness {
	if bytes.Equal(sent, received) {
		return identical
	}
	s, r := split(sent), split(received)
	if slices.EqualFunc(s[0], r[0], bytes.Equal) && slices.EqualFunc(s[1], r[1], bytes.Equal) {
		return overtaken
	}
	if within(r[0], s[0]) && within(r[1], s[1]) {
		return partial
	}
	return different
}

// split cuts a stream into its data frames and its control frames.
func split(b []byte) (list [2][][]byte) {
	for len(b) > 0 {
		h, n, err := frames.ConsumeHeader(b)
		end := n + int(h.Length)
		if err != nil || n == 0 || end > len(b) {
			end = len(b)
		}
		kind := 0
		if h.Opcode.IsControl() {
			kind = 1
		}
		list[kind] = append(list[kind], b[:end])
		b = b[end:]
	}
	return list
}

// within reports whether part is whole with some members left out. A Close
// frame may be the gateway's own.
func within(part, whole [][]byte) bool {
	for _, f := range part {
		i := slices.IndexFunc(whole, func(w []byte) bool { return bytes.Equal(w, f) })
		if i < 0 {
			if h, _, _ := frames.ConsumeHeader(f); h.Opcode == frames.Close {
				continue
			}
			return false
		}
		whole = whole[i+1:]
	}
	return true
}
