package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"framegate/internal/lab"
)

func newDemoCommand() *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the gateway at work in a network of its own on this machine",
		Long: "Show the gateway at work: client, gateway and server in network namespaces of\n" +
			"their own, redirected by real iptables rules, with recorded traffic of real\n" +
			"services. Whatever it says it has checked; if something is not so, it says\n" +
			"that and exits with 1. It needs root, and leaves nothing behind.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, demoTime)
			defer cancel()
			err := runDemo(ctx, cmd.OutOrStdout(), keep)
			switch {
			case errors.Is(err, lab.ErrNotRoot):
				return usage(err)
			case errors.Is(err, lab.ErrNoIP):
				return usage(err).hint("apt-get install iproute2")
			}
			return mendable(err)
		},
	}
	cmd.Flags().StringVar(&keep, "keep", "", "keep configuration, authority, log and policy in `directory`")
	return cmd
}

// demoTime bounds a demo; it takes a few seconds.
const demoTime = 2 * time.Minute

// A demo is one showing.
type demo struct {
	demoNetwork
	out    io.Writer
	failed []string // claims that did not hold
	noted  int      // claims noted by later
}

func runDemo(ctx context.Context, out io.Writer, keep string) (err error) {
	d := &demo{out: out}
	if d.dir, err = demoDir(keep); err != nil {
		return err
	}
	if keep == "" {
		defer os.RemoveAll(d.dir)
	}
	defer func() {
		// Also on failure and on Ctrl-C: no namespace, rule or process stays.
		down := d.down()
		if err = errors.Join(err, down); err == nil || down != nil {
			d.section("Cleaning up")
			d.claim(down == nil, "no namespace, no rule and no process is left behind")
		}
		if keep != "" {
			d.say("\nconfiguration, authority, policy and log are kept in %s", d.dir)
		}
		if len(d.failed) > 0 {
			err = errors.Join(err, fmt.Errorf("%s of the demo did not hold, the first: %s", counted(len(d.failed), "claim"), d.failed[0]))
		}
	}()

	d.section("A network on this machine: client - gateway - server")
	if err := d.up(ctx); err != nil {
		return err
	}
	if err := d.showNetwork(ctx); err != nil {
		return err
	}
	for _, family := range []string{"tcp4", "tcp6"} {
		if err := d.showUpgrade(ctx, family); err != nil {
			return err
		}
	}
	if err := d.showTraffic(ctx); err != nil {
		return err
	}
	if err := d.showDecisions(ctx); err != nil {
		return err
	}
	if err := d.stop(ctx); err != nil {
		return err
	}
	return d.showLog()
}

// demoDir makes the directory for all files of a demo.
func demoDir(keep string) (string, error) {
	if keep == "" {
		return os.MkdirTemp("", "framegate-demo-")
	}
	if err := os.Mkdir(keep, 0o700); err != nil {
		return "", usage(err).hint("name a directory that does not exist yet")
	}
	return keep, nil
}
