package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"framegate/audit"
)

func newAuditCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read the log",
	}
	dir := cmd.PersistentFlags().String("dir", "", "`directory` of the log (default: audit.dir of the configuration)")
	return group(cmd,
		auditTail(g, dir),
		auditQuery(g, dir),
	)
}

func auditTail(g *globals, dir *string) *cobra.Command {
	var n int
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the last records",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 {
				return usage(fmt.Errorf("-n %d: expected 0 or more", n))
			}
			r, err := g.log(cmd, *dir, audit.Filter{})
			if err != nil {
				return err
			}
			last, damage := r.Last(n)
			if last == nil && damage != nil {
				return damage
			}
			out := newRecordPrinter(cmd, asJSON)
			if err := out.print(sequence(last, damage)); err != nil {
				return err
			}
			if follow {
				out.live = true
				if err := out.print(r.Follow(cmd.Context())); err != nil {
					return err
				}
			}
			return out.result()
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", 10, "how `many` records")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the records that come")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the records as they are in the log")
	return cmd
}

func auditQuery(g *globals, dir *string) *cobra.Command {
	var f audit.Filter
	var from, to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Print the records that match",
		Long: "Print the records that match all of the filters.\n" +
			"A time is RFC 3339, such as 2026-01-02T15:04:05Z, or a duration before now, such as 2h.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
			out := newRecordPrinter(cmd, asJSON)
			if err := out.print(r.Records()); err != nil {
				return err
			}
			return out.result()
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "at or after this `time`")
	flags.StringVar(&to, "to", "", "before this `time`")
	flags.StringVar(&f.Host, "host", "", "`name` of the server; *.example.com is all below example.com")
	flags.StringVar(&f.Client, "client", "", "`address` or CIDR of the client")
	flags.StringVar(&f.Rule, "rule", "", "`id` of a rule that matched")
	flags.StringVar(&f.Event, "event", "", "`pattern` of the event, such as ws.*")
	flags.StringVar(&f.Action, "action", "", "`action` that was taken")
	flags.StringVar(&f.Conn, "conn", "", "`id` of the connection")
	flags.BoolVar(&asJSON, "json", false, "print the records as they are in the log")
	return cmd
}

// log opens the log that the flag names, or else the configuration.
func (g *globals) log(cmd *cobra.Command, dir string, f audit.Filter) (*audit.Reader, error) {
	if dir == "" {
		c, err := g.load(cmd)
		if err != nil {
			return nil, err
		}
		dir = c.Audit.Dir
	}
	// The log without the filter first: what fails after that is the filter.
	if _, err := audit.NewReader(dir, audit.Filter{}); err != nil {
		return nil, mendable(err)
	}
	r, err := audit.NewReader(dir, f)
	if err != nil {
		return nil, usage(err)
	}
	return r, nil
}

// parseTime reads a point in time; "" is the zero time.
func parseTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	ago, err := time.ParseDuration(strings.TrimSuffix(s, " ago"))
	if err != nil || ago < 0 {
		return time.Time{}, usage(fmt.Errorf("--%s: got %q, expected a time such as %s or a duration such as 2h",
			flag, s, now.UTC().Format(time.RFC3339)))
	}
	return now.Add(-ago), nil
}

// A recordPrinter prints records as a table or as they are in the log. Damage
// is told where it is met and makes the command fail in the end; what is sound
// is printed all the same.
type recordPrinter struct {
	out     *bufio.Writer
	stderr  io.Writer
	asJSON  bool
	live    bool         // show each record at once
	table   *audit.Table // nil until the first record
	damaged bool
}

func newRecordPrinter(cmd *cobra.Command, asJSON bool) *recordPrinter {
	return &recordPrinter{
		out:    bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10),
		stderr: cmd.ErrOrStderr(),
		asJSON: asJSON,
	}
}

func (p *recordPrinter) print(records iter.Seq2[audit.Record, error]) error {
	for r, err := range records {
		var damage *audit.DamageError
		switch {
		case errors.As(err, &damage):
			p.damaged = true
			printError(p.stderr, err)
			continue
		case err != nil:
			return err
		}
		if err := p.record(r); err != nil {
			return err
		}
		if p.live {
			if err := p.out.Flush(); err != nil {
				return err
			}
		}
	}
	return p.out.Flush()
}

func (p *recordPrinter) record(r audit.Record) error {
	if p.asJSON {
		_, err := p.out.Write(append(r.Raw, '\n'))
		return err
	}
	if p.table == nil {
		p.table = audit.NewTable(p.out)
		if err := p.table.Header(); err != nil {
			return err
		}
	}
	return p.table.Row(r)
}

func (p *recordPrinter) result() error {
	if p.damaged {
		return errors.New("the log is damaged, some records are missing above")
	}
	return nil
}

// sequence yields records and then err, if there is one.
func sequence(records []audit.Record, err error) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(audit.Record{}, err)
		}
	}
}
