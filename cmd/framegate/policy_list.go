package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"framegate/policy"
	"framegate/policy/detect"
)

func policyList(g *globals) *cobra.Command {
	var asJSON, detectors bool
	cmd := &cobra.Command{
		Use:   "list [F...]",
		Short: "List the rules with what they match in brief, or the detectors",
		Long: "List the rules: where they hold and what they match, of each key the first value and\n" +
			"the number of the others. With --detectors, list what a rule's detect may name.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if detectors {
				if len(args) > 0 {
					return usage(errors.New("--detectors lists what is built in, expected no files"))
				}
				return printDetectors(cmd.OutOrStdout(), asJSON)
			}
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
	cmd.Flags().BoolVar(&detectors, "detectors", false, "list the detectors instead")
	return cmd
}

func printRules(w io.Writer, rules []policy.Rule) error {
	rows := [][]string{{"RULE", "ACTION", "MODE", "SEVERITY", "SCOPE", "MATCH", "TAGS", "DESCRIPTION"}}
	for _, r := range rules {
		rows = append(rows, []string{r.ID, r.Action.String(), modeOf(r), r.Severity, r.Scope, r.Match, strings.Join(r.Tags, ","), r.Description})
	}
	return printTable(w, rows)
}

func printDetectors(w io.Writer, asJSON bool) error {
	type detector struct {
		Name    string `json:"name"`
		Summary string `json:"summary"`
	}
	var list []detector
	rows := [][]string{{"DETECTOR", "FINDS"}}
	for _, d := range detect.All() {
		list = append(list, detector{d.Name, d.Summary})
		rows = append(rows, []string{d.Name, d.Summary})
	}
	if asJSON {
		return printJSON(w, list)
	}
	return printTable(w, rows)
}

// printTable prints rows in columns, "-" for a cell that is empty.
func printTable(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
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
		Scope       string   `json:"scope,omitempty"`
		Match       string   `json:"match,omitempty"`
		Tags        []string `json:"tags,omitempty"`
		Description string   `json:"description,omitempty"`
	}
	out := []rule{}
	for _, r := range rules {
		out = append(out, rule{r.ID, r.Action.String(), modeOf(r), r.Severity, r.Scope, r.Match, r.Tags, r.Description})
	}
	return printJSON(w, out)
}

// printJSON prints v on one line, < and > as they are.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func modeOf(r policy.Rule) string {
	if r.Shadow {
		return "shadow"
	}
	return "enforce"
}
