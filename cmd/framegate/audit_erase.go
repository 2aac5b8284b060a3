package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"framegate/audit"
)

func auditErase(g *globals, dir *string) *cobra.Command {
	var conn, before string
	cmd := &cobra.Command{
		Use:   "erase --conn ID | --before TIME",
		Short: "Erase sealed payloads by removing their keys",
		Long: "Remove the keys of the payloads of one connection, or all that were made\n" +
			"before a time: RFC 3339, such as 2026-01-02T15:04:05Z, or a duration before now, such as\n" +
			"400d. What they sealed cannot be read any more; the log stays as it was signed. It is\n" +
			"recorded as " + audit.AdminErase + ", by the gateway if one is running. Copies of the keys, in backups\n" +
			"and snapshots, have to be removed there.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (conn == "") == (before == "") {
				return usage(errors.New("expected one of --conn and --before"))
			}
			e := audit.Erasure{Conn: conn, By: userName(), Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))}
			var err error
			if e.Before, err = parseTime("before", before, time.Now()); err != nil {
				return err
			}
			where, err := g.auditDir(cmd, *dir)
			if err != nil {
				return err
			}
			done, err := audit.Erase(where, e)
			if errors.Is(err, os.ErrPermission) {
				return usage(err).hint("run as the user that the gateway runs as")
			}
			if err != nil {
				return err
			}
			return tellErased(cmd, &e, done)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&conn, "conn", "", "`id` of the connection")
	flags.StringVar(&before, "before", "", "of keys made before this `time`")
	return cmd
}

// takenIn is how long to wait for a gateway to take in the record.
const takenIn = 15 * time.Second

func tellErased(cmd *cobra.Command, e *audit.Erasure, done audit.Erased) error {
	stderr := cmd.ErrOrStderr()
	if done.Keys == 0 {
		if e.Conn != "" {
			return failed(fmt.Errorf("there is no key of connection %s", e.Conn)).
				hint("its payloads were not sealed, or are erased already: framegate audit query --event %s", audit.AdminErase)
		}
		say(stderr, "nothing to erase: no connection with a key began before %s", e.Before.UTC().Format(time.RFC3339))
		return nil
	}
	say(stderr, "erased the payloads of %s", counted(int64(done.Keys), "connection"))
	if done.Spooled == "" {
		return nil
	}
	for end := time.Now().Add(takenIn); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, err := os.Lstat(done.Spooled); errors.Is(err, os.ErrNotExist) {
			say(stderr, "the gateway has recorded it")
			return nil
		}
	}
	say(stderr, "the gateway has not recorded it yet; it will, from %s", done.Spooled)
	return nil
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return "user " + u.Username
	}
	return fmt.Sprintf("user %d", os.Geteuid())
}
