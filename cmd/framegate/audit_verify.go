package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"framegate/audit"
)

// faultCodes are the exit codes of audit verify, 0 apart: intact.
var faultCodes = map[audit.Fault]int{
	audit.Altered:   10,
	audit.Truncated: 11,
	audit.Missing:   12,
	audit.Unsigned:  13,
}

func auditVerify(g *globals, dir *string) *cobra.Command {
	var key, proof string
	var old, witnesses []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Say whether the log is what was written",
		Long: "Say whether the log is what was written: which range is intact, and the first place that is not.\n" +
			"A checkpoint that was kept elsewhere shows whether the log was rewritten since.\n" +
			"Exit codes: 0 intact, 10 altered, 11 truncated, 12 blocks missing in the middle, 13 bad signature,\n" +
			"1 the log cannot be read, 2 usage.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if proof != "" && len(old)+len(witnesses) > 0 {
				return usage(errors.New("--proof has a checkpoint of its own: it does not go with --checkpoint and --witness-key"))
			}
			vkey, err := readVerifierKey(key)
			if err != nil {
				return err
			}
			if proof != "" {
				return g.verifyProof(cmd, *dir, proof, vkey, asJSON)
			}
			o := audit.VerifyOptions{Key: vkey}
			for _, s := range witnesses {
				w, err := readWitnessKey(s)
				if err != nil {
					return err
				}
				o.Witnesses = append(o.Witnesses, w)
			}
			if len(witnesses) > 0 && len(old) == 0 {
				return usage(errors.New("--witness-key needs the checkpoint that the witness cosigned")).
					hint("give it with --checkpoint; framegate keeps it in the directory witness of the log")
			}
			for _, name := range old {
				b, err := os.ReadFile(name)
				if err != nil {
					return usage(err)
				}
				o.Old = append(o.Old, b)
			}
			where, err := g.auditDir(cmd, *dir)
			if err != nil {
				return err
			}
			r, err := audit.Verify(where, o)
			if err != nil {
				return mendable(err)
			}
			if err := printReport(cmd.OutOrStdout(), &r, asJSON); err != nil {
				return err
			}
			return faultError(r.Findings)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&key, "key", "", "public `key` of the log, or a file with it (default: key.pub of the log)")
	flags.StringArrayVar(&old, "checkpoint", nil, "`file` with checkpoints that were kept elsewhere, or syslog lines with them; may be repeated")
	flags.StringArrayVar(&witnesses, "witness-key", nil, "public `key` of a witness that must have cosigned a --checkpoint, or a file with it; may be repeated")
	flags.StringVar(&proof, "proof", "", "verify the proof in this `file` instead")
	flags.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

// auditDir is the directory that the flag names, or else the configuration.
func (g *globals) auditDir(cmd *cobra.Command, dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	c, err := g.load(cmd)
	if err != nil {
		return "", err
	}
	return c.Audit.Dir, nil
}

// readVerifierKey takes a key, or the name of a file that has one.
func readVerifierKey(s string) (string, error) {
	if s == "" || audit.CheckKey(s) == nil {
		return s, nil
	}
	b, err := os.ReadFile(s)
	if err != nil {
		return "", usage(fmt.Errorf("--key: neither a public key nor a file: %w", err))
	}
	key := strings.TrimSpace(string(b))
	if err := audit.CheckKey(key); err != nil {
		return "", usage(fmt.Errorf("--key %s: %w", s, err))
	}
	return key, nil
}

// readWitnessKey takes the key of a witness, or the name of a file that has one.
func readWitnessKey(s string) (*audit.Witness, error) {
	w, err := audit.ParseWitness(s)
	if err == nil {
		return w, nil
	}
	b, readErr := os.ReadFile(s)
	if readErr != nil {
		return nil, usage(fmt.Errorf("--witness-key: %w, or a file with it", err))
	}
	if w, err = audit.ParseWitness(strings.TrimSpace(string(b))); err != nil {
		return nil, usage(fmt.Errorf("--witness-key %s: %w", s, err))
	}
	return w, nil
}

