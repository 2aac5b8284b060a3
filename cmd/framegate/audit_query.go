package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"framegate/audit"
	"framegate/audit/format"
)

// The formats that are our own; package format has the others.
const (
	formatTable = "table"
	formatJSONL = "jsonl"
)

func formatOf(asJSON bool) string {
	if asJSON {
		return formatJSONL
	}
	return formatTable
}

func auditQuery(g *globals, dir *string) *cobra.Command {
	var s selection
	var name, key string
	var asJSON, noIndex, verify bool
	var payload payloadFlags
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Print the records that match",
		Long: "Print the records that match all of the filters.\n" +
			"A time is RFC 3339, such as 2026-01-02T15:04:05Z, or a duration before now, such as 2h or 30d.\n" +
			"With --verify each block is held against the tree that the checkpoint of the log signs: nothing\n" +
			"is printed that is not under it, and nothing under it is left out without a word.\n" +
			"A search takes less time with an index: see framegate audit index.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				if cmd.Flags().Changed("format") && name != formatJSONL {
					return usage(fmt.Errorf("--json is --format %s, and --format says %s", formatJSONL, name))
				}
				name = formatJSONL
			}
			if key != "" && !verify {
				return usage(errors.New("--key goes with --verify"))
			}
			vkey, err := readVerifierKey(key)
			if err != nil {
				return err
			}
			out, err := newFormatPrinter(cmd, name)
			if err != nil {
				return err
			}
			f, err := s.filter(time.Now())
			if err != nil {
				return err
			}
			r, err := g.log(cmd, *dir, f)
			if err != nil {
				return err
			}
			if err := sayBeginning(cmd, r.Dir(), vkey, f); err != nil {
				return err
			}
			r.NoIndex = noIndex
			if err := payload.open(out, r.Dir()); err != nil {
				return err
			}
			if verify {
				return printProved(cmd, out, r, vkey)
			}
			if err := out.print(r.Records()); err != nil {
				return err
			}
			return out.result()
		},
	}
	s.flags(cmd)
	payload.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&name, "format", formatTable, "print as `"+strings.Join(formatNames(), "|")+"`")
	flags.BoolVar(&asJSON, "json", false, "print the records as they are in the log: --format "+formatJSONL)
	flags.BoolVar(&verify, "verify", false, "prove what is printed; without an index")
	flags.StringVar(&key, "key", "", "public `key` of the log, or a file with it (default: key.pub of the log)")
	flags.BoolVar(&noIndex, "no-index", false, "look at every block, whatever the index says")
	return cmd
}

// sayBeginning says from where on the log has records, if something was removed
// that the search could have found.
func sayBeginning(cmd *cobra.Command, dir, vkey string, f audit.Filter) error {
	b, err := audit.Begins(dir, vkey)
	if err != nil || b == nil || f.From.After(b.Time) {
		return err
	}
	why := "what was before is missing, and no record says why; framegate audit verify says more"
	if b.Removal != nil {
		why = fmt.Sprintf("what was before is removed, as record %d says: %s", b.Removal.Seq, b.Removal.Reason)
	}
	say(cmd.ErrOrStderr(), "the log begins with seq %d, %s: %s", b.Seq, b.Time.Format(time.RFC3339), printable(why))
	return nil
}

// A selection is what the flags say of which records are meant.
type selection struct {
	audit.Filter
	from, to string
}

func (s *selection) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.from, "from", "", "at or after this `time`")
	flags.StringVar(&s.to, "to", "", "before this `time`")
	flags.StringVar(&s.Host, "host", "", "`name` of the server; *.example.com is all below example.com")
	flags.StringVar(&s.Client, "client", "", "`address` or CIDR of the client")
	flags.StringVar(&s.Rule, "rule", "", "`id` of a rule that matched")
	flags.StringVar(&s.Event, "event", "", "`pattern` of the event, such as ws.*")
	flags.StringVar(&s.Action, "action", "", "`action` that was taken")
	flags.StringVar(&s.Conn, "conn", "", "`id` of the connection")
	flags.StringVar(&s.Text, "text", "", "`words` anywhere in the record, capitals as they are")
}

// filter is the selection with its times.
func (s *selection) filter(now time.Time) (audit.Filter, error) {
	f := s.Filter
	var err error
	if f.From, err = parseTime("from", s.from, now); err != nil {
		return f, err
	}
	f.To, err = parseTime("to", s.to, now)
	return f, err
}

// printProved prints what the checkpoint of the log covers, and says so.
func printProved(cmd *cobra.Command, out *recordPrinter, r *audit.Reader, vkey string) error {
	c, err := r.Prove(vkey)
	if err != nil {
		return failed(fmt.Errorf("nothing can be proved: %w", err)).hint("framegate audit verify says what is wrong with the log")
	}
	if err := out.print(r.Records()); err != nil {
		return err
	}
	if err := out.result(); err != nil {
		return failed(err).hint("what is printed is proved, that it is all is not; framegate audit verify says more")
	}
	stderr := cmd.ErrOrStderr()
	say(stderr, "proved: all that match of the %s that %s has signed", counted(int64(c.Size), "block"), c.Origin)
	if vkey == "" {
		say(stderr, "the key is that of the directory: give one that was kept elsewhere with --key")
	}
	if n := r.Unproven(); n > 0 {
		say(stderr, "behind the checkpoint, and not searched: %s", counted(int64(n), "record"))
	}
	return nil
}

func formatNames() []string { return append([]string{formatTable, formatJSONL}, format.Names()...) }

// newFormatPrinter prints in the format of a name, with what comes before the
// first record.
func newFormatPrinter(cmd *cobra.Command, name string) (*recordPrinter, error) {
	p := newRecordPrinter(cmd, name)
	if name == formatTable || name == formatJSONL {
		return p, nil
	}
	var err error
	if p.foreign, err = format.New(name, currentBuild().Version); err != nil {
		return nil, usage(fmt.Errorf("--format: got %q, expected %s", name, strings.Join(formatNames(), ", ")))
	}
	_, err = p.out.WriteString(p.foreign.Header())
	return p, err
}
