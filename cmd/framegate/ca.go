package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"framegate/ca"
)

func newCACommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Make, show, export and renew the certification authority",
	}
	dir := cmd.PersistentFlags().String("dir", "", "`directory` of the authority (default: ca.dir of the configuration)")
	return group(cmd,
		caInit(g, dir),
		caShow(g, dir),
		caExport(g, dir),
		caRotate(g, dir),
		caCSR(g, dir),
		caImport(g, dir),
		caEncrypt(g, dir),
		caDecrypt(g, dir),
	)
}

func caInit(g *globals, dir *string) *cobra.Command {
	var names caNames
	var encrypt bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make root and intermediates; never overwrites",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, c, err := g.caDirConfig(cmd, *dir)
			if err != nil {
				return err
			}
			o := ca.Options{}
			names.options(cmd, &o)
			if err := c.encryptNew(cmd.Context(), &o, encrypt); err != nil {
				return err
			}
			a, err := ca.Create(d, o)
			if err != nil {
				return caFault(err)
			}
			if err := printAuthority(cmd.OutOrStdout(), a.Describe()); err != nil {
				return err
			}
			stderr := cmd.ErrOrStderr()
			say(stderr, "the authority is in %s; the gateway runs without root.key: copy it to two media, verify them, delete it here", d)
			say(stderr, "hint: framegate ca export%s > framegate-root.crt, and install that file on the devices", dirFlag(d))
			return nil
		},
	}
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt the keys with a passphrase that is asked for (default: if ca.passphrase_file is set, with that)")
	names.flags(cmd)
	return cmd
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
			for _, w := range a.Warnings() {
				say(cmd.ErrOrStderr(), "warning: %s", w)
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

// caDirConfig returns the directory that the flag names, or else the
// configuration, and the configuration.
func (g *globals) caDirConfig(cmd *cobra.Command, flag string) (string, *config, error) {
	c, err := g.load(cmd)
	if err != nil {
		return "", nil, err
	}
	if flag != "" {
		return flag, c, nil
	}
	return c.CA.Dir, c, nil
}

// authority reads the authority to show or export it.
func (g *globals) authority(cmd *cobra.Command, flag string) (*ca.Authority, error) {
	dir, _, err := g.caDirConfig(cmd, flag)
	if err != nil {
		return nil, err
	}
	a, err := ca.Load(dir, ca.Options{}) // without keys: to look at it takes no passphrase
	return a, caFault(err)
}

func printAuthority(w io.Writer, list []ca.Description) error {
	const day = "2006-01-02 15:04 MST"
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, d := range list {
		if i > 0 {
			fmt.Fprintln(tw)
		}
		fmt.Fprintf(tw, "%s\n", d.Role)
		rows := [][2]string{
			{"subject", d.Subject},
			{"sha-256", d.Fingerprint},
			{"valid", d.NotBefore.UTC().Format(day) + " to " + d.NotAfter.UTC().Format(day)},
			{"key", d.Key},
			{"certificate file", d.Path},
			{"key file", keyPlace(d)},
		}
		for _, list := range []struct {
			what  string
			names []string
		}{{"permitted", d.PermitDNS}, {"excluded", d.ExcludeDNS}} {
			if len(list.names) > 0 {
				rows = append(rows, [2]string{list.what, strings.Join(list.names, " ")})
			}
		}
		for _, row := range rows {
			fmt.Fprintf(tw, "  %s\t%s\n", row[0], printable(row[1]))
		}
	}
	return tw.Flush()
}

// keyPlace says where a key is.
func keyPlace(d ca.Description) string {
	switch d.KeyState {
	case "plain":
		return d.KeyPath
	case "encrypted":
		return d.KeyPath + " (encrypted)"
	}
	return "not here, or not readable"
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
		KeyState    string    `json:"key_state,omitempty"` // plain, encrypted
		PermitDNS   []string  `json:"permit_dns,omitempty"`
		ExcludeDNS  []string  `json:"exclude_dns,omitempty"`
	}
	var out []certificate
	for _, d := range list {
		out = append(out, certificate{
			d.Role, d.Subject, d.Serial, d.Fingerprint, d.NotBefore, d.NotAfter, d.Key, d.Path, d.KeyPath,
			d.KeyState, d.PermitDNS, d.ExcludeDNS,
		})
	}
	return json.NewEncoder(w).Encode(out)
}
