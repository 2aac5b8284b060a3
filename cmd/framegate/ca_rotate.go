package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"framegate/ca"
)

// caNames are the flags of the name constraints.
type caNames struct{ permit, exclude []string }

func (n *caNames) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&n.permit, "permit-dns", nil, "`domain` that may be certified, with all below it, and no other; may be repeated")
	cmd.Flags().StringSliceVar(&n.exclude, "exclude-dns", nil, "`domain` that may not be certified; may be repeated")
}

// options puts what the flags say into o. A flag that was given as "" means none.
func (n *caNames) options(cmd *cobra.Command, o *ca.Options) {
	if cmd.Flags().Changed("permit-dns") {
		o.PermitDNS = append([]string{}, n.permit...)
	}
	if cmd.Flags().Changed("exclude-dns") {
		o.ExcludeDNS = append([]string{}, n.exclude...)
	}
}

func caRotate(g *globals, dir *string) *cobra.Command {
	var names caNames
	var rootKey, rootPassphrase string
	var root, activate, drop bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the intermediates, or bring in a new root",
		Long: `Replace the intermediates by new ones under the same root: devices need nothing.
This takes the root's key: root.key in the directory, or --root-key.

With --root, make a second root, with intermediates under it. Export has both from
then on; the old one stays in force until the devices have the new one and it is
activated, which exchanges the two. --drop ends the time of two roots.

A running gateway goes on with what it has until SIGHUP.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case (activate || drop) && !root:
				return usage(errors.New("--activate and --drop are about the second root: give --root, too"))
			case activate && drop:
				return usage(errors.New("--activate and --drop exclude each other"))
			case root && (rootKey != "" || rootPassphrase != ""):
				return usage(errors.New("--root makes a key of its own, it needs no --root-key"))
			}
			d, c, err := g.caDirConfig(cmd, *dir)
			if err != nil {
				return err
			}
			o := ca.Options{}
			names.options(cmd, &o)
			stderr := cmd.ErrOrStderr()
			switch {
			case activate:
				a, err := ca.Activate(d, o)
				return g.rotated(cmd, d, a, err, "this root is in force, the other waits; framegate ca rotate --root --drop ends that once no device lacks it")
			case drop:
				a, gone, err := ca.DropRoot(d, o)
				if err == nil {
					say(stderr, "dropped %s, sha-256 %s: take it off the devices", gone.Subject, ca.Fingerprint(gone))
				}
				return g.rotated(cmd, d, a, err, "this root is the only one")
			case root:
				o.Passphrase = c.passphraseOrAsk(cmd.Context())
				a, err := ca.NewRoot(d, o)
				return g.rotated(cmd, d, a, err, "two roots: install both on the devices (framegate ca export), then framegate ca rotate --root --activate")
			}
			o.Passphrase = rotatePassphrase(cmd.Context(), c.passphraseOrAsk(cmd.Context()), rootKey, rootPassphrase)
			a, err := ca.Rotate(d, o, rootKey)
			return g.rotated(cmd, d, a, err, "new intermediates under the same root; devices need nothing")
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&root, "root", false, "bring in a second root")
	flags.BoolVar(&activate, "activate", false, "with --root: exchange the root in force and the second one")
	flags.BoolVar(&drop, "drop", false, "with --root: remove the root that is not in force, and its keys")
	flags.StringVar(&rootKey, "root-key", "", "`file` of the root's key (default: root.key in the directory)")
	flags.StringVar(&rootPassphrase, "root-passphrase-file", "", "`file` of the passphrase of --root-key (default: asked for, if needed)")
	names.flags(cmd)
	return cmd
}

// rotatePassphrase opens the root's key that is kept elsewhere with a
// passphrase of its own, and everything else with that of the directory.
func rotatePassphrase(ctx context.Context, own passphrase, rootKey, file string) passphrase {
	return func(path string) ([]byte, error) {
		switch {
		case rootKey == "" || path != rootKey:
			return own(path)
		case file != "":
			return readPassphrase(file)
		}
		return ask(ctx, fmt.Sprintf("passphrase of %s: ", printable(path)))
	}
}

// rotated prints an authority after a change, and what comes next.
func (g *globals) rotated(cmd *cobra.Command, dir string, a *ca.Authority, err error, next string) error {
	if err != nil {
		return caFault(err)
	}
	if err := printAuthority(cmd.OutOrStdout(), a.Describe()); err != nil {
		return err
	}
	say(cmd.ErrOrStderr(), "%s", next)
	say(cmd.ErrOrStderr(), "hint: a gateway that runs takes it up with systemctl reload framegate, or kill -HUP")
	return nil
}

func caCSR(g *globals, dir *string) *cobra.Command {
	var kinds []string
	var encrypt bool
	cmd := &cobra.Command{
		Use:   "csr",
		Short: "Make keys, and print requests for an enterprise authority to sign",
		Long: `Make the keys of intermediates and print the requests (PKCS #10) that an enterprise
authority signs as subordinate authorities: CA, path length 0, for server
authentication. The keys wait in the directory for ca import; asked again, the same
requests are printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, c, err := g.caDirConfig(cmd, *dir)
			if err != nil {
				return err
			}
			var ask []ca.Kind
			for _, name := range kinds {
				switch name {
				case "ecdsa":
					ask = append(ask, ca.ECDSA)
				case "rsa":
					ask = append(ask, ca.RSA)
				default:
					return usage(fmt.Errorf("--key %q: expected ecdsa or rsa", name))
				}
			}
			if len(ask) == 0 {
				return usage(errors.New("--key: expected ecdsa, rsa or both"))
			}
			o := ca.Options{Passphrase: c.passphraseOrAsk(cmd.Context())}
			if err := c.encryptNew(cmd.Context(), &o, encrypt); err != nil {
				return err
			}
			out, err := ca.Request(d, o, ask...)
			if err != nil {
				return caFault(err)
			}
			if _, err := cmd.OutOrStdout().Write(out); err != nil {
				return err
			}
			say(cmd.ErrOrStderr(), "hint: have each signed as a subordinate authority, then framegate ca import%s FILE... with the certificates up to the root", dirFlag(d))
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&kinds, "key", []string{"ecdsa", "rsa"}, "`algorithm`: ecdsa, rsa; without rsa, clients that know nothing else are refused")
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt the keys with a passphrase that is asked for (default: if ca.passphrase_file is set, with that)")
	return cmd
}

