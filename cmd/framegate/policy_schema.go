package main

import (
	"github.com/spf13/cobra"

	"framegate/policy"
)

func policyJSONSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a policy file, for editors",
		Long: "Print the JSON Schema of a policy file, for editors that know Taplo or Even Better TOML.\n" +
			"Write it to a file, and begin each policy file with \"#:schema\" and the way to it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(policy.Schema)
			return err
		},
	}
}
