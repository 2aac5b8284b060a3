package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"framegate/audit"
)

// payloadFlags are those of commands that print payloads.
type payloadFlags struct {
	show       bool
	identities []string
}

func (f *payloadFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.show, "payload", false, "print the payloads, too")
	addIdentities(cmd, &f.identities)
}

func addIdentities(cmd *cobra.Command, identities *[]string) {
	cmd.Flags().StringArrayVar(identities, "identity", nil, "`file` of age identities that open payloads; may be repeated")
}

// open makes p print payloads if the flags say so.
func (f *payloadFlags) open(p *recordPrinter, dir string) (err error) {
	switch {
	case !f.show && len(f.identities) > 0:
		return usage(errors.New("--identity goes with --payload"))
	case !f.show:
		return nil
	case p.format != formatTable && p.format != formatJSONL:
		return usage(fmt.Errorf("--payload goes with --format %s or %s", formatTable, formatJSONL)).
			hint("framegate audit export writes payloads in other formats")
	}
	p.payloads, err = openPayloads(dir, f.identities)
	return err
}

func openPayloads(dir string, identities []string) (*audit.Payloads, error) {
	p, err := audit.OpenPayloads(dir, identities...)
	if err != nil {
		return nil, usage(fmt.Errorf("--identity: %w", err)).
			hint("an identity that is encrypted with a passphrase has to be decrypted first: age -d")
	}
	return p, nil
}

// printPayload prints the payload of a record below its row: as a string of Go,
// which is one line of printable characters whatever the payload is.
func printPayload(w io.Writer, p *audit.Payloads, r *audit.Record) error {
	b, err := p.Of(r)
	var line string
	switch {
	case err == nil:
		line = "payload " + strconv.Quote(string(b))
	case r.PayloadOmitted != "":
		line = "payload omitted: " + printable(r.PayloadOmitted)
	case errors.Is(err, audit.ErrNoPayload) && r.Opcode == "":
		return nil
	default:
		line = printable(err.Error())
	}
	_, err = fmt.Fprintf(w, "    %s\n", line)
	return err
}