func caImport(g *globals, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE...",
		Short: "Take the certificates that an enterprise authority signed",
		Long: `Take the certificates for the requests of ca csr, with those between them and the
root, and the root itself: PEM, or DER, one or more in any number of files. All is
checked before anything changes. Beside another root that is in force, the new one
waits for ca rotate --root --activate.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, c, err := g.caDirConfig(cmd, *dir)
			if err != nil {
				return err
			}
			var certs []*x509.Certificate
			for _, name := range args {
				found, err := readCertificates(name)
				if err != nil {
					return usage(err).hint("for a .p7b: openssl pkcs7 -print_certs -in FILE -out chain.pem")
				}
				certs = append(certs, found...)
			}
			a, err := ca.Import(d, ca.Options{Passphrase: c.passphraseOrAsk(cmd.Context())}, certs)
			next := "the authority issues under this root: devices have to trust it"
			if err == nil && len(a.Roots()) > 1 {
				next = "two roots: once the devices trust both, framegate ca rotate --root --activate"
			}
			return g.rotated(cmd, d, a, err, next)
		},
	}
}

func readCertificates(name string) ([]*x509.Certificate, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, err
	}
	certs, err := ca.ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Clean(name), err)
	}
	return certs, nil
}

// caFault is an error of a ca command: whatever it is, nothing was changed.
func caFault(err error) error {
	var e *exitError
	if err = mendable(err); err == nil || errors.As(err, &e) {
		return err
	}
	return usage(err)
}

// dirFlag is --dir for a command in a hint, where that is needed.
func dirFlag(dir string) string {
	if dir == defaultConfig().CA.Dir {
		return ""
	}
	return " --dir " + dir
}
