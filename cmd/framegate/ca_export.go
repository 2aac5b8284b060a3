package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"framegate/ca/bundle"
)

// exportFlags are those of ca export.
type exportFlags struct {
	target string // kind of device
	out    string // directory; "": framegate-TARGET
	force  bool
	json   bool
}

func caExport(g *globals, dir *string) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the root certificate as PEM, or write the bundle for a kind of device",
		Long: `Print the root certificate as PEM. With --for, write what the administrator of
such devices needs instead: certificate files, scripts, profiles or policies that
install and uninstall them, and a README.txt that tells how. There is no secret
in it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bundled := cmd.Flags().Changed("for")
			for _, name := range []string{"out", "force", "json"} {
				if cmd.Flags().Changed(name) && !bundled {
					return usage(fmt.Errorf("--%s is of use with --for only", name))
				}
			}
			a, err := g.authority(cmd, *dir)
			if err != nil {
				return err
			}
			roots := a.Roots()
			if bundled {
				return exportBundle(cmd, f, roots)
			}
			for _, c := range roots {
				if err := pem.Encode(cmd.OutOrStdout(), &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
					return err
				}
			}
			return nil
		},
	}
	platforms := strings.Join(bundle.Platforms(), "|")
	cmd.Flags().StringVar(&f.target, "for", "", "kind of `device`: "+platforms)
	cmd.Flags().StringVar(&f.out, "out", "", "`directory` for the bundle (default: framegate-DEVICE)")
	cmd.Flags().BoolVar(&f.force, "force", false, "overwrite files that differ")
	cmd.Flags().BoolVar(&f.json, "json", false, "print what was written as JSON")
	cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(bundle.Platforms(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func exportBundle(cmd *cobra.Command, f exportFlags, roots []*x509.Certificate) error {
	files, err := bundle.For(f.target, roots)
	var unknown *bundle.UnknownPlatformError
	if errors.As(err, &unknown) {
		return usage(err)
	}
	if err != nil {
		return err
	}
	out := f.out
	if out == "" {
		out = "framegate-" + f.target
	}
	written, err := writeBundle(out, files, f.force)
	if err != nil {
		return err
	}
	if err := printBundle(cmd.OutOrStdout(), written, f.json); err != nil {
		return err
	}
	if !f.json {
		say(cmd.ErrOrStderr(), "hint: read %s; compare the fingerprint in it with framegate ca show", filepath.Join(out, "README.txt"))
	}
	return nil
}

// A writtenFile is one file of a bundle on disk.
type writtenFile struct {
	Path    string `json:"path"`
	Size    int    `json:"size"`
	Written bool   `json:"written"` // false: it was there already, and the same
}

// writeBundle writes files into dir, each at once or not at all. It changes
// nothing if one of them would overwrite something else, unless force is set.
func writeBundle(dir string, files []bundle.File, force bool) ([]writtenFile, error) {
	var list []writtenFile
	for _, f := range files {
		w := writtenFile{Path: filepath.Join(dir, f.Name), Size: len(f.Data)}
		same, err := holds(w.Path, f)
		if err != nil {
			return nil, usage(err)
		}
		if !same && !force {
			if _, err := os.Lstat(w.Path); err == nil {
				return nil, usage(fmt.Errorf("%s exists and differs; nothing was written", w.Path)).
					hint("--force overwrites it, --out names another directory")
			}
		}
		w.Written = !same
		list = append(list, w)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, usage(err)
	}
	for i, w := range list {
		if !w.Written {
			continue
		}
		if err := writeAtOnce(w.Path, files[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// holds reports whether path is f already, mode included.
func holds(path string, f bundle.File) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return false, fmt.Errorf("%s is a directory", path)
	}
	if !info.Mode().IsRegular() || info.Size() != int64(len(f.Data)) {
		return false, nil
	}
	data, err := os.ReadFile(path)
	return err == nil && bytes.Equal(data, f.Data) && info.Mode().Perm() == f.Mode, err
}

// writeAtOnce replaces path by a file that was written beside it.
func writeAtOnce(path string, f bundle.File) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".framegate-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // what is left after a failure
	_, err = tmp.Write(f.Data)
	if err == nil {
		err = tmp.Chmod(f.Mode)
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return err
}

func printBundle(w io.Writer, list []writtenFile, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(list)
	}
	for _, f := range list {
		if _, err := fmt.Fprintln(w, printable(f.Path)); err != nil {
			return err
		}
	}
	return nil
}
