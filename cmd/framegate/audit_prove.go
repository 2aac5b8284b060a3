package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"framegate/audit"
)

func auditProve(g *globals, dir *string) *cobra.Command {
	var seq uint64
	var name string
	cmd := &cobra.Command{
		Use:   "prove --seq N",
		Short: "Make a proof that a record is in the log",
		Long: "Make a proof that a record is in the log. It has all that audit verify --proof needs,\n" +
			"but for the public key: whoever checks it needs no other part of the log.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if seq == 0 {
				return usage(errors.New("--seq: expected the seq of a record, from 1"))
			}
			where, err := g.auditDir(cmd, *dir)
			if err != nil {
				return err
			}
			p, err := audit.Prove(where, seq)
			if err != nil {
				return mendable(err)
			}
			if name == "" || name == "-" {
				_, err = cmd.OutOrStdout().Write(p.Text())
				return err
			}
			return os.WriteFile(name, p.Text(), 0o600) // it has a record of the log
		},
	}
	cmd.Flags().Uint64Var(&seq, "seq", 0, "`number` of the record")
	cmd.Flags().StringVarP(&name, "output", "o", "", "write to this `file` instead of stdout")
	return cmd
}
