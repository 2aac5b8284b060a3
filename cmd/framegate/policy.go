package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"framegate/policy"
)

func newPolicyCommand(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:   "policy",
		Short: "Validate, test and list the rules",
		Long: "Validate, test and list the rules.\n" +
			"The files of one command make one policy; without files, those of policy.files.",
	},
		policyCheck(g),
		policyTest(g),
		policyList(g),
	)
}

func policyCheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check [F...]",
		Short: "Say every mistake as file:line:column, or that there is none",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := g.policy(cmd, args)
			if err != nil {
				return err
			}
			for _, w := range p.Warnings() {
				say(cmd.ErrOrStderr(), "warning: %v", w)
			}
			name := ""
			if p.Name() != "" {
				name = printable(p.Name()) + ", "
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %s%s, version %s\n", name, counted(len(p.Rules()), "rule"), p.Version())
			return err
		},
	}
}

func policyTest(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "test [F...]",
		Short: "Run the rules' own tests",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := g.policy(cmd, args)
			if err != nil {
				return err
			}
			results := p.RunTests()
			wrong := 0
			for _, r := range results {
				if r.Passed() {
					continue
				}
				wrong++
				line := fmt.Sprintf("%s:%d:%d: rule %q: expected %s, got %s", r.File, r.Line, r.Column, r.Rule, r.Want, r.Got)
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), printable(line)); err != nil {
					return err
				}
			}
			if wrong > 0 {
				return fmt.Errorf("%d of %s failed", wrong, counted(len(results), "test"))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %s\n", counted(len(results), "test"))
			return err
		},
	}
}

func policyList(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [F...]",
		Short: "List the rules",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := g.policy(cmd, args)
			if err != nil {
				return err
			}
			if asJSON {
				return printRulesJSON(cmd.OutOrStdout(), p.Rules())
			}
			return printRules(cmd.OutOrStdout(), p.Rules())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printRules(w io.Writer, rules []policy.Rule) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "RULE\tACTION\tMODE\tSEVERITY\tTAGS\tDESCRIPTION")
	for _, r := range rules {
		for i, cell := range []string{r.ID, r.Action.String(), modeOf(r), r.Severity, strings.Join(r.Tags, ","), r.Description} {
			if cell == "" {
				cell = "-"
			}
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, printable(cell))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

func printRulesJSON(w io.Writer, rules []policy.Rule) error {
	type rule struct {
		ID          string   `json:"id"`
		Action      string   `json:"action"`
		Mode        string   `json:"mode"`
		Severity    string   `json:"severity,omitempty"`
		Tags        []string `json:"tags,omitempty"`
		Description string   `json:"description,omitempty"`
	}
	out := []rule{}
	for _, r := range rules {
		out = append(out, rule{r.ID, r.Action.String(), modeOf(r), r.Severity, r.Tags, r.Description})
	}
	return json.NewEncoder(w).Encode(out)
}

func modeOf(r policy.Rule) string {
	if r.Shadow {
		return "shadow"
	}
	return "enforce"
}

// policy loads the files that the command line names, or else those of the
// configuration.
func (g *globals) policy(cmd *cobra.Command, files []string) (*policy.Policy, error) {
	if len(files) == 0 {
		c, err := g.load(cmd)
		if err != nil {
			return nil, err
		}
		files = c.Policy.Files
	} else if err := mustExist(files); err != nil {
		return nil, err
	}
	p, err := policy.Load(files)
	if err != nil {
		return nil, usage(err)
	}
	return p, nil
}

// mustExist refuses a pattern of the command line that no file matches: it is
// a slip, while in the configuration it is a directory without rules yet.
func mustExist(patterns []string) error {
	for _, pattern := range patterns {
		if found, err := filepath.Glob(pattern); err == nil && len(found) == 0 {
			return usage(fmt.Errorf("%s: no such file", pattern))
		}
	}
	return nil
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
