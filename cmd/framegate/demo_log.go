package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"framegate/audit"
)

// A demoRecord is what the demo looks at in a record.
type demoRecord struct {
	audit.Record
	Server string `json:"server"`
	Frames int    `json:"frames"`
	SHA256 string `json:"sha256"`
	Totals map[string]struct {
		Messages int64 `json:"messages"`
	} `json:"totals"` // by direction
}

func (r demoRecord) size() string {
	if r.Opcode == "" {
		return "-"
	}
	return strconv.FormatInt(r.Size, 10)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// readLog returns the records of the gateway's log so far.
func (d *demoNetwork) readLog() ([]demoRecord, error) {
	r, err := audit.NewReader(d.auditDir(), audit.Filter{})
	if err != nil {
		return nil, err
	}
	var list []demoRecord
	for rec, err := range r.Records() {
		if err != nil {
			return list, err
		}
		full := demoRecord{Record: rec}
		if err := json.Unmarshal(rec.Raw, &full); err != nil {
			return list, err
		}
		full.Raw = rec.Raw
		list = append(list, full)
	}
	return list, nil
}

// recordsOf waits until the connection that client made is closed in the log,
// and returns its records.
func (d *demoNetwork) recordsOf(ctx context.Context, client net.Addr) ([]demoRecord, error) {
	for {
		all, err := d.readLog()
		if err != nil {
			return nil, err
		}
		conn := ""
		for _, r := range all {
			if r.Client == client.String() {
				conn = r.Conn
			}
		}
		var list []demoRecord
		for _, r := range all {
			if conn != "" && r.Conn == conn {
				list = append(list, r)
			}
		}
		if countOf(list, audit.ConnClose) > 0 {
			return list, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no conn.close of %s in the log: %w", client, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func countOf(list []demoRecord, event string) int {
	n := 0
	for _, r := range list {
		if r.Event == event {
			n++
		}
	}
	return n
}

// first returns the first record of an event, or a zero one.
func first(list []demoRecord, event string) demoRecord {
	for _, r := range list {
		if r.Event == event {
			return r
		}
	}
	return demoRecord{}
}

// showLog shows some lines of the finished log, and that its totals agree.
func (d *demo) showLog() error {
	list, err := d.readLog()
	if err != nil {
		return err
	}
	d.section("The log: one JSON object a line, as framegate audit query --json prints it")
	for _, event := range []string{audit.PolicyLoad, audit.ConnOpen, audit.WSOpen, audit.WSMessage, audit.WSViolation, audit.WSClose, audit.ConnBypass, audit.TLSFail, audit.ConnClose} {
		if r := first(list, event); r.Event != "" {
			d.say("  %s", r.Raw)
		}
	}
	for _, action := range []string{"drop", "close"} {
		for _, r := range list {
			if r.Event == audit.WSMessage && r.Action == action {
				d.say("  %s", r.Raw)
				break
			}
		}
	}

	d.section("Totals")
	states := map[string]int{}
	opened := map[string]bool{}
	var messages, counted int64
	for i, r := range list {
		switch r.Event {
		case audit.ConnOpen:
			opened[r.Conn] = true
		case audit.ConnClose:
			states[r.State]++
			delete(opened, r.Conn)
			for _, t := range r.Totals {
				counted += t.Messages
			}
		case audit.WSMessage:
			messages++
		}
		if r.Seq != uint64(i)+list[0].Seq {
			d.claim(false, "the sequence of the log has a gap at %d", r.Seq)
		}
	}
	d.table("event\trecords", func(w io.Writer) {
		for _, event := range []string{audit.ConnOpen, audit.WSOpen, audit.WSMessage, audit.WSControl, audit.WSViolation, audit.WSClose, audit.ConnBypass, audit.ConnBlock, audit.TLSFail, audit.ConnClose} {
			fmt.Fprintf(w, "%s\t%d\n", event, countOf(list, event))
		}
	})
	d.say("")
	d.table("ended as\tconnections", func(w io.Writer) {
		for _, state := range []string{audit.StateInspected, audit.StateBypassed, audit.StateBlocked, audit.StateOpaque, audit.StateFailed} {
			fmt.Fprintf(w, "%s\t%d\n", state, states[state])
		}
	})
	d.say("")
	d.claim(len(opened) == 0 && countOf(list, audit.ConnOpen) == countOf(list, audit.ConnClose), "every connection that was opened was closed, in exactly one state")
	d.claim(messages == counted && messages > 0, "the records of %d messages agree with the totals of their connections", messages)
	d.claim(list[len(list)-1].Event == audit.GatewayStop, "the gateway has drained, and its last record says so")
	return nil
}

// section starts a part of the showing.
func (d *demo) section(format string, args ...any) {
	title := fmt.Sprintf(format, args...)
	fmt.Fprintf(d.out, "\n%s\n%s\n", title, strings.Repeat("-", len(title)))
}

// say prints a line, with what outsiders control made harmless.
func (d *demo) say(format string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		fmt.Fprintln(d.out, printable(line))
	}
}

// indented prints the lines of an HTTP head.
func (d *demo) indented(prefix, head string) {
	for line := range strings.SplitSeq(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n") {
		d.say("%s%s", prefix, strings.ReplaceAll(line, "\t", `\t`))
	}
}

// table prints rows in columns.
func (d *demo) table(head string, rows func(w io.Writer)) {
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  "+head)
	rows(indent{w})
	w.Flush()
}

// indent moves each write, which is one row, to the right.
type indent struct{ w io.Writer }

func (i indent) Write(p []byte) (int, error) {
	_, err := i.w.Write(append([]byte("  "), p...))
	return len(p), err
}

// claim says something that was checked. A claim that does not hold makes the
// demo fail.
func (d *demo) claim(holds bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	mark := "ok  "
	if !holds {
		mark = "NOT "
		d.failed = append(d.failed, text)
	}
	d.say("  %s%s", mark, text)
}

// later notes a claim of a table that is being printed: the claims that hold
// are in the table already.
func (d *demo) later(holds bool, format string, args ...any) {
	d.noted++
	if !holds {
		d.failed = append(d.failed, fmt.Sprintf(format, args...))
	}
}

// flushClaims says how the noted claims came out.
func (d *demo) flushClaims() {
	for _, f := range d.failed {
		d.say("  NOT %s", f)
	}
	if len(d.failed) == 0 {
		d.say("\n  ok  %d checks of the verdicts, the frames and the records above hold", d.noted)
	}
}
