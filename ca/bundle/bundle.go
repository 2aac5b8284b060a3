// Package bundle renders what an endpoint administrator needs to make a kind of
// device trust the root certificates of the authority: the certificates in the
// form that the platform takes, its policy or profile files, scripts that
// install and uninstall, and a README.txt that says how to do it, how to check it
// and how to undo it.
//
// A bundle holds certificates and never a key. It is rendered, not written: the
// command line writes it into a directory, a page may offer it file by file.
// The same roots give the same bytes, so that a bundle can be compared with one
// that was made before.
//
// Every name that a bundle leaves on a device, of a file, an alias or a profile,
// comes from the SHA-256 of the certificate it stands for. While two roots
// overlap, the bundle of both installs both, and the one that was made for the
// old root takes away the old one only.
//
// The text of each platform is below templates/; where a statement about a
// platform is not obvious, its source stands there.
package bundle

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"
)

// A File is one file of a bundle.
type File struct {
	Name string      // without directories
	Mode fs.FileMode // 0644, or 0755 for a script
	Data []byte
}

// A platform is what its bundle has besides the rendered templates/name/*.
type platform struct {
	name  string
	files func([]root) []File
}

// platforms are in the order in which people are told of them.
var platforms = []platform{
	{"windows", ders},
	{"macos", func(r []root) []File { return append(ders(r), profile(r, "System")) }},
	{"ios", func(r []root) []File { return []File{profile(r, "")} }},
	{"android", func(r []root) []File { return slices.Concat(pems(r), hashed(r), []File{androidPolicy(r)}) }},
	{"chromeos", func(r []root) []File { return append(pems(r), onc(r)) }},
	{"linux", func(r []root) []File { return append(pems(r), chromePolicy(r)) }},
	{"firefox", func(r []root) []File { return append(pems(r), firefoxPolicy(r)) }},
	{"java", pems},
	{"node", allPEM},
	{"python", allPEM},
	{"docker", pems},
}

// Platforms returns the names that [For] knows.
func Platforms() []string {
	list := make([]string, len(platforms))
	for i, p := range platforms {
		list[i] = p.name
	}
	return list
}

// An UnknownPlatformError says that there is no bundle of this name.
type UnknownPlatformError struct{ Name string }

func (e *UnknownPlatformError) Error() string {
	return fmt.Sprintf("no bundle for %q, only for %s", e.Name, strings.Join(Platforms(), ", "))
}

var errNoRoots = errors.New("bundle: no root certificates")

// For renders the bundle of a platform, README.txt first. roots are those that
// a device should trust: one, or during an overlap both. The error is a
// *[UnknownPlatformError], or it says what is wrong with the roots.
func For(platform string, roots []*x509.Certificate) ([]File, error) {
	for _, p := range platforms {
		if p.name != platform {
			continue
		}
		list, err := rootsOf(roots)
		if err != nil {
			return nil, err
		}
		files, err := render(p.name, list)
		return append(files, p.files(list)...), err
	}
	return nil, &UnknownPlatformError{platform}
}

//go:embed templates
var sources embed.FS

// render returns the files of templates/name. templates/shared.txt defines what
// several of them have in common.
func render(name string, roots []root) ([]File, error) {
	dir := path.Join("templates", name)
	entries, err := fs.ReadDir(sources, dir)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		t, err := template.New(e.Name()).Funcs(template.FuncMap{"names": names}).ParseFS(sources, "templates/shared.txt", path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		var text bytes.Buffer
		if err := t.Execute(&text, struct {
			Roots     []root
			AllSHA256 string // of framegate-roots.pem
			Sh        string // the name of the script itself
		}{roots, fmt.Sprintf("%x", sha256.Sum256(allPEM(roots)[0].Data)), e.Name()}); err != nil {
			return nil, err
		}
		mode := fs.FileMode(0o644)
		if bytes.HasPrefix(text.Bytes(), []byte("#!")) {
			mode = 0o755
		}
		files = append(files, File{e.Name(), mode, text.Bytes()})
	}
	return files, nil
}

// names joins the names of certificate files for a sentence.
func names(roots []root, extension string) string {
	list := make([]string, len(roots))
	for i, r := range roots {
		list[i] = r.Name + extension
	}
	return strings.Join(list, " and ")
}
