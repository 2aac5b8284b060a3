package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"framegate/intercept"
)

func newRedirectCommand(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:   "redirect",
		Short: "Set, remove and show the iptables rules that bring traffic here",
	},
		redirectUp(g),
		redirectDown(),
		redirectShow(g),
		redirectStatus(g),
	)
}

func redirectUp(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Install the rules, for IPv4 and IPv6 or not at all",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rules, err := g.rules(cmd)
			if err != nil {
				return err
			}
			if err := intercept.Up(cmd.Context(), intercept.Exec{}, rules); err != nil {
				return mendable(err)
			}
			say(cmd.ErrOrStderr(), "the redirect rules are up, TCP to ports %s goes to port %d",
				strings.Trim(fmt.Sprint(rules.Ports), "[]"), rules.ListenPort)
			return nil
		},
	}
}

// redirectDown reads no configuration: whatever has become of it, the rules
// can be removed.
func redirectDown() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the rules, all of ours and nothing else",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := intercept.Down(cmd.Context(), intercept.Exec{}); err != nil {
				return mendable(err)
			}
			say(cmd.ErrOrStderr(), "the redirect rules are down")
			return nil
		},
	}
}

func redirectShow(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Print the rules as a script that does what up does",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rules, err := g.rules(cmd)
			if err != nil {
				return err
			}
			script, err := intercept.Show(rules)
			if err != nil {
				return usage(err)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), script)
			return err
		},
	}
}

func redirectStatus(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Compare the rules that are installed with those of the configuration",
		Long: "Compare the rules that are installed with those of the configuration.\n" +
			"Exits 0 if they are the same and 1 if some or all are missing or others are there.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rules, err := g.rules(cmd)
			if err != nil {
				return err
			}
			report, err := intercept.Status(cmd.Context(), intercept.Exec{}, rules)
			if err != nil {
				return mendable(err)
			}
			if err := printStatus(cmd.OutOrStdout(), report, asJSON); err != nil {
				return err
			}
			if report.State != intercept.StateUp {
				return failed(fmt.Errorf("the redirect rules are %s", report.State)).hint("framegate redirect up")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStatus(w io.Writer, report intercept.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(report)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "FAMILY\tSTATE\tREDIRECTED\tREJECTED")
	for _, f := range report.Families {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\n", f.Family, f.State, f.Captured, f.Rejected)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, f := range report.Families {
		for _, line := range f.Detail {
			if _, err := fmt.Fprintf(w, "%s: %s\n", f.Family, printable(line)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rules loads the configuration and returns what it says about the rules.
func (g *globals) rules(cmd *cobra.Command) (intercept.Rules, error) {
	c, err := g.load(cmd)
	if err != nil {
		return intercept.Rules{}, err
	}
	return c.rules()
}

var errListenPorts = errors.New("the addresses have different ports, and rules redirect to one")

// rules returns what [intercept] says about the rules. A configuration from
// parseConfig gives no error.
func (c *config) rules() (intercept.Rules, error) {
	rules := intercept.Rules{
		Mode:       c.Intercept.Mode,
		Ports:      c.Intercept.Ports,
		Interfaces: c.Intercept.Interfaces,
		Exclude:    c.Intercept.Exclude,
		Mark:       c.Intercept.Mark,
		QUIC:       c.Intercept.QUIC,
	}
	for _, address := range c.Intercept.Listen {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return rules, err
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return rules, err
		}
		if rules.ListenPort != 0 && rules.ListenPort != uint16(n) {
			return rules, errListenPorts
		}
		rules.ListenPort = uint16(n)
	}
	return rules, rules.Validate()
}
