package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"framegate/audit"
	"framegate/audit/format"
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
		auditExport(g, dir),
		auditStats(g, dir),
		auditIndex(g, dir),
		auditVerify(g, dir),
		auditProve(g, dir),
		auditErase(g, dir),
	)
}

func auditTail(g *globals, dir *string) *cobra.Command {
	var n int
	var follow, asJSON bool
	var payload payloadFlags
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
			out := newRecordPrinter(cmd, formatOf(asJSON))
			if err := payload.open(out, r.Dir()); err != nil {
				return err
			}
			last, damage := r.Last(n)
			if last == nil && damage != nil {
				return damage
			}
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
	payload.add(cmd)
	return cmd
}

// log opens the log that the flag names, or else the configuration.
func (g *globals) log(cmd *cobra.Command, dir string, f audit.Filter) (*audit.Reader, error) {
	dir, err := g.auditDir(cmd, dir)
	if err != nil {
		return nil, err
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
	var ago time.Duration
	var err error
	s, _ = strings.CutSuffix(s, " ago")
	if digits, ok := strings.CutSuffix(s, "d"); ok { // as audit.keep has it
		var days uint64
		days, err = strconv.ParseUint(digits, 10, 16)
		ago = time.Duration(days) * 24 * time.Hour
	} else {
		ago, err = time.ParseDuration(s)
	}
	if err != nil || ago < 0 {
		return time.Time{}, usage(fmt.Errorf("--%s: got %q, expected a time such as %s or a duration such as 2h or 30d",
			flag, s, now.UTC().Format(time.RFC3339)))
	}
	return now.Add(-ago), nil
}

// A recordPrinter prints records as a table, as they are in the log, or in the
// words of another system. Damage is told where it is met and makes the command
// fail in the end; what is sound is printed all the same.
type recordPrinter struct {
	out      *bufio.Writer
	stderr   io.Writer
	format   string          // formatTable, formatJSONL or a name of package format
	foreign  *format.Format  // nil: one of the first two
	payloads *audit.Payloads // nil: they are not printed
	buf      []byte
	live     bool         // show each record at once
	table    *audit.Table // nil until the first record
	damaged  bool
}

func newRecordPrinter(cmd *cobra.Command, format string) *recordPrinter {
	return &recordPrinter{
		out:    bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10),
		stderr: cmd.ErrOrStderr(),
		format: format,
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
	switch {
	case p.foreign != nil:
		p.buf = p.foreign.Append(p.buf[:0], &r)
		_, err := p.out.Write(p.buf)
		return err
	case p.format == formatJSONL && p.payloads != nil:
		p.buf = append(p.payloads.AppendLine(p.buf[:0], &r), '\n')
		_, err := p.out.Write(p.buf)
		return err
	case p.format == formatJSONL:
		_, err := p.out.Write(append(r.Raw, '\n'))
		return err
	}
	if p.table == nil {
		p.table = audit.NewTable(p.out)
		if err := p.table.Header(); err != nil {
			return err
		}
	}
	if err := p.table.Row(r); err != nil || p.payloads == nil {
		return err
	}
	return printPayload(p.out, p.payloads, &r)
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
