package main

import (
	"errors"

	"github.com/spf13/cobra"

	"framegate/audit"
)

func auditIndex(g *globals, dir *string) *cobra.Command {
	var rebuild bool
	cmd := &cobra.Command{
		Use:   "index",
		Short: "Make queries read less",
		Long: "Make the index of the log, in its subdirectory index, or bring it up to date.\n" +
			"It is no part of the log and proves nothing; it can be deleted at any time.\n" +
			"The gateway may be running.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			where, err := g.auditDir(cmd, *dir)
			if err != nil {
				return err
			}
			var made, kept int
			var log, index int64
			damaged := false
			for s, err := range audit.Index(where, rebuild) {
				if err != nil {
					return mendable(err)
				}
				log, index = log+s.Size, index+s.Index
				if s.Kept {
					kept++
				} else {
					made++
				}
				if s.Damage != nil {
					damaged = true
					printError(cmd.ErrOrStderr(), s.Damage)
				}
			}
			say(cmd.ErrOrStderr(), "segments: %d indexed, %d were up to date; the index has %d bytes, the log %d", made, kept, index, log)
			if damaged {
				return errors.New("the log is damaged; what is behind the damage is not indexed, so that every query tells of it")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "make all of it again")
	return cmd
}
