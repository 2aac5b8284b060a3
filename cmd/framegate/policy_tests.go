package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"framegate/policy"
)

func policyTest(g *globals) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "test [F...]",
		Short: "Run the rules' own tests, and files of cases",
		Long: "Run the rules' own tests, each [[rule.test]] against its rule alone, and the cases of the files\n" +
			"that --cases names, each [[case]] against the whole policy.",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := g.policy(cmd, args)
			if err != nil {
				return err
			}
			if err := mustExist(files); err != nil {
				return err
			}
			cases, err := p.LoadCases(files)
			if err != nil {
				return usage(err)
			}
			tests, results := p.RunTests(), p.RunCases(cases)
			wrong, err := printTests(cmd.OutOrStdout(), tests)
			if err != nil {
				return err
			}
			wrongCases, err := printCases(cmd.OutOrStdout(), results)
			if err != nil {
				return err
			}
			all, failed := counted(len(tests), "test"), fmt.Sprintf("%d of %s", wrong, counted(len(tests), "test"))
			if len(tests) == 0 {
				all = "no tests"
			}
			if files != nil {
				all += ", " + counted(len(results), "case")
				failed += fmt.Sprintf(", %d of %s", wrongCases, counted(len(results), "case"))
			}
			if wrong+wrongCases > 0 {
				return errors.New(failed + " failed")
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %s\n", all)
			return err
		},
	}
	cmd.Flags().StringArrayVar(&files, "cases", nil, "`file` of cases, or a pattern of such; may be repeated")
	return cmd
}

// printTests prints the tests that failed, each with what it expects and what
// came out, and returns their number.
func printTests(w io.Writer, results []policy.TestResult) (wrong int, err error) {
	for _, r := range results {
		if r.Passed() {
			continue
		}
		wrong++
		at := fmt.Sprintf("%s:%d:%d: rule %q", r.File, r.Line, r.Column, r.Rule)
		if err := printDiff(w, at, []policy.Difference{{Key: "expect", Want: r.Want, Got: r.Got}}); err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}

// printCases is printTests for cases.
func printCases(w io.Writer, results []policy.CaseResult) (wrong int, err error) {
	for _, r := range results {
		if r.Passed() {
			continue
		}
		wrong++
		at := fmt.Sprintf("%s:%d:%d: case", r.File, r.Line, r.Column)
		if r.Name != "" {
			at += fmt.Sprintf(" %q", r.Name)
		}
		if err := printDiff(w, at, r.Differences); err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}

// printDiff prints what was expected after "-", and what came out after "+".
func printDiff(w io.Writer, at string, differences []policy.Difference) error {
	lines := []string{at}
	for _, d := range differences {
		lines = append(lines, fmt.Sprintf("  - %s: %s", d.Key, d.Want), fmt.Sprintf("  + %s: %s", d.Key, d.Got))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, printable(line)); err != nil {
			return err
		}
	}
	return nil
}
