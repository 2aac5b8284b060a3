package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"framegate/ca"
)

func newExecCommand(g *globals) *cobra.Command {
	x := new(execution)
	var files, ports []string
	cmd := &cobra.Command{
		Use:   "exec [flags] -- CMD [ARG]...",
		Short: "Run one command with only its traffic intercepted",
		Long: "Run one command in a network of its own, with a gateway of its own and its trust set up.\n" +
			"All TCP of the command goes through the gateway, that to services on the loopback of this\n" +
			"machine included; UDP but DNS is refused. No rule, route or file of this machine changes,\n" +
			"and nothing is left behind. It needs root; with sudo the command runs as the user who\n" +
			"called it. The exit code is the command's, 128 and its number for a signal, or 2 if the\n" +
			"command was not run. Of the configuration, addresses, audit.dir and shipping do not apply.",
		Example: "  sudo framegate exec -- python3 client.py\n" +
			"  sudo framegate exec --policy rules.toml --dir log -- node app.js",
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(errors.New("no command to run")).hint("framegate exec -- CMD [ARG]...")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if x.ports, err = execPorts(ports); err != nil {
				return err
			}
			source := configSource{file: g.config, optional: !cmd.Flags().Changed("config"), policies: files}
			if x.config, err = source.load(); err != nil {
				return err
			}
			if x.program, err = execProgram(args[0]); err != nil {
				return err
			}
			x.args, x.stderr = args, cmd.ErrOrStderr()
			if os.Geteuid() != 0 {
				return usage(errors.New("a network for the command takes root")).
					hint("sudo framegate exec -- %s", args[0])
			}
			// An interrupt is for the command: it does not end us.
			return x.run(context.WithoutCancel(cmd.Context()))
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // the flags of the command are its own
	flags.StringArrayVar(&files, "policy", nil, "policy `file` or glob instead of policy.files; may be repeated")
	flags.StringSliceVar(&ports, "ports", nil, "intercept these TCP `ports` only; what goes to others passes unseen (default all)")
	flags.StringVar(&x.dir, "dir", "", "keep the log in this `directory`, or add to the one that is there")
	flags.BoolVar(&x.quiet, "quiet", false, "no summary at the end")
	flags.BoolVar(&x.verbose, "verbose", false, "print what the gateway says as it happens")
	return cmd
}

// An execution is one run of a command.
type execution struct {
	config         *config
	program        string // path of the command
	args           []string
	ports          []uint16 // that are intercepted; nil: all
	dir            string   // of the log; "": one that is thrown away
	quiet, verbose bool
	stderr         io.Writer

	temporary string // what is gone afterwards: authority, trust, log
	began     time.Time
	env       []string // of the command, before ours is added
	user      *execUser
}

// A commandStatus is how the command of exec has ended. It has said itself what
// there is to say.
type commandStatus int

func (s commandStatus) Error() string { return fmt.Sprintf("the command exited with %d", int(s)) }

// execPorts reads --ports.
func execPorts(list []string) (ports []uint16, err error) {
	for _, s := range list {
		n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
		if err != nil || n == 0 {
			return nil, usage(fmt.Errorf("--ports %s: expected numbers from 1 to 65535, such as 80,443", s))
		}
		ports = append(ports, uint16(n))
	}
	return ports, nil
}

// execProgram finds the command as a shell would.
func execProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot):
		return filepath.Abs(path)
	case errors.Is(err, fs.ErrPermission):
		return "", usage(fmt.Errorf("%s: not executable", name)).hint("chmod +x, or name its interpreter: framegate exec -- sh %s", name)
	case strings.Contains(name, "/"):
		return "", usage(fmt.Errorf("%s: %w", name, errors.Unwrap(err))).hint("the path of the command is wrong, or it is no program")
	}
	return "", usage(fmt.Errorf("%s: command not found", name)).
		hint("it is not in PATH, which sudo may have changed: name it by its path")
}

