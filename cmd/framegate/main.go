// Command framegate is a transparent gateway that inspects WebSocket traffic.
//
// This package is the command line and nothing else: it reads the
// configuration, puts the packages together and prints what they say. Each
// subcommand has one file, and every file has the same shape: a function that
// returns the cobra command, then the functions that do its work.
//
// # What is printed where
//
// Data goes to stdout, and so may be piped. Messages for people go to stderr,
// each line starting with "framegate: ", in lower case and without a full
// stop; advice is a line of its own that starts with "hint:". Bytes that came
// from outside (names in certificates, records, files) are escaped before
// they reach a terminal.
//
// # Exit codes
//
//	0  done
//	1  failed, or the command found what it looks for: a failing test of a
//	   rule, rules that are not in place
//	2  the command line, the configuration or a precondition is at fault;
//	   nothing was changed
//
// `audit verify` also has 10 altered, 11 truncated, 12 gap, 13 bad signature,
// and `exec` has the code of the command that it ran.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes. Commands return errors; only main exits.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// A second interrupt kills: stop gives the signal its default effect back
	// as soon as the first one has arrived.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var started bool
	root := newRootCommand()
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := exitFailed
	if !started {
		code = exitUsage // cobra refused the flags or the arguments
	}
	var e *exitError
	if errors.As(err, &e) {
		code = e.code
	}
	if status, ok := err.(commandStatus); ok {
		return int(status)
	}
	printError(stderr, err)
	return code
}

func newRootCommand() *cobra.Command {
	g := new(globals)
	root := &cobra.Command{
		Use:   "framegate",
		Short: "A transparent gateway that inspects WebSocket traffic",
		Long: "A transparent gateway that inspects WebSocket traffic. iptables redirects TCP to it; it opens\n" +
			"TLS with certificates of your own authority, checks every message against rules, keeps a log\n" +
			"of every frame for audits, and forwards the original bytes.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&g.config, "config", defaultConfigFile, "configuration `file`")
	return group(root,
		newRunCommand(g),
		newDemoCommand(),
		newExecCommand(g),
		newRedirectCommand(g),
		newCACommand(g),
		newPolicyCommand(g),
		newInspectCommand(g),
		newAuditCommand(g),
		newDoctorCommand(g),
		newVersionCommand(),
	)
}

// globals holds the flags that every command takes.
type globals struct {
	config string
}

// load reads the configuration. The default file may be absent; a file that
// the caller named may not.
func (g *globals) load(cmd *cobra.Command) (*config, error) {
	c, err := loadConfig(g.config)
	if errors.Is(err, os.ErrNotExist) && !cmd.Flags().Changed("config") {
		return defaultConfig(), nil
	}
	if err != nil {
		return nil, usage(err)
	}
	return c, nil
}

// group makes parent a command that only holds others: without one of them,
// or with one that does not exist, it is a usage error.
func group(parent *cobra.Command, children ...*cobra.Command) *cobra.Command {
	parent.AddCommand(children...)
	parent.SuggestionsMinimumDistance = 2 // two letters wrong
	parent.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		err := usage(fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()))
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return err.hint("did you mean %q", strings.Join(near, `" or "`))
		}
		return err.hint("%s --help lists the commands", cmd.CommandPath())
	}
	parent.RunE = func(cmd *cobra.Command, _ []string) error {
		return usage(fmt.Errorf("%q needs a command", cmd.CommandPath())).
			hint("%s --help lists them", cmd.CommandPath())
	}
	return parent
}
