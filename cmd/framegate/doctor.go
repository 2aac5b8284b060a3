package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"framegate/ca"
	"framegate/intercept"
	"framegate/policy"
)

func newDoctorCommand(g *globals) *cobra.Command {
	var asJSON, noSelfTest bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check every precondition, and say what mends those that fail",
		Long: "Check every precondition of the gateway on this machine, one line each: ok, warn\n" +
			"or fail, and under it the command that mends it. It reads and changes nothing.\n" +
			"The self-test sends one WebSocket through a gateway with this configuration in a\n" +
			"network of its own, which is gone afterwards; it needs root. Some of the other\n" +
			"checks see less without root, and say so.\n" +
			"Exits 0 if nothing fails, 1 if something does, 2 if the configuration is at fault.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), doctorTime)
			defer cancel()
			var list []diagnosis
			d := &doctor{noSelfTest: noSelfTest}
			if cmd.Flags().Changed("config") {
				d.configFlag = " --config " + shellWord(g.config)
			}
			var err error
			if d.config, err = g.load(cmd); err != nil {
				list = named("config", fail("${EDITOR:-vi} "+shellWord(g.config), "%v", err))
			} else {
				list = append(named("config", d.checkConfig(g.config)), d.examine(ctx)...)
			}
			if err := errors.Join(printDiagnoses(cmd.OutOrStdout(), list, asJSON), ctx.Err()); err != nil {
				return err
			}
			if err != nil {
				return err
			}
			if n := countStatus(list, statusFail); n > 0 {
				return failed(fmt.Errorf("%s of %d failed", counted(n, "check"), len(list)))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: a list of check, status, detail, fix")
	cmd.Flags().BoolVar(&noSelfTest, "no-self-test", false, "leave the self-test out")
	return cmd
}

// doctorTime bounds an examination; one takes a few seconds.
const doctorTime = time.Minute

// A status.
const (
	statusOK   = "ok"
	statusWarn = "warn" // works, but for how long or for whom; or could not be checked
	statusFail = "fail"
)

// A diagnosis is what one check has found. Its JSON is a contract.
type diagnosis struct {
	Check  string `json:"check"` // one of [checks], or "config"
	Status string `json:"status"`
	Detail string `json:"detail"`
	// Fix is a command for a shell of root that mends it; what is behind a # in
	// it is for people. Every diagnosis that fails has one.
	Fix string `json:"fix,omitempty"`
}

func pass(format string, args ...any) diagnosis {
	return diagnosis{Status: statusOK, Detail: fmt.Sprintf(format, args...)}
}

func warn(fix, format string, args ...any) diagnosis {
	return diagnosis{Status: statusWarn, Fix: fix, Detail: fmt.Sprintf(format, args...)}
}

func fail(fix, format string, args ...any) diagnosis {
	return diagnosis{Status: statusFail, Fix: fix, Detail: fmt.Sprintf(format, args...)}
}

// A doctor examines the machine for one configuration. What one check has
// learnt and others need is in its fields.
type doctor struct {
	config     *config
	configFlag string // for a command of framegate in a fix: empty, or " --config F"
	noSelfTest bool

	gateway   *running       // nil: none runs, or none can be seen
	policy    *policy.Policy // nil: it does not load
	authority *ca.Authority  // nil: it cannot be read
	rules     intercept.Report
	rulesErr  error // why rules is empty
}

// checks are all checks, in the order in which they are made: what one needs of
// another comes later.
var checks = []struct {
	name string
	run  func(*doctor, context.Context) []diagnosis
}{
	{"policy", (*doctor).checkPolicy},
	{"gateway", (*doctor).checkGateway},
	{"ports", (*doctor).checkPorts},
	{"admin", (*doctor).checkAdmin},
	{"privileges", (*doctor).checkPrivileges},
	{"descriptors", (*doctor).checkDescriptors},
	{"memory", (*doctor).checkMemory},
	{"clock", (*doctor).checkClock},
	{"forwarding", (*doctor).checkForwarding},
	{"rp-filter", (*doctor).checkReversePath},
	{"conntrack", (*doctor).checkConntrack},
	{"outgoing", (*doctor).checkOutgoing},
	{"rules", (*doctor).checkRules},
	{"quic", (*doctor).checkQUIC},
	{"firewall", (*doctor).checkFirewall},
	{"authority", (*doctor).checkAuthority},
	{"expiry", (*doctor).checkExpiry},
	{"roots", (*doctor).checkRoots},
	{"revocation", (*doctor).checkRevocation},
	{"audit", (*doctor).checkAudit},
	{"disk", (*doctor).checkDisk},
	{"checkpoint", (*doctor).checkCheckpoint},
	{"shipping", (*doctor).checkShipping},
	{"self-test", (*doctor).checkSelf},
}

func (d *doctor) examine(ctx context.Context) []diagnosis {
	var list []diagnosis
	for _, c := range checks {
		if ctx.Err() != nil {
			break
		}
		list = append(list, named(c.name, c.run(d, ctx)...)...)
	}
	return list
}

// named puts a name to what a check has found, and makes it harmless: there are
// names of programs and files in it, and what a server said.
func named(name string, list ...diagnosis) []diagnosis {
	for i := range list {
		f := &list[i]
		f.Check = name
		f.Detail = printable(strings.ReplaceAll(strings.TrimSpace(f.Detail), "\n", "; "))
		f.Fix = printable(f.Fix)
	}
	return list
}

func printDiagnoses(w io.Writer, list []diagnosis, asJSON bool) error {
	if asJSON {
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false) // a fix has & and > in it
		return out.Encode(list)
	}
	for _, f := range list {
		if _, err := fmt.Fprintf(w, "%-4s  %-11s  %s\n", f.Status, f.Check, f.Detail); err != nil {
			return err
		}
		if f.Fix != "" {
			fmt.Fprintf(w, "%19sfix: %s\n", "", f.Fix)
		}
	}
	return nil
}

func countStatus(list []diagnosis, status string) int {
	n := 0
	for _, f := range list {
		if f.Status == status {
			n++
		}
	}
	return n
}

// command is a command of framegate with the configuration of this examination.
func (d *doctor) command(format string, args ...any) string {
	return "framegate" + d.configFlag + " " + fmt.Sprintf(format, args...)
}

// asRoot is the fix of what only root can see.
func (d *doctor) asRoot() string { return "sudo " + d.command("doctor") }

// pasteable makes a fix of a hint: what follows a command in it becomes a
// comment, and so does a hint without one.
func pasteable(hint string) string {
	switch word, _, _ := strings.Cut(hint, " "); word {
	case "framegate", "apt", "chmod", "chown", "ls", "mv":
	default:
		return "# " + hint
	}
	at := len(hint)
	for _, end := range []string{"; ", ", then ", ", or "} {
		if i := strings.Index(hint, end); i >= 0 {
			at = min(at, i)
		}
	}
	if at == len(hint) {
		return hint
	}
	return hint[:at] + "  # " + strings.TrimLeft(hint[at:], ";, ")
}

// shellWord makes one word for a shell of s.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@,=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// readText reads a small file of the kernel, without the newline at its end.
func readText(name string) (string, error) {
	b, err := os.ReadFile(name)
	return strings.TrimSpace(string(b)), err
}