// prepare makes of the configuration that of a gateway for one command. What
// tells of a gateway in the network does not apply: its addresses, and where its
// records go.
func (x *execution) prepare() (err error) {
	x.began = time.Now()
	if x.temporary, err = os.MkdirTemp("", "framegate-exec-"); err != nil {
		return err
	}
	if err := os.Chmod(x.temporary, 0o711); err != nil { // the command reads what it is to trust
		return err
	}
	c := x.config
	c.Intercept.Mode, c.Intercept.Listen, c.Intercept.Explicit, c.Admin.Listen = "redirect", nil, "", ""
	c.Ship.CheckpointTo, c.Ship.To, c.Audit.PcapDir = nil, nil, ""
	c.Limits.DrainTimeout, c.Limits.DrainSpread = time.Second, 0
	if x.dir == "" {
		c.Audit.Dir = filepath.Join(x.temporary, "audit")
	} else if c.Audit.Dir, err = filepath.Abs(x.dir); err != nil {
		return err
	}
	if _, err := ca.Load(c.CA.Dir, ca.Options{Passphrase: c.caPassphrase()}); errors.Is(err, ca.ErrNoAuthority) {
		c.CA.Dir, c.CA.PassphraseFile = filepath.Join(x.temporary, "ca"), ""
		if _, err := ca.Create(c.CA.Dir, ca.Options{}); err != nil {
			return err
		}
	}
	x.env = os.Environ()
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name) // what systemd offers is for the command
	}
	x.user = callingUser()
	x.env = x.user.environment(x.env)
	return nil
}

// run runs the command from the first preparation to the last trace.
func (x *execution) run(ctx context.Context) (err error) {
	defer func() {
		if left := os.RemoveAll(x.temporary); left != nil { // "" is nothing
			err = errors.Join(err, left)
		}
	}()
	signals := forwardedSignals()
	defer signals.stop()
	if err := x.prepare(); err != nil {
		return err
	}
	console := &heldConsole{out: x.stderr, through: x.verbose}
	gw, err := newGateway(ctx, x.config, nil, console)
	if err != nil {
		return mendable(err)
	}
	status, err := x.serve(ctx, gw, signals)
	console.release()
	if err != nil {
		return err
	}
	if !x.quiet {
		if err := x.summary(len(gw.policy.Load().Rules()) == 0); err != nil {
			return err
		}
	}
	if status != 0 {
		return commandStatus(status)
	}
	return nil
}

// serve runs gw, which it ends, for as long as the command runs.
func (x *execution) serve(ctx context.Context, gw *gateway, signals signalRelay) (status int, err error) {
	served := false
	defer func() {
		if !served {
			gw.close()
		}
	}()
	resolvers, err := systemResolvers("/etc/resolv.conf")
	if err != nil {
		return 0, err
	}
	ns, err := newExecNamespace(ctx, resolvers)
	if err != nil {
		if e := (*exitError)(nil); !errors.As(err, &e) {
			err = mendable(err)
		}
		return 0, err
	}
	defer ns.close()
	ln := &commandListener{Listener: ns.listener, ports: x.ports, gateway: gw}
	defer ln.end()
	if err := gw.use(inherited{Name: redirectedSocket, ln: ln}); err != nil {
		return 0, err
	}
	trust, err := newExecTrust(filepath.Join(x.temporary, "trust"), gw.authority.Load(), x.env)
	if err != nil {
		return 0, err
	}
	command := &exec.Cmd{
		Path: x.program, Args: x.args, Env: slices.Concat(x.env, trust.env),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if err := signals.early(); err != nil {
		return 0, err
	}
	if err := ns.start(command, x.user, trust.mounts); err != nil {
		return 0, err
	}
	// Nothing of the command has been read yet.
	if _, err := seal(); err != nil {
		ns.killAll()
		return 0, err
	}
	served = true
	return x.accompany(gw, ns, command, signals)
}
