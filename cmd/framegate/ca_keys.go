package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"framegate/ca"
)

// credential is the name under which systemd hands over the passphrase of the
// authority: LoadCredential=, LoadCredentialEncrypted= (systemd.exec(5)).
const credential = "framegate-ca"

// A passphrase opens keys of the authority; the path is that of the key.
type passphrase func(path string) ([]byte, error)

// caPassphrase returns what opens the keys while nobody is there to ask:
// ca.passphrase_file, or else the credential of systemd. The file is read when
// an encrypted key is met, so that a reload finds a new one.
func (c *config) caPassphrase() passphrase {
	return func(path string) ([]byte, error) {
		name, ok := c.passphraseFile()
		if !ok {
			return nil, noPassphrase(path)
		}
		return readPassphrase(name)
	}
}

func (c *config) passphraseFile() (name string, ok bool) {
	if c.CA.PassphraseFile != "" {
		return c.CA.PassphraseFile, true
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		name := filepath.Join(dir, credential)
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return name, true
		}
	}
	return "", false
}

func noPassphrase(path string) error {
	return &ca.Error{
		Path:    path,
		Problem: "encrypted, and there is no passphrase",
		Hint:    "set ca.passphrase_file, or LoadCredential=" + credential + ":FILE in the unit",
	}
}

// passphraseOrAsk is caPassphrase for a command: without a file it asks on the
// terminal, once.
func (c *config) passphraseOrAsk(ctx context.Context) passphrase {
	if _, ok := c.passphraseFile(); ok {
		return c.caPassphrase()
	}
	var known []byte
	return func(path string) (_ []byte, err error) {
		if known == nil {
			known, err = ask(ctx, fmt.Sprintf("passphrase of %s: ", printable(path)))
		}
		return known, err
	}
}

// newPassphrase is for keys that are to be encrypted: asked for twice.
func (c *config) newPassphrase(ctx context.Context) ([]byte, error) {
	if name, ok := c.passphraseFile(); ok {
		return readPassphrase(name)
	}
	first, err := ask(ctx, "new passphrase: ")
	if err != nil {
		return nil, err
	}
	second, err := ask(ctx, "the same again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, usage(errors.New("the two passphrases differ"))
	}
	return first, nil
}

// encryptNew has new keys encrypted, if asked for or if there is a passphrase
// that nobody has to be asked for.
func (c *config) encryptNew(ctx context.Context, o *ca.Options, asked bool) error {
	_, configured := c.passphraseFile()
	if o.Encrypt = asked || configured; !o.Encrypt {
		return nil
	}
	phrase, err := c.newPassphrase(ctx)
	if err != nil {
		return caFault(err)
	}
	o.Passphrase = func(string) ([]byte, error) { return phrase, nil }
	return nil
}

// readPassphrase reads the one line of a file that only its owner reads. The
// file of a credential of systemd may be 0440: the group's bits of a file with
// an access list are the mask of that list, and its directory is closed.
func readPassphrase(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usage(fmt.Errorf("passphrase: %w", err)).hint("ca.passphrase_file or the credential %s of the unit names it", credential)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	lax := info.Mode().Perm() & 0o077
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(name) == filepath.Clean(dir) {
		lax &^= 0o040
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, usage(fmt.Errorf("passphrase: %s: not a regular file", name))
	case lax != 0:
		return nil, usage(fmt.Errorf("passphrase: %s: mode %04o, must be 0600 or stricter", name, info.Mode().Perm())).hint("chmod 600 %s", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return nil, err
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return nil, usage(fmt.Errorf("passphrase: %s: expected one line that is not empty", name))
	}
	return []byte(line), nil
}

// ask asks for a passphrase on the terminal and does not show it.
func ask(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, usage(errors.New("a passphrase is needed, and there is no terminal to ask on")).
			hint("set ca.passphrase_file")
	}
	defer tty.Close()
	line, err := readHidden(ctx, tty, prompt)
	if err != nil {
		return nil, failed(fmt.Errorf("passphrase: %w", err))
	}
	if len(line) == 0 {
		return nil, usage(errors.New("no passphrase was given"))
	}
	return line, nil
}

func caEncrypt(g *globals, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "encrypt",
		Short: "Encrypt the keys in the directory with a passphrase",
		Long: "Encrypt the keys in the directory, with the passphrase in ca.passphrase_file or one that\n" +
			"is asked for. Each becomes a file that age -d opens. To change the passphrase, decrypt first.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, c, err := g.caDirConfig(cmd, *dir)
			if err != nil {
				return err
			}
			a, err := ca.Load(d, ca.Options{})
			if err != nil {
				return caFault(err)
			}
			for _, is := range a.Describe() {
				if is.KeyState == "encrypted" {
					return usage(fmt.Errorf("%s is encrypted already", is.KeyPath)).
						hint("framegate ca decrypt%s, and then encrypt with a new passphrase", dirFlag(d))
				}
			}
			phrase, err := c.newPassphrase(cmd.Context())
			if err != nil {
				return caFault(err)
			}
			if _, err := ca.Reseal(d, ca.Options{}, phrase); err != nil {
				return caFault(err)
			}
			stderr := cmd.ErrOrStderr()
			say(stderr, "the keys in %s are encrypted", d)
			say(stderr, "hint: the gateway needs the passphrase: ca.passphrase_file, or LoadCredential=%s:FILE in its unit", credential)
			return nil
		},
	}
}

func caDecrypt(g *globals, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "decrypt",
		Short: "Leave the keys in the directory in the clear",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, c, err := g.caDirConfig(cmd, *dir)
			if err != nil {
				return err
			}
			if _, err := ca.Reseal(d, ca.Options{Passphrase: c.passphraseOrAsk(cmd.Context())}, nil); err != nil {
				return caFault(err)
			}
			say(cmd.ErrOrStderr(), "the keys in %s are in the clear, readable by their owner", d)
			return nil
		},
	}
}