func (g *globals) verifyProof(cmd *cobra.Command, dir, name, vkey string, asJSON bool) error {
	ofLog := vkey == ""
	if ofLog {
		where, err := g.auditDir(cmd, dir)
		if err != nil {
			return err
		}
		if vkey, err = audit.ReadKey(where); err != nil {
			return usage(fmt.Errorf("no --key, and %w", err))
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return usage(err)
	}
	p, err := audit.ParseProof(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c, finding := p.Check(vkey)
	if finding != nil {
		finding.Place = name
		return faultError([]audit.Finding{*finding})
	}
	if ofLog {
		say(cmd.ErrOrStderr(), "the key is that of the directory: give one that was kept elsewhere with --key")
	}
	out := cmd.OutOrStdout()
	if asJSON {
		return json.NewEncoder(out).Encode(struct {
			Record     json.RawMessage  `json:"record"`
			Checkpoint audit.Checkpoint `json:"checkpoint"`
		}{p.Record, c})
	}
	fmt.Fprintf(out, "proved: the record is in block %d of %s, which had %d blocks when it was signed\n", p.Block, printable(c.Origin), c.Size)
	_, err = fmt.Fprintf(out, "%s\n", printable(string(p.Record)))
	return err
}

// faultError says the first finding, with its exit code.
func faultError(findings []audit.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	f := findings[0]
	return &exitError{code: faultCodes[f.Fault], err: fmt.Errorf("%s: %s: %s", faultWords[f.Fault], f.Place, f.Reason)}
}

var faultWords = map[audit.Fault]string{
	audit.Altered:   "altered",
	audit.Truncated: "truncated",
	audit.Missing:   "gap",
	audit.Unsigned:  "bad signature",
}

// shownFindings is how many findings and losses people get to see.
const shownFindings = 20

func printReport(w io.Writer, r *audit.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	if r.Log != "" {
		line("log", "%s", r.Log)
	}
	if c := r.Checkpoint; c != nil {
		line("checkpoint", "%d blocks, root %s, compared with %d others", c.Size, c.Root, r.Compared)
	}
	for _, w := range r.Witnessed {
		line("witnessed", "%d blocks by %s at %s", w.Size, w.Witness, w.Time.Format(time.RFC3339))
	}
	if r.ExpiredBlocks > 0 {
		line("expired", "blocks 0 to %d, seq 1 to %d, removed as recorded", r.ExpiredBlocks-1, r.ExpiredSeq)
	}
	for i, e := range r.Expired {
		if hidden := len(r.Expired) - shownFindings; i < hidden { // the newest say most
			if i == 0 {
				line("", "%d earlier removals", hidden)
			}
			continue
		}
		missing := ""
		if e.Missing > 0 {
			missing = fmt.Sprintf("; %d of the blocks were missing already", e.Missing)
		}
		line("", "blocks %d to %d, seq %d to %d, %s to %s, removed at %s, as seq %d says: %s%s", e.FirstBlock, e.LastBlock, e.FirstSeq, e.LastSeq,
			e.From.Format(time.RFC3339Nano), e.To.Format(time.RFC3339Nano), e.Time.Format(time.RFC3339Nano), e.Seq, e.Reason, missing)
	}
	line("intact", "%s", spanText(r.Intact))
	if r.Unrooted > 0 {
		line("", "%d of these blocks are older than the tree: proved is what they were when it was begun", r.Unrooted)
	}
	if r.Uncovered.Blocks > 0 {
		line("not covered", "%s", spanText(r.Uncovered))
	}
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
	for i, l := range r.Losses {
		if i == shownFindings {
			line("loss", "and %d more", len(r.Losses)-i)
			break
		}
		count := ""
		if l.Count > 0 {
			count = fmt.Sprintf("%d records lost: ", l.Count)
		}
		line("loss", "recorded by the log itself, seq %d: %s%s", l.Seq, count, l.Reason)
	}
	for i, f := range r.Findings {
		if i == shownFindings {
			line("and more", "%d findings", len(r.Findings)-i)
			break
		}
		line(faultWords[f.Fault], "%s: %s", f.Place, f.Reason)
	}
	_, err := fmt.Fprintf(w, "%-12s %s\n", "verdict", r.Verdict)
	return err
}

func spanText(s audit.Span) string {
	if s.Blocks == 0 {
		return "nothing"
	}
	return fmt.Sprintf("blocks %d to %d, seq %d to %d, %s to %s", s.FirstBlock, s.FirstBlock+s.Blocks-1,
		s.FirstSeq, s.LastSeq, s.From.Format(time.RFC3339Nano), s.To.Format(time.RFC3339Nano))
}
