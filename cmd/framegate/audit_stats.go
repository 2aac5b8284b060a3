package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"framegate/audit"
)

func auditStats(g *globals, dir *string) *cobra.Command {
	var f audit.Filter
	var from, to string
	var top int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Sum up the records, and say whether they add up",
		Long: "Sum up the records of a time, and hold the messages of each connection against the\n" +
			"totals of its conn.close: number, bytes and rolling hash. Exit 1 if they differ.\n" +
			"A time is RFC 3339, such as 2026-01-02T15:04:05Z, or a duration before now, such as 2h or 30d.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if top < 0 {
				return usage(fmt.Errorf("--top %d: expected 0 or more", top))
			}
			now := time.Now()
			var err error
			if f.From, err = parseTime("from", from, now); err != nil {
				return err
			}
			if f.To, err = parseTime("to", to, now); err != nil {
				return err
			}
			r, err := g.log(cmd, *dir, f)
			if err != nil {
				return err
			}
			if err := sayBeginning(cmd, r.Dir(), "", f); err != nil {
				return err
			}
			counter := audit.NewCounter()
			damaged := false
			for rec, err := range r.Records() {
				var damage *audit.DamageError
				switch {
				case errors.As(err, &damage):
					damaged = true
					printError(cmd.ErrOrStderr(), err)
				case err != nil:
					return err
				default:
					counter.Add(&rec)
				}
			}
			stats := counter.Stats(top)
			if err := printStats(cmd.OutOrStdout(), &stats, asJSON); err != nil {
				return err
			}
			var failures []error
			if damaged {
				failures = append(failures, errors.New("the log is damaged, some records are not counted"))
			}
			if stats.Differing > 0 {
				failures = append(failures, fmt.Errorf("%s whose records do not add up to conn.close", counted(stats.Differing, "connection")))
			}
			return errors.Join(failures...)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "at or after this `time`")
	flags.StringVar(&to, "to", "", "before this `time`")
	flags.StringVar(&f.Client, "client", "", "`address` or CIDR of the client")
	flags.IntVar(&top, "top", 10, "how `many` hosts, clients and rules")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStats(w io.Writer, s *audit.Stats, asJSON bool) error {
	if asJSON {
		b, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return err
		}
		_, err = w.Write(append(printableJSON(b), '\n'))
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, printable(fmt.Sprint(c)))
		}
		fmt.Fprintln(tw)
	}
	row("records", s.Records)
	if s.Records > 0 {
		row("from", s.From.UTC().Format(time.RFC3339Nano))
		row("to", s.To.UTC().Format(time.RFC3339Nano))
	}
	for _, m := range []struct {
		name   string
		counts map[string]int64
	}{{"event", s.Events}, {"action", s.Actions}, {"state", s.States}} {
		for _, name := range slices.Sorted(maps.Keys(m.counts)) {
			row(m.name+" "+name, m.counts[name])
		}
	}
	c := s.Connections
	row("connections opened", c.Opened)
	row("connections closed", c.Closed)
	row("connections open", c.Open)
	row("connections cut off by a restart", c.Cut)
	row("connections from before", c.OpenedBefore)
	row("connections compared", s.Compared)
	row("connections that differ", s.Differing)
	row("gaps", s.Gaps.Gaps)
	row("records lost in gaps", s.Gaps.Lost)
	if err := tw.Flush(); err != nil {
		return err
	}
	section := func(names ...any) { fmt.Fprintln(tw); row(names...) }
	section("DIRECTION", "MESSAGES", "BYTES", "RECORDED MESSAGES", "RECORDED BYTES")
	for _, d := range []struct {
		name string
		audit.DirectionStats
	}{{"to-server", s.ToServer}, {"to-client", s.ToClient}} {
		row(d.name, d.Messages, d.Bytes, d.RecordedMessages, d.RecordedBytes)
	}
	for _, t := range []struct {
		name string
		list []audit.Ranked
	}{{"HOST", s.Hosts}, {"CLIENT", s.Clients}} {
		if len(t.list) > 0 {
			section(t.name, "CONNECTIONS", "RECORDS")
		}
		for _, r := range t.list {
			row(r.Name, r.Connections, r.Records)
		}
	}
	if len(s.Rules) > 0 {
		section("RULE", "RECORDS", "SHADOW")
	}
	for _, r := range s.Rules {
		row(r.Name, r.Records, r.Shadow)
	}
	if len(s.Differences) > 0 {
		section("CONNECTION", "CONN.CLOSE", "DIFFERS")
	}
	for _, d := range s.Differences {
		row(d.Conn, "seq "+strconv.FormatUint(d.Seq, 10), d.What)
	}
	return tw.Flush()
}

// printableJSON escapes what JSON may hold as it is and a terminal should not
// get: names in the log are of whoever made the connection.
func printableJSON(b []byte) []byte {
	var out []byte
	for _, r := range string(b) {
		if r == '\n' || strconv.IsPrint(r) {
			out = append(out, string(r)...)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}
