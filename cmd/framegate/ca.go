package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"framegate/ca"
)

func newCACommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Make, show and export the certification authority",
	}
	dir := cmd.PersistentFlags().String("dir", "", "`directory` of the authority (default: ca.dir of the configuration)")
	return group(cmd,
		caInit(g, dir),
		caShow(g, dir),
		caExport(g, dir),
	)
}

func caInit(g *globals, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make root and intermediates; never overwrites",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := g.caDir(cmd, *dir)
			if err != nil {
				return err
			}
			a, err := ca.Create(d, ca.Options{})
			if err != nil {
				return mendable(err)
			}
			if err := printAuthority(cmd.OutOrStdout(), a.Describe()); err != nil {
				return err
			}
			stderr := cmd.ErrOrStderr()
			say(stderr, "the authority is in %s; keep its root.key secret, the gateway runs without it", d)
			where := ""
			if d != defaultConfig().CA.Dir {
				where = " --dir " + d
			}
			say(stderr, "hint: framegate ca export%s > framegate-root.crt, and install that file on the devices", where)
			return nil
		},
	}
}

func caShow(g *globals, dir *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the certificates, their fingerprints and files",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := g.authority(cmd, *dir)
			if err != nil {
				return err
			}
			if asJSON {
				return printAuthorityJSON(cmd.OutOrStdout(), a.Describe())
			}
			return printAuthority(cmd.OutOrStdout(), a.Describe())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func caExport(g *globals, dir *string) *cobra.Command {
	var target string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the root certificate as PEM",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("for") {
				return usage(errors.New("bundles for a kind of device are not supported by this version")).
					hint("without --for the root certificate is printed as PEM")
			}
			a, err := g.authority(cmd, *dir)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(a.RootPEM())
			return err
		},
	}
	cmd.Flags().StringVar(&target, "for", "", "kind of `device` (not supported yet)")
	return cmd
}

// caDir returns the directory that the flag names, or else the configuration.
func (g *globals) caDir(cmd *cobra.Command, flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	c, err := g.load(cmd)
	if err != nil {
		return "", err
	}
	return c.CA.Dir, nil
}

func (g *globals) authority(cmd *cobra.Command, flag string) (*ca.Authority, error) {
	dir, err := g.caDir(cmd, flag)
	if err != nil {
		return nil, err
	}
	a, err := ca.Load(dir, ca.Options{})
	return a, mendable(err)
}

func printAuthority(w io.Writer, list []ca.Description) error {
	const day = "2006-01-02 15:04 MST"
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, d := range list {
		if i > 0 {
			fmt.Fprintln(tw)
		}
		keyFile := d.KeyPath
		if keyFile == "" {
			keyFile = "not readable here"
		}
		fmt.Fprintf(tw, "%s\n", d.Role)
		for _, row := range [][2]string{
			{"subject", d.Subject},
			{"sha-256", d.Fingerprint},
			{"valid", d.NotBefore.UTC().Format(day) + " to " + d.NotAfter.UTC().Format(day)},
			{"key", d.Key},
			{"certificate file", d.Path},
			{"key file", keyFile},
		} {
			fmt.Fprintf(tw, "  %s\t%s\n", row[0], printable(row[1]))
		}
	}
	return tw.Flush()
}

func printAuthorityJSON(w io.Writer, list []ca.Description) error {
	type certificate struct {
		Role        string    `json:"role"`
		Subject     string    `json:"subject"`
		Serial      string    `json:"serial"`
		Fingerprint string    `json:"sha256"`
		NotBefore   time.Time `json:"not_before"`
		NotAfter    time.Time `json:"not_after"`
		Key         string    `json:"key"`
		Path        string    `json:"certificate_file"`
		KeyPath     string    `json:"key_file,omitempty"`
	}
	var out []certificate
	for _, d := range list {
		out = append(out, certificate{
			d.Role, d.Subject, d.Serial, d.Fingerprint, d.NotBefore, d.NotAfter, d.Key, d.Path, d.KeyPath,
		})
	}
	return json.NewEncoder(w).Encode(out)
}
