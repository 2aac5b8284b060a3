package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"framegate/policy/gitleaks"
)

func policyImport(*globals) *cobra.Command {
	var out, action, mode string
	cmd := &cobra.Command{
		Use:   "import F",
		Short: "Make a policy of a rule file of gitleaks",
		Long: "Make a policy of a rule file of gitleaks, on stdout or in the file of -o.\n" +
			"What cannot be carried over is named on stderr, each with its reason.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if actions := []string{"allow", "log", "redact", "drop", "close"}; !slices.Contains(actions, action) {
				return usage(fmt.Errorf("--action: got %q, expected one of %s", action, strings.Join(actions, ", ")))
			}
			if mode != "enforce" && mode != "shadow" {
				return usage(fmt.Errorf("--mode: got %q, expected enforce or shadow", mode))
			}
			data, err := os.ReadFile(args[0])
			if err != nil {
				return usage(err)
			}
			result, err := gitleaks.Import(data, gitleaks.Options{File: args[0], Action: action, Shadow: mode == "shadow"})
			if err != nil {
				return usage(err)
			}
			for _, n := range result.Notes {
				say(cmd.ErrOrStderr(), "%v", n)
			}
			if result.Carried == 0 {
				return errors.New("no rule could be carried over, nothing was written")
			}
			say(cmd.ErrOrStderr(), "%d of %s carried over", result.Carried, counted(result.Rules, "rule"))
			if out != "" {
				return os.WriteFile(out, result.Policy, 0o644)
			}
			_, err = cmd.OutOrStdout().Write(result.Policy)
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the policy to this `file`")
	cmd.Flags().StringVar(&action, "action", "log", "what the rules do: allow, log, redact, drop or close")
	cmd.Flags().StringVar(&mode, "mode", "enforce", "enforce, or shadow: only record what they would do")
	return cmd
}
