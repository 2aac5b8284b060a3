package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"framegate/policy"
)

func newPolicyCommand(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:   "policy",
		Short: "Validate, test, explain and list the rules",
		Long: "Validate, test, explain and list the rules.\n" +
			"The files of one command make one policy; without files, those of policy.files.",
	},
		policyCheck(g),
		policyTest(g),
		policyExplain(g),
		policyList(g),
		policyImport(g),
		policyJSONSchema(),
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
			if len(p.Rules()) == 0 {
				say(cmd.ErrOrStderr(), "warning: %s", noRules)
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
